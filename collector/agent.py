"""The node agent: finds cores, says whose they are, and hands each to the outbox exactly once.

Notifications of the file system only wake it; what a scan finds decides. So nothing depends on a watch that was set in
time, and a core that was written while the agent was down is found at its start.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import structlog

from collector.condition import Condition, examine, why_cut
from collector.identify import facts_of, fingerprint
from collector.incoming import arrived, settle, whose
from collector.ledger import Ledger
from collector.local_file import LocalFile
from collector.node import dumping, pod_limits
from collector.places import FoundFile, Place, find_files, opened, pinned
from collector.pods import Pods
from collector.restarts import SignalCrash, core_of, crashes_in, why_none
from collector.settling import Settling
from collector.watch import wakes
from errors import ParamedicError, ToolFailed, UnusableCore
from incidents.collected import CollectedCore, Completeness
from incidents.models import content_id
from settings import CollectorSettings, GdbSettings

Take = Callable[[CollectedCore, LocalFile | None], Awaitable[None]]
"""Keeps a record for good, with the very file that it was made of; raises when it could not, and is then asked
again."""

_AT_ONCE = 2
_PATIENCE = 120.0
"""Seconds for which the cluster is asked whose a core is; then it is kept without."""

log = structlog.get_logger(__name__)


class Agent:
    """`take` must be idempotent by the record's id: after a kill the same core is handed over again.

    `emptied` tells of a file without a byte whether it is what is left of a core that was taken and stored.
    `wall` tells the time (UTC) and `clock` counts seconds that never jump.
    """

    def __init__(
        self,
        settings: CollectorSettings,
        gdb: GdbSettings,
        ledger: Ledger,
        pods: Pods,
        take: Take,
        *,
        node: str,
        emptied: Callable[[LocalFile], bool] = lambda _: False,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._gdb = settings, gdb
        self._ledger, self._pods, self._take = ledger, pods, take
        self._node, self._emptied = node, emptied
        self._wall, self._clock = wall, clock
        self._settling = Settling(settings.settle_seconds)
        self._crashes: dict[tuple[str, str, datetime], float] = {}
        self.waiting = False
        """Something was seen that is not settled: look again soon."""
        self.unreadable: dict[Path, str] = {}
        """Folders that the last look could not read, and why."""
        self._looked: float | None = None

    def seconds_since_look(self) -> float | None:
        """Since a folder, or a file in it, was last looked at; None before the first time."""
        return None if self._looked is None else self._clock() - self._looked

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop` is set. What fails is logged and tried again; nothing ends it."""
        restarts_at = 0.0
        async for _ in wakes(self._settings, stop, lambda: self.waiting):
            try:
                await self.look()
                await asyncio.to_thread(self._ledger.forget_old, self._wall().timestamp())
            except ParamedicError as error:
                log.warning("folders could not be looked at", error=str(error))
            except Exception:  # of a kind that nobody foresaw: it must not end the agent; the next look tries again
                log.exception("folders could not be looked at")
            if self._settings.restarts and self._clock() >= restarts_at:
                restarts_at = self._clock() + self._settings.scan_seconds
                try:
                    await self.look_at_restarts()
                except ParamedicError as error:
                    log.warning("restarts of pods could not be looked at", error=str(error))
                except Exception:  # likewise
                    log.exception("restarts of pods could not be looked at")

    async def look(self) -> int:
        """Scan once and hand over what is ready; the number of records. A file that fails is tried again next time."""
        self.waiting = False
        files: list[FoundFile] = []
        unreadable: dict[Path, str] = {}
        for root in self._settings.roots:
            try:
                await self._give_places(root)
            except OSError as error:
                log.warning("what came through pipe or socket has no place", folder=str(root), error=error.strerror)
            except Exception:  # one folder stands in no other's way
                log.exception("what came through pipe or socket has no place", folder=str(root))
            try:
                files += await asyncio.to_thread(find_files, root, self._settings.max_files, self._knows)
            except OSError as error:
                unreadable[root] = error.strerror or type(error).__name__
                log.warning("a folder of cores cannot be read", folder=str(root), error=error.strerror)
            except ParamedicError:  # of what was dealt with, which is no folder's fault
                raise
            except Exception as error:
                unreadable[root] = type(error).__name__
                log.exception("a folder of cores cannot be read", folder=str(root))
        self.unreadable = unreadable
        self._settling.forget_all_but(files)
        turn = asyncio.Semaphore(_AT_ONCE)

        async def one(file: FoundFile) -> int:
            async with turn:
                self._looked = self._clock()
                return await self._consider(file)

        count = sum(await asyncio.gather(*(one(file) for file in files)))
        self._looked = self._clock()
        return count

    def _knows(self, file: FoundFile) -> bool:
        """Whether the file was dealt with. Blocking."""
        now = self._wall().timestamp()
        if self._ledger.knows(file, now):
            return True
        if file.size or not self._emptied(file.local):
            return False
        self._ledger.note(replace(file, place=None), "emptied", None, now)  # no container's: it is no core of a crash
        return True

    async def _give_places(self, root: Path) -> None:
        """Move what came through the kernel's pipe or socket to the folder of its container. Raises OSError."""
        items = await asyncio.to_thread(arrived, root, self._wall().timestamp())
        pods = None
        for item in items:
            place = None
            if item.pod_uid is not None:
                try:
                    pods = await self._pods.on_node() if pods is None else pods
                except ParamedicError as error:
                    log.warning("the cluster does not say whose a core is", error=str(error))
                place = whose(item, pods or [])
                if place is None and self._wall().timestamp() - item.time < _PATIENCE:
                    self.waiting = True  # a pod that crashed at its start is not in the cluster's cache yet
                    continue
            await asyncio.to_thread(settle, item, root, place)

    async def _consider(self, file: FoundFile) -> int:
        try:
            now = self._clock()
            still = self._settling.unchanged(file, now)
            if not still:
                self.waiting = True
                return 0
            with opened(file) as path:
                condition = await asyncio.to_thread(examine, path)
                condition = await asyncio.to_thread(self._settled, file, condition, now)
                if condition.completeness is None:
                    self.waiting = True
                    return 0
                digest, seal = await asyncio.to_thread(fingerprint, path)
                record = await self._record(file, path, condition, digest)
            await self._take(record, replace(file.local, seal=seal))
            await asyncio.to_thread(self._ledger.note, file, record.id, record.signature, self._wall().timestamp())
            self._settling.forget(file)
        except UnusableCore as error:
            log.warning("a file cannot be read", path=ascii(str(file.path))[:300], error=str(error))
            return 0
        except OSError as error:  # it vanished or changed: the next scan shows what there is
            log.info("a file changed while it was looked at", path=ascii(str(file.path))[:300], error=error.strerror)
            return 0
        except ParamedicError as error:
            log.warning("a core could not be taken, and will be again", error=str(error))
            return 0
        except Exception:  # a file that nobody foresaw stands in no other's way
            log.exception("a file could not be looked at", path=ascii(str(file.path))[:300])
            return 0
        log.info(
            "core collected",
            record=record.id,
            completeness=record.completeness.value,
            size=record.size,
            path=ascii(str(file.path))[:300],
        )
        return 1

    def _settled(self, file: FoundFile, condition: Condition, now: float) -> Condition:
        """What is not whole stays undecided until nobody can be writing it any more."""
        if condition.completeness is Completeness.COMPLETE:
            return condition
        if not self._settling.given_up(file, now):
            return Condition(None, condition.missing, condition.reason)
        if condition.completeness is None:
            if self._dumping():
                return condition
            return why_cut(file.path, condition, self._core_limits(file.place))
        return condition

    async def _record(self, file: FoundFile, path: Path, condition: Condition, digest: str) -> CollectedCore:
        place = file.place
        owner = f"{place.namespace}/{place.pod_uid or place.pod}/{place.container}" if place else self._node
        record = CollectedCore(
            id=content_id("core", digest, owner),
            sha256=digest,
            size=file.size,
            completeness=condition.completeness or Completeness.TRUNCATED,
            reason=condition.reason,
            dumped_at=datetime.fromtimestamp(file.modified_ns / 1e9, UTC),
            collected_at=self._wall(),
            node=self._node,
        )
        if place is not None:
            try:
                origin = await self._pods.origin(place)
            except ToolFailed as error:
                log.warning("the cluster does not say more about a core's pod", error=str(error))
                origin = await Pods(None, self._node).origin(place)
            record = record.model_copy(update={"origin": origin})
        if condition.completeness is Completeness.NOT_A_CORE:
            return record
        with pinned(file, path, file.path.parents[3 if place else 0] / ".paramedic") as named:
            facts = await facts_of(named, self._gdb, self._ledger.earlier)
        return record.model_copy(
            update={
                "pid": facts.pid,
                "signal": facts.signal,
                "executable": facts.executable,
                "build_ids": facts.build_ids,
                "signature": facts.signature,
                "identity": facts.identity,
                "value": facts.value,
            }
        )

    async def look_at_restarts(self) -> int:
        """Hand over crashes by signal that left no core; the number of records. Raises ToolFailed (the cluster)."""
        pods = await self._pods.on_node()
        now, present = self._wall(), set()
        taken = 0
        for crash in crashes_in(pods, now):
            key = crash.uid, crash.container.name, crash.finished
            present.add(key)
            if await asyncio.to_thread(self._ledger.knows_crash, *key):
                continue
            if (known := await asyncio.to_thread(core_of, crash, self._ledger)) is not None:
                await asyncio.to_thread(self._ledger.note_crash, *key, known, now.timestamp())
                continue
            first = self._crashes.setdefault(key, self._clock())
            if self._clock() - first < self._settings.grace_seconds:
                continue
            if self._settling.may_be(crash.uid, crash.container.name, crash.span, self._clock()):
                continue  # a cut core takes longer than the grace time: it is one crash, not two
            if await asyncio.to_thread(self._dumping):
                continue
            record = await self._without_core(crash)
            await self._take(record, None)
            await asyncio.to_thread(self._ledger.note_crash, *key, record.id, now.timestamp())
            taken += 1
        self._crashes = {key: first for key, first in self._crashes.items() if key in present}
        return taken

    def _core_limits(self, place: Place | None) -> set[int]:
        """What the pod's processes may write: those that run now were started with the limits of those that crashed."""
        if place is None or place.pod_uid is None:
            return set()
        return pod_limits(place.pod_uid, self._settings.proc)

    def _dumping(self) -> bool:
        """Whether some process of the node is writing a core, as far as we can see them."""
        return self._settings.node_processes and bool(dumping(self._settings.proc))

    async def _without_core(self, crash: SignalCrash) -> CollectedCore:
        origin = await self._pods.of_container(crash.pod, crash.container)
        reason = await asyncio.to_thread(why_none, crash, self._settings.proc)
        log.info("a crash left no core", pod=origin.pod, container=origin.container, reason=reason)
        return CollectedCore(
            id=content_id("core", "missing", crash.uid, crash.container.name, crash.finished.isoformat()),
            completeness=Completeness.MISSING,
            reason=reason,
            dumped_at=crash.finished,
            collected_at=self._wall(),
            node=self._node,
            origin=origin,
            signal=crash.signal,
        )


def node_name(settings: CollectorSettings) -> str:
    """The node's name: as configured (in a pod, from the downward API), else the host's."""
    return settings.node_name or os.uname().nodename
