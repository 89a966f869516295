"""Crashes as the pods' status shows them: the ends of containers that the policy counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from diagnosis.workloads.containers import containers_of
from diagnosis.workloads.fields import text
from diagnosis.workloads.instances import Rule, instances_of
from diagnosis.workloads.restarts import restarts_of
from diagnosis.workloads.snapshot import Snapshot
from incidents.models import content_id
from incidents.storms import Crash
from settings import PolicySettings


def crashes_shown(snapshot: Snapshot, rules: Sequence[Rule], policy: PolicySettings, now: datetime) -> Iterator[Crash]:
    """The ends that count. One that the node's clock puts into the future is of now."""
    instance_of = {
        id(member.pod): instance.key for instance in instances_of(snapshot, rules) for member in instance.members
    }
    for pod in snapshot.all("Pod"):
        namespace, name = text(pod, "metadata", "namespace"), text(pod, "metadata", "name")
        workload = snapshot.workload_of(pod)
        key = instance_of.get(id(pod), f"{namespace}/workload/{workload.kind}/{workload.name}")
        leaving = bool(text(pod, "metadata", "deletionTimestamp"))
        uid = text(pod, "metadata", "uid")
        # events of an earlier pod of the same name tell nothing of this one
        events = [event for event in snapshot.events_for("Pod", namespace, name) if event.uid in ("", uid)]
        for container in containers_of(pod):
            for restart in restarts_of(container, events):
                if restart.ending not in policy.crash_classes:
                    continue
                if leaving and not restart.is_last_state:  # however it left when it was asked to
                    continue
                when = restart.finished.isoformat() if restart.finished else str(container.restarts)
                yield Crash(
                    id=content_id("crash", namespace, uid or name, container.name, when),
                    at=min(restart.finished or now, now),
                    instance=key,
                    workload=workload,
                    pod=name,
                    ending=restart.ending.value,
                )
