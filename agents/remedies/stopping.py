"""Stopping a crash storm, when nothing answers its cause: the release before, else no pods, else no release.

The order is from what keeps the service running to what removes it. Each is a wish: the gate says no where policy,
ownership or the object's state forbids it, and removing a release needs two people.
"""

from __future__ import annotations

from agents.remedies.remedy import Remedy
from agents.remedies.rollback import HelmHistories, earlier_release
from incidents.actions import HelmRollbackAction, HelmUninstallAction, RollbackRevision, Scale
from incidents.models import Diagnosis
from incidents.storms import Storm

_SCALED = ("Deployment", "StatefulSet")
_REVISED = (*_SCALED, "DaemonSet")


def stopping(storm: Storm, diagnosis: Diagnosis, histories: HelmHistories) -> list[Remedy]:
    """What would end the storm, the gentlest first."""
    target, release = storm.target, storm.release
    why = f"{storm.count} crashes of {storm.instance} were counted, more than the policy allows."
    found = []
    if release is not None:
        goal = earlier_release(histories.get((release.namespace or "", release.name), ()))
        if goal is not None:
            action = HelmRollbackAction(target=release, revision=goal)
            found.append(Remedy(f"Roll helm release {release.name} back to revision {goal}", why, action=action))
    elif target.kind in _REVISED and (healthy := _healthy_revision(storm, diagnosis)) is not None:
        back = RollbackRevision(target=target, revision=healthy)
        found.append(Remedy(f"Roll {target.kind} {target.name} back to revision {healthy}", why, action=back))
    if target.kind in _SCALED:
        scale = Scale(target=target, replicas=0)
        found.append(Remedy(f"Scale {target.kind} {target.name} to zero", why, action=scale))
    if release is not None:
        gone = HelmUninstallAction(target=release)
        found.append(Remedy(f"Uninstall helm release {release.name}", why, action=gone))
    return found


def _healthy_revision(storm: Storm, diagnosis: Diagnosis) -> int | None:
    """The revision that was seen healthy, whatever the cause is."""
    for cause in diagnosis.causes:
        value = cause.facts.get("healthy_revision")
        same = (cause.object.kind, cause.object.namespace, cause.object.name) == (
            storm.target.kind,
            storm.target.namespace,
            storm.target.name,
        )
        if same and isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            return value
    return None
