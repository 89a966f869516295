"""Going back: to the revision that ran, or to the helm release's last revision that was deployed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agents.remedies.remedy import WORKLOADS, Remedy, bare, number, words
from diagnosis.merge import CODE_FAULTS
from incidents.actions import HelmRollbackAction, HelmUninstallAction, RollbackRevision
from incidents.models import Cause, CauseClass, ObjectRef
from tools.helm.client import Revision

HelmHistories = Mapping[tuple[str, str], Sequence[Revision]]

_ROLLBACK_HELPS = CODE_FAULTS | {
    CauseClass.BAD_ROLLOUT,
    CauseClass.BAD_IMAGE,
    CauseClass.BAD_COMMAND,
    CauseClass.BAD_CHANGE,
    CauseClass.MISSING_CONFIG_MAP,
    CauseClass.MISSING_CONFIG_KEY,
    CauseClass.MISSING_SECRET,
    CauseClass.MISSING_SERVICE_ACCOUNT,
    CauseClass.LIMIT_RANGE_VIOLATED,
    CauseClass.POD_SECURITY_DENIED,
    CauseClass.PORT_CONFLICT,
    CauseClass.ROLLOUT_STUCK,
    CauseClass.WRONG_DEPENDENCY_ADDRESS,
    CauseClass.APPLICATION_ERROR,
}
"""Causes that a pod template can bring in, so that the template before can take them out."""


def revision(cause: Cause) -> list[Remedy]:
    """Back to the revision that is known to have run."""
    goal = number(cause, "healthy_revision")
    if cause.cause_class not in _ROLLBACK_HELPS or goal is None or cause.object.kind not in WORKLOADS:
        return []
    ran = words(cause, "healthy_because")
    return [
        Remedy(
            f"Roll {cause.object.kind} {cause.object.name} back to revision {goal}",
            f"{cause.summary} Revision {goal} ran before{f': {ran}' if ran else ''}.",
            action=RollbackRevision(target=bare(cause.object), revision=goal),
        )
    ]


def helm_release(cause: Cause) -> tuple[str, str] | None:
    """(namespace, name) of the release that the cause's object is part of."""
    release, namespace = words(cause, "helm_release"), words(cause, "helm_namespace")
    return (namespace, release) if release and namespace else None


def earlier_release(history: Sequence[Revision]) -> int | None:
    """The last revision that was deployed before the present one."""
    before = sorted(history, key=lambda item: item.number)[:-1]
    return next((item.number for item in reversed(before) if item.status in ("superseded", "deployed")), None)


def helm(cause: Cause, histories: HelmHistories) -> list[Remedy]:
    """A helm release is changed by helm: back to the last revision that was deployed, else (two people) removed."""
    named = helm_release(cause)
    history = sorted(histories.get(named, ()) if named else (), key=lambda item: item.number)
    if named is None or not history:
        return []
    namespace, release = named
    target = ObjectRef(kind="HelmRelease", namespace=namespace, name=release)
    goal = earlier_release(history)
    if goal is not None:
        return [
            Remedy(
                f"Roll helm release {release} back to revision {goal}",
                f"{cause.summary} Revision {goal} was deployed before.",
                action=HelmRollbackAction(target=target, revision=goal),
            )
        ]
    if cause.cause_class not in CODE_FAULTS | {CauseClass.APPLICATION_ERROR}:
        return []
    return [
        Remedy(
            f"Uninstall helm release {release}",
            f"{cause.summary} It has no earlier revision to go back to. Release, values and manifest are kept.",
            action=HelmUninstallAction(target=target),
        )
    ]
