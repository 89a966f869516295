"""Events about core dumps become incidents: our node agent's, and CoreDog's as it is documented and as it sends them.

An event is taken at once, as a queued job with an id that depends on the core alone: the same core told twice, by
whomever, is one job. The work behind it (whose pod, fetching a core whose link will expire) is done afterwards, also
after a restart.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from errors import InvalidInput, ParamedicError, ToolFailed, ToolTimeout
from graph.runner import Runner
from incidents.collected import CollectedCore, Completeness
from incidents.core_jobs import CoreJob, CoreJobState, CoreJobStore, ToldCore
from incidents.crash_groups import Place
from incidents.models import CoreRef, Incident, ObjectRef, Via, content_id, new_id
from settings import CoreSettings
from tools.cloudevents.event import CloudEvent
from tools.cores.fetch import fetch
from tools.cores.stored import SCHEME
from tools.kubernetes.client import Cluster
from tools.kubernetes.owners import workload_of

COLLECTED = "io.paramedic.core.collected"
COREDOG = "coredog.coredump.uploaded"
_RETRY_SECONDS = 30.0
_AT_ONCE = 4  # of each kind: a look at a core may be as slow as the store is
_MAX_TRIES = 20

log = structlog.get_logger(__name__)


class CoreDogData(BaseModel):
    """CoreDog's event: documented with `coredump_id` and `node_name`, sent with `file_name` and `node_ip`."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # a `token` in it is dropped here

    file_url: str = Field(min_length=1, max_length=8192)
    file_name: str | None = Field(default=None, max_length=1024)
    coredump_id: int | str | None = None
    executable_path: str | None = Field(default=None, max_length=4096)
    file_size: int | None = Field(default=None, ge=0)
    md5: str | None = Field(default=None, pattern="^[0-9a-fA-F]{32}$")
    image: str | None = Field(default=None, max_length=600)
    timestamp: int | float | str | None = None
    pod_name: str | None = Field(default=None, max_length=253)
    pod_namespace: str | None = Field(default=None, max_length=63)
    node_name: str | None = Field(default=None, max_length=253)
    node_ip: str | None = Field(default=None, max_length=64)


@dataclass(frozen=True)
class Accepted:
    """The job of one event; `fresh` is False when the core was known already."""

    job: CoreJob
    fresh: bool


@dataclass(frozen=True)
class _Working:
    job: CoreJob
    task: asyncio.Task[None]


class CoreEvents:
    """`accept` answers at once; `run` works the queue off. `uploads` is where fetched cores are kept."""

    def __init__(
        self, jobs: CoreJobStore, runner: Runner, cluster: Cluster | None, settings: CoreSettings, uploads: Path
    ) -> None:
        self._jobs, self._runner, self._cluster = jobs, runner, cluster
        self._settings, self._uploads = settings, uploads
        self._awake = asyncio.Event()
        self._tries: dict[str, int] = {}
        self._due: dict[str, float] = {}

    async def accept(self, events: list[CloudEvent], requested_by: str) -> list[Accepted]:
        """A job for each event. Raises InvalidInput, before anything is taken, when one of them cannot be read."""
        told = [_told(event) for event in events]
        found = [Accepted(job, fresh) for job, fresh in await self._jobs.add(told, requested_by)]
        self._awake.set()
        return found

    async def run(self) -> None:
        """Work off what is queued, for ever: cancel it to stop. A job is tried again while it can still succeed."""
        working: dict[str, _Working] = {}
        try:
            while True:
                self._awake.clear()
                timeout = await self._begin(working)
                try:
                    await asyncio.wait_for(self._awake.wait(), timeout)
                except TimeoutError:
                    continue
        finally:
            tasks = [one.task for one in working.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _begin(self, working: dict[str, _Working]) -> float | None:
        """Begin what is due; seconds until something else is. A fetch may be long: it holds up no agent's event.

        Cores of one crash are worked on in the order in which they were told: the first one opens the incident.
        """
        before = set(working)  # one of these may end while the queue is read: it is not done a second time
        try:
            queued = await self._jobs.queued()
        except Exception:  # the database is away: what it has waits with it
            log.exception("the queue of collected cores cannot be read")
            return _RETRY_SECONDS
        now = asyncio.get_running_loop().time()
        waits = []
        for job in queued:
            if job.id in before:
                continue
            others = [one.job for one in working.values() if one.job.event_type == job.event_type]
            if len(others) >= _AT_ONCE or _crash(job) in map(_crash, others):
                continue
            if (due := self._due.get(job.id, 0.0)) > now:
                waits.append(due - now)
                continue
            task = asyncio.create_task(self._attempt(job))
            working[job.id] = _Working(job, task)
            task.add_done_callback(lambda _, id=job.id: self._ended(working, id))  # type: ignore[misc]
        return min(waits, default=None)

    def _ended(self, working: dict[str, _Working], id: str) -> None:
        working.pop(id, None)
        self._awake.set()

    async def _attempt(self, job: CoreJob) -> None:
        """Work on the job once; one that has not ended is due again after a while."""
        try:
            done = await self._work(job)
        except Exception:  # how it ended could not be written: it is done again, with the same incident
            log.exception("a collected core's job could not be ended", job=job.id)
            done = False
        if done:
            self._tries.pop(job.id, None)
            self._due.pop(job.id, None)
        else:
            self._due[job.id] = asyncio.get_running_loop().time() + _RETRY_SECONDS

    async def _work(self, job: CoreJob) -> bool:
        """Whether the job has ended. Raises what the database raises."""
        try:
            incident = await (self._from_coredog(job) if job.event_type == COREDOG else self._from_agent(job))
        except (ToolFailed, ToolTimeout) as error:
            tries = self._tries[job.id] = self._tries.get(job.id, 0) + 1
            log.warning("a collected core waits", job=job.id, tries=tries, error=str(error))
            if tries < _MAX_TRIES:
                return False
            await self._jobs.end(job.id, CoreJobState.FAILED, error=str(error))
        except ParamedicError as error:
            await self._jobs.end(job.id, CoreJobState.FAILED, error=str(error))
        except Exception as error:  # one event that nobody foresaw must not hold up the others
            log.exception("a collected core could not be worked on", job=job.id)
            await self._jobs.end(job.id, CoreJobState.FAILED, error=f"unexpected {type(error).__name__}")
        else:
            state = CoreJobState.NOTED if incident is None else CoreJobState.TAKEN
            await self._jobs.end(job.id, state, incident_id=incident.id if incident else None)
        return True

    # --- our own agent --------------------------------------------------------------------------------------------

    async def _from_agent(self, job: CoreJob) -> Incident | None:
        record = CollectedCore.model_validate(job.document)
        if record.completeness is Completeness.NOT_A_CORE:
            return None
        stored = {one.kind: one.key for one in record.stored}
        key = stored.get("minimal") or stored.get("full")  # the reduced one says the same, and is fetched at once
        core = CoreRef(url=f"{SCHEME}{key}") if key else None
        return await self._runner.submit(
            _target(record),
            _sentence(record),
            requested_by=job.requested_by,
            via=Via.COLLECTOR,
            core=core,
            identity=record.identity,
            place=_place(record),
        )

    # --- CoreDog --------------------------------------------------------------------------------------------------

    async def _from_coredog(self, job: CoreJob) -> Incident:
        data = CoreDogData.model_validate(job.document)
        target = await self._workload(data) or ObjectRef(
            kind="Process", name=(data.executable_path or data.file_name or "core").rstrip("/").rpartition("/")[2]
        )
        upload = await self._fetched(data)
        event = f"core dump of {data.executable_path or 'a program'} in pod {data.pod_name or 'unknown'} (CoreDog)"
        return await self._runner.submit(
            target, event, requested_by=job.requested_by, via=Via.COLLECTOR, core=CoreRef(upload=upload)
        )

    async def _workload(self, data: CoreDogData) -> ObjectRef | None:
        if not (data.pod_name and data.pod_namespace):
            return None
        pod = ObjectRef(kind="Pod", namespace=data.pod_namespace, name=data.pod_name)
        if self._cluster is None:
            return pod
        found = await self._cluster.get("v1", "Pod", data.pod_namespace, data.pod_name)
        return await workload_of(self._cluster, found) if found is not None else pod

    async def _fetched(self, data: CoreDogData) -> str:
        """The core as an upload of ours: its link is valid for an hour, and is a secret. Raises as `fetch` does."""
        id = new_id("upl")
        draft = self._uploads / f".{id}.part"
        try:
            await fetch(data.file_url, draft, self._settings)
            if data.md5 is not None:
                digest = await asyncio.to_thread(_md5, draft)
                if digest != data.md5.lower():
                    raise InvalidInput("the core that was fetched is not the one that was announced (md5)")
            await asyncio.to_thread(draft.rename, self._uploads / id)
        finally:
            await asyncio.to_thread(draft.unlink, missing_ok=True)
        return id


def _crash(job: CoreJob) -> str:
    """The same for cores of one crash, as far as our agents can tell."""
    return str(job.document.get("identity") or job.id)


def _told(event: CloudEvent) -> ToldCore:
    """Raises InvalidInput."""
    try:
        if event.type == COLLECTED:
            record = CollectedCore.model_validate(event.data)
            id = content_id("job", "collected", record.id)
            return ToldCore(id, event.type, event.source, event.id, record.model_dump(mode="json"))
        if event.type == COREDOG:
            data = CoreDogData.model_validate(event.data)
            # its event ids repeat within a second (pids in containers are small): the file tells one core from another
            bare = data.file_url.partition("?")[0]
            id = content_id("job", "coredog", bare, data.md5 or "")
            return ToldCore(id, event.type, event.source, event.id, data.model_dump(mode="json"))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"event {event.id[:80]!a}: data.{name}: {first['msg']}") from None
    raise InvalidInput(f"event {event.id[:80]!a}: type {event.type[:80]!a} is not one of {COLLECTED}, {COREDOG}")


def _target(record: CollectedCore) -> ObjectRef:
    origin = record.origin
    if origin is None:
        return ObjectRef(kind="Process", name=(record.executable or "core").rstrip("/").rpartition("/")[2] or "core")
    return origin.owner or ObjectRef(kind="Pod", namespace=origin.namespace, name=origin.pod)


def _place(record: CollectedCore) -> Place:
    origin = record.origin
    if origin is None:
        return Place(node=record.node)
    owner = str(origin.owner) if origin.owner else None
    return Place(workload=owner, image=origin.image, node=record.node, pod=origin.pod)


def _sentence(record: CollectedCore) -> str:
    origin = record.origin
    where = f"container {origin.container} of pod {origin.pod}" if origin else f"a program on {record.node}"
    how = f"signal {record.signal}" if record.signal else "a signal"
    if record.completeness is Completeness.MISSING:
        return f"{where} was ended by {how} and left no core: {record.reason or 'no reason is known'}"
    if record.completeness is not Completeness.COMPLETE:
        return f"{where} was ended by {how}; its core is cut: {record.reason or record.completeness.value}"
    if not record.stored:
        return f"{where} was ended by {how}; its core was lost"
    return f"{where} was ended by {how} and dumped core"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
