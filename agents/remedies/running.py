"""What a container is given to run with: probes, memory, CPU."""

from __future__ import annotations

from agents.remedies.remedy import WORKLOADS, Offers, Remedy, bare, because, words
from incidents.actions import ChangeProbe, ChangeResources, ProbeKind
from incidents.models import Cause, CauseClass

_PROBES = {
    CauseClass.WRONG_LIVENESS_PROBE: ProbeKind.LIVENESS,
    CauseClass.WRONG_READINESS_PROBE: ProbeKind.READINESS,
    CauseClass.WRONG_STARTUP_PROBE: ProbeKind.STARTUP,
}
_TIMINGS = ("initial_delay_seconds", "timeout_seconds", "period_seconds", "failure_threshold")
_AMOUNTS = ("memory_limit", "memory_request", "cpu_limit", "cpu_request")


def _probe(cause: Cause) -> list[Remedy]:
    facts, container, probe = cause.facts, cause.object.container, _PROBES[cause.cause_class]
    field_name, suggested = facts.get("field"), facts.get("suggested")
    change: dict[str, object] = {}
    if field_name == "timing":
        change = {name: facts[f"suggested_{name}"] for name in _TIMINGS if facts.get(f"suggested_{name}") is not None}
    elif field_name in ("port", "path", "scheme") and suggested is not None:
        change = {str(field_name): suggested}
    if not change or container is None:
        return []
    action = ChangeProbe.model_validate(
        {"target": bare(cause.object), "container": container, "probe": probe, **change}
    )
    said = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in change.items())
    return [Remedy(f"Set the {probe.value} probe of {container} to {said}", because(cause), action=action)]


def _resources(cause: Cause) -> list[Remedy]:
    """The suggested amounts; the gate compares them with limit ranges, quotas and the nodes."""
    container = cause.object.container
    change = {name: value for name in _AMOUNTS if (value := words(cause, f"suggested_{name}"))}
    if container is None or not change or cause.object.kind not in WORKLOADS:
        return []
    said = []
    for name, value in change.items():
        before = words(cause, name)
        said.append(f"{name.replace('_', ' ')} of {container}{f' from {before}' if before else ''} to {value}")
    action = ChangeResources.model_validate({"target": bare(cause.object), "container": container, **change})
    return [Remedy(f"Set the {' and the '.join(said)}", because(cause), action=action)]


OFFERS: dict[CauseClass, Offers] = {
    **dict.fromkeys(_PROBES, _probe),
    CauseClass.OOM_KILLED: _resources,
    CauseClass.CPU_THROTTLED: _resources,
    CauseClass.INSUFFICIENT_RESOURCES: _resources,
    CauseClass.LIMIT_RANGE_VIOLATED: _resources,
    CauseClass.QUOTA_EXCEEDED: _resources,
    CauseClass.EVICTED: _resources,
}
