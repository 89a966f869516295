"""Crash storms: crashes of instances are counted, and when there are more than the policy allows, people are asked.

What is asked is an ordinary incident with an ordinary approval; nothing is ever done from here. A storm is one
question: there is no second one while an incident about the workload is open, nor within the window after it ended,
whatever people said.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from diagnosis.workloads.fields import Object, text
from diagnosis.workloads.instances import instances_of
from diagnosis.workloads.snapshot import Snapshot
from errors import ParamedicError
from graph.runner import Runner
from graph.storm_cores import crashes_of, records_of, same_crash, without_cores
from graph.storm_pods import crashes_shown
from incidents.collected import CollectedCore, Completeness
from incidents.core_jobs import CoreJob, CoreJobStore
from incidents.database import utcnow
from incidents.models import CoreRef, Incident, IncidentStatus, ObjectRef, Via
from incidents.store import IncidentStore
from incidents.storms import Crash, Storm, StormStore
from settings import InstanceRule, PolicySettings
from tools.cores.stored import SCHEME
from tools.kubernetes.client import Cluster
from tools.kubernetes.instances import as_rules, read_pods

REQUESTER = "policy:storms"
"""Whom approvals name as requester; it is nobody who could approve."""

_KEPT = timedelta(days=7)  # the longest window that can be configured
_RECENT = 500
_MOST_CORES = 5000
_ADDRESSES = re.compile("[0-9a-f]{40}")
"""A signature that is no name."""
Same = tuple[str, int, int]
"""A signature, how often, and on how many nodes."""

log = structlog.get_logger(__name__)


class StormWatch:
    """`run` looks at the pods again and again; `sweep` once."""

    def __init__(
        self,
        storms: StormStore,
        incidents: IncidentStore,
        jobs: CoreJobStore,
        runner: Runner,
        cluster: Cluster,
        rules: Sequence[InstanceRule],
        policy: PolicySettings,
        *,
        now: Callable[[], datetime] = utcnow,
    ) -> None:
        self._storms, self._incidents, self._jobs = storms, incidents, jobs
        self._runner, self._cluster = runner, cluster
        self._rules, self._policy, self._now = as_rules(rules), policy, now

    async def run(self) -> None:
        """For ever: cancel it to stop. Returns at once when the policy is off."""
        while self._policy.mode != "off":
            try:
                await self.sweep()
            except (ParamedicError, SQLAlchemyError) as error:
                log.warning("crashes could not be counted", error=type(error).__name__, exc_info=error)
            await asyncio.sleep(self._policy.scan_seconds)

    async def sweep(self) -> None:
        """Note the crashes that the pods show, and ask about storms. Raises ToolFailed when they cannot be seen."""
        if self._policy.mode == "off":
            return
        now = self._now()
        since = now - timedelta(seconds=self._policy.window_seconds)
        snapshot = await read_pods(self._cluster, self._policy.namespaces, events=True)
        jobs = await self._jobs.since(since, limit=_MOST_CORES)
        if await self._note(snapshot, records_of(jobs, self._policy.namespaces), since, now):
            await self._storms.forget(now - _KEPT)
        for instance, count in (await self._storms.counts(since)).items():
            if count > self._policy.threshold:
                await self._storm(instance, count, since, snapshot, jobs)

    async def _note(self, snapshot: Snapshot, records: list[CollectedCore], since: datetime, now: datetime) -> int:
        """What the pods show, and cores of ends that they show no more; each end once, whichever is seen first.

        Returns how many ends are new. When none is, nothing is written.
        """
        noted = await self._storms.since(since)
        shown = without_cores(crashes_shown(snapshot, self._rules, self._policy, now), noted)
        known = {crash.id: crash for crash in [*noted, *shown]}
        if "crash_signal" in self._policy.crash_classes:
            instances = {
                snapshot.workload_of(member.pod): instance.key
                for instance in instances_of(snapshot, self._rules)
                for member in instance.members
            }
            shown += crashes_of(records, list(known.values()), instances, now)
        before = {crash.id for crash in noted}
        return await self._storms.add(crash for crash in shown if crash.id not in before)

    # --- a storm ----------------------------------------------------------------------------------------------------

    async def _storm(self, instance: str, count: int, since: datetime, snapshot: Snapshot, jobs: list[CoreJob]) -> None:
        crashes = await self._storms.crashes(instance, since)
        target = Counter(crash.workload for crash in crashes).most_common(1)[0][0]
        begun = await self._begun(instance, since)
        about = await self._about(target)
        if begun is not None and begun.mode == self._policy.mode:
            if begun.mode == "propose" and begun.incident_id is None:  # killed before the incident was noted
                await self._ask(begun, crashes, about, since, await self._same(jobs, crashes))
            return
        same = await self._same(jobs, crashes)
        release = _release(snapshot.get(target.kind, target.namespace, target.name))
        if self._policy.mode == "dry-run":
            await self._storms.begin(instance, target, count, "dry-run", release=release)
            sentence = self._sentence(count, crashes, instance, same)
            said = f"dry run: crash storm: {sentence}; people would be asked to {_ways(release)}"
            log.warning("crash storm", instance=instance, target=str(target), count=count, dry_run=True)
            if about:
                await self._incidents.add_step(about[0].id, "storm", said, data={"count": count, "dry_run": True})
            return
        declined = (one for one in about if one.status is IncidentStatus.DECLINED and one.updated_at > since)
        if (asked := next((one for one in about if not one.status.ended), None)) is not None:
            if all(step.type != "storm" for step in await self._incidents.steps(asked.id)):
                said = f"crash storm: {self._sentence(count, crashes, instance, same)}"
                await self._incidents.add_step(asked.id, "storm", said, data={"count": count})
            return
        if next(declined, None) is not None:
            return
        log.warning("crash storm", instance=instance, target=str(target), count=count, dry_run=False)
        storm = await self._storms.begin(instance, target, count, "propose", release=release)
        await self._ask(storm, crashes, about, since, same)

    async def _begun(self, instance: str, since: datetime) -> Storm | None:
        """The storm that is going on, or was within the window."""
        storm = await self._storms.latest(instance)
        if storm is None:
            return None
        if storm.incident_id is None:
            return storm if storm.opened_at > since else None
        incident = await self._incidents.get(storm.incident_id)
        return storm if not incident.status.ended or incident.updated_at > since else None

    async def _about(self, target: ObjectRef) -> list[Incident]:
        """Incidents about the target, newest first."""
        recent = await self._incidents.recent(namespace=target.namespace, limit=_RECENT)
        return [one for one in recent if one.target.model_copy(update={"container": None}) == target]

    async def _ask(
        self, storm: Storm, crashes: list[Crash], about: list[Incident], since: datetime, same: Same | None
    ) -> None:
        """Open the storm's incident, once: one that was opened before a kill is taken up."""
        mine = (one for one in about if one.via is Via.POLICY and one.created_at >= storm.opened_at)
        incident = next(mine, None) or await self._runner.submit(
            storm.target,
            f"crash storm: {self._sentence(storm.count, crashes, storm.instance, same)}",
            requested_by=REQUESTER,
            via=Via.POLICY,
            core=await self._core(storm.target, since),
            force=True,  # it is a question of its own, also where the crash is known
        )
        await self._storms.asked(storm.id, incident.id)

    async def _same(self, jobs: list[CoreJob], crashes: list[Crash]) -> Same | None:
        """The crash that was seen most, named as its incident names it: agents know its addresses alone."""
        found = same_crash(records_of(jobs, self._policy.namespaces), {crash.workload for crash in crashes})
        if found is None:
            return None
        signature, times, nodes = found
        of_it = (job.incident_id for job in jobs if job.incident_id and job.document.get("signature") == signature)
        if (incident_id := next(of_it, None)) is not None:
            signature = (await self._incidents.get(incident_id)).signature or signature
        return ("" if _ADDRESSES.fullmatch(signature) else signature, times, nodes)

    async def _core(self, target: ObjectRef, since: datetime) -> CoreRef | None:
        """The newest whole core of the storm that the store has confirmed."""
        for job in await self._jobs.since(since):
            if "completeness" not in job.document:
                continue
            record = CollectedCore.model_validate(job.document)
            owner = record.origin.owner if record.origin else None
            keys = {one.kind: one.key for one in record.stored}
            key = keys.get("minimal") or keys.get("full")
            if owner == target and record.completeness is Completeness.COMPLETE and key:
                return CoreRef(url=f"{SCHEME}{key}")
        return None

    def _sentence(self, count: int, crashes: list[Crash], instance: str, same: Same | None) -> str:
        kinds = Counter(crash.ending for crash in crashes)
        by_kind = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
        pods = _counted(len({crash.pod for crash in crashes}), "pod")
        minutes = self._policy.window_seconds / 60
        told = f"{count} crashes of {instance} in {pods} within {minutes:g} min ({by_kind})"
        if same is not None:
            signature, times, nodes = same
            told += f"; the same crash {times} times on {_counted(nodes, 'node')}"
            told += f": {signature[:200]}" if signature else ""
        return told


def _release(workload: Object | None) -> ObjectRef | None:
    name = text(workload, "metadata", "annotations", "meta.helm.sh/release-name")
    if not name:
        return None
    namespace = text(workload, "metadata", "annotations", "meta.helm.sh/release-namespace")
    return ObjectRef(kind="HelmRelease", namespace=namespace or text(workload, "metadata", "namespace"), name=name)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _ways(release: ObjectRef | None) -> str:
    ways = "roll it back, else to scale it to zero"
    return f"{ways}, else to uninstall helm release {release.name}" if release else ways
