"""Which action, if any, answers which cause. The order is the order of trial; rules only, no model.

A bug in the program's own code is never answered by a change of configuration: the earlier revision that ran is, or a
report to its owners. A missing value (the right image, the missing key) is asked for, never invented.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from diagnosis.merge import CODE_FAULTS
from incidents.models import Cause, CauseClass, Diagnosis, ObjectRef
from incidents.plan import (
    Action,
    ChangeProbe,
    ChangeResources,
    HelmRollbackAction,
    HelmUninstallAction,
    ProbeKind,
    Proposal,
    RollbackRevision,
)
from tools.helm.client import Revision

MIN_CONFIDENCE = 0.5
"""Below this a cause is told, not acted upon."""

_PROBES = {
    CauseClass.WRONG_LIVENESS_PROBE: ProbeKind.LIVENESS,
    CauseClass.WRONG_READINESS_PROBE: ProbeKind.READINESS,
    CauseClass.WRONG_STARTUP_PROBE: ProbeKind.STARTUP,
}

_ROLLBACK_HELPS = CODE_FAULTS | {
    CauseClass.BAD_ROLLOUT,
    CauseClass.BAD_IMAGE,
    CauseClass.BAD_COMMAND,
    CauseClass.MISSING_CONFIG_MAP,
    CauseClass.MISSING_CONFIG_KEY,
    CauseClass.MISSING_SECRET,
    CauseClass.APPLICATION_ERROR,
}
"""Causes that a pod template can bring in, so that the template before can take them out."""

_ASK = {
    CauseClass.BAD_IMAGE: "Which image should run? The registry does not have the one that is named",
    CauseClass.MISSING_PULL_SECRET: "Create the pull secret, or name one that exists",
    CauseClass.MISSING_CONFIG_MAP: "Create the ConfigMap that the pod refers to",
    CauseClass.MISSING_CONFIG_KEY: "Add the missing key, or correct the reference",
    CauseClass.MISSING_SECRET: "Create the Secret that the pod refers to",
    CauseClass.BAD_COMMAND: "Correct the command: the image has no such program",
    CauseClass.UNSCHEDULABLE: "Make room, or change what the pod asks of a node",
    CauseClass.QUOTA_EXCEEDED: "Raise the quota, or ask for less",
    CauseClass.DEPENDENCY_UNAVAILABLE: "Look at the dependency first; this workload is its victim",
    CauseClass.OOM_KILLED: "Find out what the container needs; nothing observed says how much",
}


@dataclass(frozen=True)
class Remedy:
    """One thing to try: an action for the gate, or (without one) a proposal for people."""

    title: str
    reason: str
    action: Action | None = None
    steps: list[str] = field(default_factory=list)

    def proposal(self) -> Proposal:
        return Proposal(title=self.title, reason=self.reason, steps=self.steps)


HelmHistories = Mapping[tuple[str, str], Sequence[Revision]]


def remedies(diagnosis: Diagnosis, histories: HelmHistories) -> list[Remedy]:
    """What answers the first-ranked cause, best first."""
    if not diagnosis.causes or diagnosis.causes[0].confidence < MIN_CONFIDENCE:
        return []
    cause = diagnosis.causes[0]
    found = [*_helm(cause, histories)] or [*_direct(cause), *_rollback(cause)]
    if cause.cause_class in CODE_FAULTS:
        found.append(_report_to_owners(cause, diagnosis))
    elif not any(remedy.action for remedy in found):
        title = _ASK.get(cause.cause_class, "A person has to look")
        found.append(Remedy(title=title, reason=cause.summary, steps=diagnosis.next_steps))
    return found


def _direct(cause: Cause) -> list[Remedy]:
    facts = cause.facts
    container = cause.object.container
    if container is None:
        return []
    if cause.cause_class in _PROBES:
        return _probe(cause, _PROBES[cause.cause_class], container)
    limit = facts.get("suggested_memory_limit")
    if cause.cause_class is CauseClass.OOM_KILLED and isinstance(limit, str):
        action = ChangeResources(target=_workload(cause.object), container=container, memory_limit=limit)
        return [
            Remedy(
                title=f"Raise the memory limit of {container} from {facts.get('memory_limit')} to {limit}",
                reason=cause.summary,
                action=action,
            )
        ]
    return []


def _probe(cause: Cause, probe: ProbeKind, container: str) -> list[Remedy]:
    facts = cause.facts
    field_name, suggested = facts.get("field"), facts.get("suggested")
    change: dict[str, object] = {}
    if field_name == "timing":
        change = {
            name: facts[f"suggested_{name}"]
            for name in ("initial_delay_seconds", "timeout_seconds", "period_seconds", "failure_threshold")
            if facts.get(f"suggested_{name}") is not None
        }
    elif field_name in ("port", "path", "scheme") and suggested is not None:
        change = {str(field_name): suggested}
    if not change:
        return []
    action = ChangeProbe.model_validate(
        {"target": _workload(cause.object), "container": container, "probe": probe, **change}
    )
    words = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in change.items())
    why = facts.get("suggested_from")
    return [
        Remedy(
            title=f"Set the {probe.value} probe of {container} to {words}",
            reason=f"{cause.summary}{f' ({why})' if why else ''}",
            action=action,
        )
    ]


def _rollback(cause: Cause) -> list[Remedy]:
    revision = cause.facts.get("healthy_revision")
    if cause.cause_class not in _ROLLBACK_HELPS or not isinstance(revision, int):
        return []
    because = cause.facts.get("healthy_because")
    return [
        Remedy(
            title=f"Roll {cause.object.kind} {cause.object.name} back to revision {revision}",
            reason=f"{cause.summary} Revision {revision} ran before{f': {because}' if because else ''}.",
            action=RollbackRevision(target=_workload(cause.object), revision=revision),
        )
    ]


def _helm(cause: Cause, histories: HelmHistories) -> list[Remedy]:
    """A helm release is changed by helm: back to the last revision that was deployed, else (two people) removed."""
    release, namespace = cause.facts.get("helm_release"), cause.facts.get("helm_namespace")
    if not isinstance(release, str) or not isinstance(namespace, str):
        return []
    history = sorted(histories.get((namespace, release), ()), key=lambda item: item.number)
    if not history:
        return []
    target = ObjectRef(kind="HelmRelease", namespace=namespace, name=release)
    earlier = [item for item in history[:-1] if item.status in ("superseded", "deployed")]
    if earlier:
        revision = earlier[-1].number
        return [
            Remedy(
                title=f"Roll helm release {release} back to revision {revision}",
                reason=f"{cause.summary} Revision {revision} was deployed before.",
                action=HelmRollbackAction(target=target, revision=revision),
            )
        ]
    if cause.cause_class not in CODE_FAULTS | {CauseClass.APPLICATION_ERROR}:
        return []
    return [
        Remedy(
            title=f"Uninstall helm release {release}",
            reason=f"{cause.summary} It has no earlier revision to go back to. Release, values and manifest are kept.",
            action=HelmUninstallAction(target=target),
        )
    ]


def _report_to_owners(cause: Cause, diagnosis: Diagnosis) -> Remedy:
    where = f" at {diagnosis.crash.crash_line}" if diagnosis.crash and diagnosis.crash.crash_line else ""
    return Remedy(
        title=f"Report the bug to the owners of {cause.object.name}",
        reason=f"{cause.summary} It is a bug in the program{where}; no change of configuration repairs it.",
        steps=diagnosis.next_steps,
    )


def _workload(ref: ObjectRef) -> ObjectRef:
    return ref.model_copy(update={"container": None})
