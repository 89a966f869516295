"""What the arguments of the tools share."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from errors import Refused

Kind = Literal[
    "Pod",
    "Service",
    "Endpoints",
    "EndpointSlice",
    "ConfigMap",
    "PersistentVolumeClaim",
    "ServiceAccount",
    "ResourceQuota",
    "LimitRange",
    "Node",
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "ReplicaSet",
    "Job",
    "CronJob",
    "Ingress",
    "NetworkPolicy",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
]
Workload = Literal["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob", "Pod"]
NAME = Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")
MAX_ROWS = 60


class Args(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def within(namespaces: Collection[str], namespace: str | None) -> str:
    """The namespace, when it is one of those that may be read. Raises Refused."""
    if namespace is None or namespace not in namespaces:
        raise Refused(f"only these namespaces may be read: {', '.join(sorted(namespaces))}")
    return namespace


def last(text: str, limit: int = 3900) -> str:
    """The end of a text: a log says there how it ended, and the cut of long texts must not take that."""
    return text if len(text) <= limit else "…" + text[-limit:]
