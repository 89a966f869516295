"""Crashes that the pods do not show any more: a pod's status has the last end of a container, its cores all of them.

The same end is seen twice, as a core and in the status. Times differ a little: the core's is when it was written, the
status has whole seconds and comes later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from pydantic import ValidationError

from incidents.collected import CollectedCore, Completeness
from incidents.core_jobs import CoreJob
from incidents.models import ObjectRef, content_id
from incidents.storms import Crash

_APART = timedelta(seconds=15)
_PREFIX = "corecrash"


def records_of(jobs: Iterable[CoreJob], namespaces: Sequence[str]) -> list[CollectedCore]:
    """What node agents collected from containers of these namespaces (none given: all), each once."""
    found: dict[str, CollectedCore] = {}
    for job in jobs:
        if "completeness" not in job.document:  # CoreDog's
            continue
        try:
            record = CollectedCore.model_validate(job.document)
        except ValidationError:
            continue
        origin = record.origin
        if record.completeness is Completeness.NOT_A_CORE or record.dumped_at is None or origin is None:
            continue
        if origin.owner is not None and (not namespaces or origin.namespace in namespaces):
            found[record.id] = record
    return list(found.values())


def crashes_of(
    records: Sequence[CollectedCore], known: Iterable[Crash], instance_of: Mapping[ObjectRef, str], now: datetime
) -> list[Crash]:
    """One for each record whose end is not among the `known` ones; each of those stands for one record at most."""
    left = [crash for crash in known if not crash.id.startswith(_PREFIX)]
    found = []
    for record in sorted(records, key=_dumped):
        origin, at = record.origin, _dumped(record)
        assert origin is not None and origin.owner is not None
        same = [
            crash
            for crash in left
            if crash.pod == origin.pod and crash.workload.namespace == origin.namespace and abs(crash.at - at) <= _APART
        ]
        if same:
            left.remove(min(same, key=lambda crash: abs(crash.at - at)))
            continue
        owner = origin.owner
        found.append(
            Crash(
                id=content_id(_PREFIX, record.id),
                at=min(at, now),
                instance=instance_of.get(owner, f"{origin.namespace}/workload/{owner.kind}/{owner.name}"),
                workload=owner,
                pod=origin.pod,
                ending="crash_signal",
            )
        )
    return found


def without_cores(crashes: Iterable[Crash], noted: Iterable[Crash]) -> list[Crash]:
    """Of the ends that pods show, those that no core was `noted` for; each core stands for one end at most."""
    known = {crash.id: crash for crash in noted}
    left = [crash for crash in known.values() if crash.id.startswith(_PREFIX)]
    found = []
    for crash in crashes:
        if crash.id in known:
            found.append(crash)
            continue
        same = [
            core
            for core in left
            if core.pod == crash.pod and core.workload == crash.workload and abs(core.at - crash.at) <= _APART
        ]
        if same and crash.ending == "crash_signal":
            left.remove(min(same, key=lambda core: abs(core.at - crash.at)))
        else:
            found.append(crash)
    return found


def same_crash(records: Iterable[CollectedCore], targets: Iterable[ObjectRef]) -> tuple[str, int, int] | None:
    """The signature that these workloads crashed with most, how often, and on how many nodes; None for none twice."""
    wanted = set(targets)
    ours = [record for record in records if record.signature and record.origin and record.origin.owner in wanted]
    if not ours:
        return None
    [(signature, count)] = Counter(record.signature or "" for record in ours).most_common(1)
    nodes = {record.node for record in ours if record.signature == signature}
    return (signature, count, len(nodes)) if count > 1 else None


def _dumped(record: CollectedCore) -> datetime:
    assert record.dumped_at is not None
    return record.dumped_at
