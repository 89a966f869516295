"""Which pods are instances of a software, and how many crashes of one are a storm."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from settings.section import Section


class InstanceRule(Section):
    """Which pods are instances of a software. See diagnosis/workloads/instances.py for how a rule is read."""

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    labels: dict[str, str] = Field(min_length=1, description="All must be there, on the pod or on its workload")
    name_from: list[str] = Field(
        default_factory=list,
        description="Labels, or annotations of the workload, that name the instance; the first that is there",
    )
    version_from: list[str] = Field(default_factory=list, description="Likewise its version; else the image's tag")


def milvus() -> list[InstanceRule]:
    version = ["app.kubernetes.io/version"]
    return [
        InstanceRule(
            name="milvus-operator",
            labels={"app.kubernetes.io/name": "milvus", "app.kubernetes.io/managed-by": "milvus-operator"},
            name_from=["app.kubernetes.io/instance", "milvus.io/instance"],
            version_from=version,
        ),
        InstanceRule(
            name="milvus-helm",
            labels={"app.kubernetes.io/name": "milvus"},
            name_from=["app.kubernetes.io/instance", "helm.sh/release", "meta.helm.sh/release-name"],
            version_from=version,
        ),
    ]


class PolicySettings(Section):
    """Crash storms: more than so many crashes of one instance (or of a workload that is in none) within a window."""

    mode: Literal["propose", "dry-run", "off"] = Field(
        default="off",
        description="propose: ask people for approval to stop the storm; dry-run: only say what would be asked for; "
        "off: crashes are not counted. Nothing is ever done without an approval",
    )
    crash_classes: list[Literal["crash_signal", "exit_code", "oom_killed", "not_started"]] = Field(
        default=["crash_signal", "exit_code", "oom_killed"],
        description="Which ends of a container count; kills by probes, evictions and stops never do",
    )
    threshold: int = Field(default=5, ge=1, description="More crashes than this are a storm")
    window_seconds: float = Field(default=3600.0, ge=60, le=604_800, description="The last so many seconds count")
    scan_seconds: float = Field(default=30.0, ge=1, description="How often the pods are looked at")
    namespaces: list[str] = Field(default_factory=list, description="Where; empty: everywhere")
