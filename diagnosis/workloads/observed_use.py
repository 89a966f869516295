"""What the containers of a workload were measured to use, and the requests that follow: the peak and a quarter more.

Sources: cAdvisor's `container_memory_working_set_bytes` and the growth of `container_cpu_usage_seconds_total`. Measured
are pods of the workload that are there, and earlier ones, told by the name of one of its ReplicaSets or by an ordinal.
A short look suggests nothing: what a program needs is seen over a while.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from diagnosis.workloads.contract import Claim
from diagnosis.workloads.fields import Object, objects, pick, quantity, text
from diagnosis.workloads.metrics import Series
from diagnosis.workloads.scope import Scope
from incidents.models import Fact, ObjectRef, Severity

MEMORY = "container_memory_working_set_bytes"
CPU = "container_cpu_usage_seconds_total"
HEADROOM = 1.25
LIMIT_HEADROOM = 2.0
"""Of a limit over the peak: to reach it ends a program (memory) or slows it down (cpu)."""

_FEWEST_POINTS = 8
_SHORTEST = timedelta(minutes=10)
_MEBI = 1 << 20
_LEAST = {"memory": 16.0 * _MEBI, "cpu": 0.01}
_METRICS = {"memory": MEMORY, "cpu": CPU}
_ORDINAL = re.compile(r"-\d{1,5}$")
_POD_SUFFIX = re.compile(r"-[a-z0-9]{5}$")


@dataclass(frozen=True)
class Use:
    """The highest measured use of one container over all measured pods: bytes or cores. `series` is where it peaked."""

    resource: str
    peak: float
    since: datetime
    until: datetime
    series: Series

    @property
    def words(self) -> str:
        """In words, for a fixer's `suggested_from`."""
        minutes = round((self.until - self.since).total_seconds() / 60)
        return f"the most that was measured in {minutes} minutes was {amount(self.resource, self.peak)}"

    def claim(self, container: str, now: datetime) -> Claim:
        what = "memory" if self.resource == "memory" else "CPU"
        said = f"Container {container} was measured to use at most {amount(self.resource, self.peak)} of {what}"
        return Claim(said, [self.series.evidence(now)], Severity.INFO)


def amount(resource: str, value: float) -> str:
    """An amount as a quantity, rounded up: memory in Mi, cpu in millicores."""
    return f"{math.ceil(value / _MEBI)}Mi" if resource == "memory" else f"{math.ceil(round(value * 1000, 3))}m"


def use_of(scope: Scope, owner: ObjectRef, container: str, resource: str) -> Use | None:
    """The use of a workload's container of "memory" or "cpu"; None when it was not measured for long enough."""
    metric = _METRICS.get(resource)
    if metric is None or not scope.snapshot.series:
        return None
    found = scope.snapshot.series.find(metric, namespace=owner.namespace or "", container=container)
    own = _Pods(scope, owner)
    peaks = []
    for series in found:
        if not own(series.about("pod")):
            continue
        points = series.points if resource == "memory" else list(_rates(series.points))
        if len(points) >= _FEWEST_POINTS and points[-1][0] - points[0][0] >= _SHORTEST:
            peaks.append((max(value for _, value in points), points[0][0], points[-1][0], series))
    if not peaks:
        return None
    peak, _, _, series = max(peaks, key=lambda entry: entry[0])
    if peak <= 0:
        return None
    return Use(resource, peak, min(entry[1] for entry in peaks), max(entry[2] for entry in peaks), series)


class _Pods:
    """Whether a pod of this name is, or was, one of a workload."""

    def __init__(self, scope: Scope, owner: ObjectRef) -> None:
        self._present = {text(pod, "metadata", "name") for pod in scope.snapshot.pods_of(owner)}
        item = scope.snapshot.get(owner.kind, owner.namespace, owner.name)
        made = scope.snapshot.owned_by(item, "ReplicaSet") if item is not None else []
        self._sets = {text(replica_set, "metadata", "name") for replica_set in made}
        self._stateful = owner.name if owner.kind == "StatefulSet" else ""

    def __call__(self, name: str) -> bool:
        if name in self._present:
            return True
        if self._stateful:
            return bool(_ORDINAL.search(name)) and _ORDINAL.sub("", name) == self._stateful
        return bool(_POD_SUFFIX.search(name)) and _POD_SUFFIX.sub("", name) in self._sets


def _rates(points: list[tuple[datetime, float]]) -> Iterator[tuple[datetime, float]]:
    """The growth of a counter a second. What was used around a restart is not known: the counter began anew."""
    for (before, earlier), (at, later) in pairwise(points):
        seconds = (at - before).total_seconds()
        if seconds > 0 and later >= earlier:
            yield at, (later - earlier) / seconds


@dataclass(frozen=True)
class Advice:
    """Amounts for one container that follow from its use: facts for a fixer (`suggested_…`), and the measurements."""

    container: str
    facts: dict[str, Fact]
    claims: list[Claim]


def smaller_request(scope: Scope, owner: ObjectRef, pod: Object, resource: str, room: float) -> Advice | None:
    """A request for the container that asks for most, so that a pod (or template) asks for no more than `room`; None
    where its use was not measured or would not fit either."""
    asked = {
        text(container, "name"): quantity(pick(container, "resources", "requests", resource)) or 0.0
        for container in objects(pod, "spec", "containers")
    }
    largest = max(asked, key=lambda name: asked[name], default="")
    use = use_of(scope, owner, largest, resource) if largest and asked[largest] > 0 else None
    if use is None:
        return None
    wanted = max(use.peak * HEADROOM, _LEAST[resource], _minimum(scope, owner.namespace or "", resource))
    if wanted >= asked[largest] or sum(asked.values()) - asked[largest] + wanted > room:
        return None
    facts: dict[str, Fact] = {
        f"{resource}_request": amount(resource, asked[largest]),
        f"suggested_{resource}_request": amount(resource, wanted),
        "suggested_from": f"{use.words}, and a quarter more",
    }
    return Advice(largest, facts, [use.claim(largest, scope.snapshot.observed_at)])


def stated_amounts(scope: Scope, owner: ObjectRef, pod: Object, demanded: Collection[tuple[str, str]]) -> Advice | None:
    """Amounts for the one container that does not state what is demanded, as ("requests" or "limits", resource); None
    where several lack it or its use was not measured."""
    lacking = [
        (text(container, "name"), part, resource)
        for container in objects(pod, "spec", "containers")
        for part, resource in demanded
        if not pick(container, "resources", part, resource)
        and not (part == "requests" and pick(container, "resources", "limits", resource))  # the API server's default
    ]
    if not lacking or len({name for name, _, _ in lacking}) != 1:
        return None
    name, facts, claims = lacking[0][0], dict[str, Fact](), dict[str, Claim]()
    for _, part, resource in lacking:
        use = use_of(scope, owner, name, resource)
        if use is None:
            return None
        factor = HEADROOM if part == "requests" else LIMIT_HEADROOM
        wanted = max(use.peak * factor, _LEAST[resource], _minimum(scope, owner.namespace or "", resource))
        facts[f"suggested_{resource}_{part.rstrip('s')}"] = amount(resource, wanted)
        claims[resource] = use.claim(name, scope.snapshot.observed_at)
    said = "; ".join(dict.fromkeys(claim.text for claim in claims.values()))
    facts["suggested_from"] = f"{said}; a request is a quarter more, a limit twice as much"
    return Advice(name, facts, list(claims.values()))


def _minimum(scope: Scope, namespace: str, resource: str) -> float:
    """The least that a LimitRange lets a container ask for."""
    found = [
        value
        for item in scope.snapshot.all("LimitRange", namespace)
        for rule in objects(item, "spec", "limits")
        if text(rule, "type") == "Container" and (value := quantity(text(rule, "min", resource))) is not None
    ]
    return max(found, default=0.0)
