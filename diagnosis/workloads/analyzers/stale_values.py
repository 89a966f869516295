"""A pod that was not ready when its ConfigMap or Secret was corrected, and still has the values from before.

The other side of `bad_change`: there the write broke a program that ran, here a program that failed already runs on
with what it read at its start. The program reads its variables once, so nothing but new pods lets it see the new ones.
"""

from __future__ import annotations

from collections.abc import Iterable

from diagnosis.workloads.analyzers import bad_change
from diagnosis.workloads.containers import Container
from diagnosis.workloads.contract import Claim, Found
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.scope import RECENT, Scope
from diagnosis.workloads.stale_values import Stale, stale_values, unready_since_before
from incidents.models import CauseClass

NAME = "stale_values"
READS = ("Pod", "ConfigMap")
RULED_OUT = "values: no failing container runs with those from before a ConfigMap or Secret was written"
CAUSES = bad_change.CAUSES


def find(scope: Scope) -> Iterable[Found]:
    for container in scope.troubled:
        if container.section != "containers" or not container.running or container.ready:
            continue
        stale = stale_values(scope, container)
        if stale is None or scope.snapshot.observed_at - stale.written > RECENT:
            continue
        if unready_since_before(container, stale.written):
            yield _found(scope, container, stale)


def _found(scope: Scope, container: Container, stale: Stale) -> Found:
    owner, now = scope.owner(container), scope.snapshot.observed_at
    state = of_object(container.pod, "/status/conditions", now)
    claims = [
        *stale.claims,
        Claim(f"Pod {container.pod_name} was not ready before that write, and is not since", [state]),
    ]
    return Found(
        CauseClass.BAD_CHANGE,
        owner,
        0.7,
        f"Container {container.name} of {owner.kind} {owner.name} fails with values from before {stale.kind} "
        f"{stale.name} was written.",
        claims,
        facts=stale.facts,
        place=container.pod_name,
        subject=f"{stale.kind}/{stale.name}",
        next_steps=[f"Restart {owner.name}: new pods read {stale.kind} {stale.name} as it is now"],
    )
