"""KEDA's metrics-api scaler and what the autoscaler makes of its number, as strict as KEDA is.

https://keda.sh/docs/latest/scalers/metrics-api/ and https://keda.sh/docs/latest/reference/scaledobject-spec/: the value
is a number at a GJSON path of a 200 answer that came within three seconds; anything else is a failure, which counts
towards the fallback.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import httpx

HTTP_TIMEOUT = 3.0
"""KEDA_HTTP_DEFAULT_TIMEOUT."""
TOLERANCE = 0.1
"""Of the autoscaler: a smaller difference changes nothing."""
_KNOWN = {
    "url", "valueLocation", "targetValue", "activationTargetValue", "format", "unsafeSsl", "authMode", "method",
    "keyParamName", "aggregateFromKubeServiceEndpoints", "aggregationType",
}  # fmt: skip


class Refused(Exception):
    """KEDA's operator takes no such ScaledObject."""


@dataclass
class Scaler:
    """Of one ScaledObject with one metrics-api trigger. `parameters` are those of its TriggerAuthentication; `base`
    stands for the host of its URL."""

    spec: dict[str, Any]
    parameters: dict[str, str]
    base: str
    replicas: int = 1
    failures: int = 0
    metadata: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        (trigger,) = self.spec["triggers"]
        self.metadata = trigger["metadata"]
        if trigger["type"] != "metrics-api" or not set(self.metadata) <= _KNOWN:
            raise Refused(f"{trigger['type']}: {sorted(set(self.metadata) - _KNOWN)}")
        if wrong := [key for key, value in self.metadata.items() if not isinstance(value, str)]:
            raise Refused(f"metadata are text: {wrong}")
        if not all(self.metadata.get(key) for key in ("url", "valueLocation", "targetValue")):
            raise Refused("url, valueLocation and targetValue are needed")
        if self.target <= 0:
            raise Refused("targetValue must be above 0")
        if self.metadata.get("authMode") == "bearer" and not self.parameters.get("token"):
            raise Refused("no token provided")
        if "fallback" in self.spec:
            if trigger.get("metricType", "AverageValue") != "AverageValue":
                raise Refused("a fallback needs the metric type AverageValue")
            if self.spec["fallback"]["failureThreshold"] < 0 or self.spec["fallback"]["replicas"] < 0:
                raise Refused("fallback")
        if self.least > self.most:
            raise Refused("minReplicaCount is above maxReplicaCount")

    @property
    def target(self) -> float:
        return float(self.metadata["targetValue"])

    @property
    def least(self) -> int:
        return int(self.spec.get("minReplicaCount", 0))

    @property
    def most(self) -> int:
        return int(self.spec.get("maxReplicaCount", 100))

    async def poll(self) -> int:
        """Ask once, and scale."""
        try:
            value = await self._value()
        except (httpx.HTTPError, ValueError):
            self.failures += 1
            fallback = self.spec.get("fallback")
            if fallback is None or self.failures <= fallback["failureThreshold"]:
                return self.replicas  # no metric: the autoscaler leaves everything as it is
            value = fallback["replicas"] * self.target
        else:
            self.failures = 0
        wanted = math.ceil(value / self.target)
        if value <= float(self.metadata.get("activationTargetValue", "0")):
            wanted = 0
        elif self.replicas and abs(1 - value / (self.target * self.replicas)) <= TOLERANCE:
            wanted = self.replicas
        self.replicas = min(max(wanted, self.least), self.most)
        return self.replicas

    async def _value(self) -> float:
        url = httpx.URL(self.metadata["url"])
        headers = {"Authorization": f"Bearer {self.parameters['token']}"} if "authMode" in self.metadata else {}
        async with httpx.AsyncClient(base_url=self.base, timeout=HTTP_TIMEOUT, trust_env=False) as client:
            answer = await client.get(url.raw_path.decode(), headers=headers)
        if answer.status_code != 200:
            raise ValueError(f"api returned {answer.status_code}")
        found: Any = answer.json()
        for key in self.metadata["valueLocation"].split("."):
            if not isinstance(found, dict) or key not in found:
                raise ValueError("valueLocation must point to value of type number or a string representing a quantity")
            found = found[key]
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise ValueError(f"valueLocation must point to value of type number, got {type(found).__name__}")
        return float(found)
