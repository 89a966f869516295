"""An outbox with real cores, a store in a folder, and a shipper that can be ended at any of its steps."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from collector.handler import Handler
from collector.local_file import LocalFile
from collector.measures import Measures
from collector.outbox import Outbox, State
from collector.shipper import Shipper
from incidents.collected import CollectedCore, Completeness, Origin
from incidents.models import ObjectRef
from settings import HandlerSettings, ShippingSettings, StoreSettings
from tests.standins import crashing
from tools.objectstore.store import ObjectStore

AT = datetime(2026, 11, 21, 10, tzinfo=UTC)


class Killed(BaseException):
    """As SIGKILL: nothing of ours catches it."""


class Depot:
    """What is left after a kill is in `folder`; everything else is made anew by `shipper`."""

    def __init__(self, folder: Path, store: StoreSettings | None = None, **settings: Any) -> None:
        self.folder = folder
        (folder / "store").mkdir()
        (folder / "cores").mkdir()
        self.store_settings = store or StoreSettings(url=(folder / "store").as_uri())
        self.settings = ShippingSettings.model_validate({"disk_reserve_bytes": 0, "retry_seconds": 0.05, **settings})
        self.outbox = Outbox(folder / "agent" / "outbox.db")
        self.told: list[CollectedCore] = []
        self.refuse: Exception | None = None
        self.free = 1 << 60
        self.kill_at, self.steps = -1, 0

    def core(self, name: str = "core", mode: str = "null", content: bytes | None = None) -> Path:
        path = self.folder / "cores" / name
        if content is None:
            shutil.copy(crashing.core(mode), path)
        else:
            path.write_bytes(content)
        return path

    def record(self, path: Path | None, id: str = "core_1", **more: Any) -> CollectedCore:
        given: dict[str, Any] = {
            "id": id,
            "completeness": Completeness.COMPLETE,
            "collected_at": AT,
            "node": "n1",
            "origin": Origin(
                namespace="prod",
                pod="api-0",
                pod_uid="u1",
                container="app",
                owner=ObjectRef(kind="Deployment", namespace="prod", name="api"),
            ),
            "signal": 11,
            "executable": "/srv/shop",
            "signature": "store::put",
            "value": 5.0,
        }
        if path is not None:
            data = path.read_bytes()
            given |= {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        return CollectedCore.model_validate({**given, **more})

    def add(self, name: str = "core", id: str = "core_1", content: bytes | None = None, **more: Any) -> Path:
        path = self.core(name, content=content)
        self.outbox.add(self.record(path, id, **more), LocalFile.at(path))
        return path

    def shipper(self, handler: HandlerSettings | None = None, **more: Any) -> Shipper:
        """A new process, as far as that can be seen from the disk."""
        self.outbox.close()
        self.outbox = _Counting(self.folder / "agent" / "outbox.db", self._step)
        store = _CountingStore(self.store_settings)
        store.step = self._step
        return Shipper(
            self.outbox,
            store,
            self.settings,
            self._announce,
            folder=self.folder / "agent" / "staging",
            free=lambda _: self.free,
            handler=Handler(handler, self.outbox, store.where, Measures()) if handler else None,
            **more,
        )

    async def ship(self, until: Callable[[], bool] | None = None, seconds: float = 90, **more: Any) -> None:
        """Until everything is done, or `until` says so."""
        shipper = self.shipper(**more)
        stop = asyncio.Event()
        killed: list[BaseException] = []
        original = shipper._ship

        async def ship(id: str) -> None:
            try:
                await original(id)
            except Killed as error:
                killed.append(error)
                stop.set()

        shipper._ship = ship  # type: ignore[method-assign]
        running = asyncio.ensure_future(shipper.run(stop))
        try:
            async with asyncio.timeout(seconds):
                while not (until() if until else self._all_done()) and not stop.is_set():
                    await asyncio.sleep(0.01)
        finally:
            stop.set()
            await running
        if killed:
            raise killed[0]

    def objects(self) -> dict[str, bytes]:
        """What the folder holds, but records, by key."""
        root = self.folder / "store"
        files = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
        return {key: path.read_bytes() for key, path in files.items() if not key.endswith(".json")}

    def left_over(self) -> list[Path]:
        """Files that the shipper prepared and did not remove."""
        return [path for path in (self.folder / "agent" / "staging").rglob("*") if path.is_file()]

    def states(self) -> dict[str, int]:
        return self.outbox.counts()

    def _all_done(self) -> bool:
        return set(self.outbox.counts()) <= {State.REMOVED}

    def _step(self) -> None:
        self.steps += 1
        if self.steps - 1 == self.kill_at:
            raise Killed(self.kill_at)

    async def _announce(self, record: CollectedCore) -> None:
        self._step()
        if self.refuse is not None:
            raise self.refuse
        self.told.append(record)
        self._step()


class _Counting(Outbox):
    """Before and after every write is a step."""

    def __init__(self, path: Path, step: Callable[[], None]) -> None:
        super().__init__(path)
        for name in ("reduced", "uploading", "object_stored", "stored", "announced", "removed", "lose"):
            setattr(self, name, _stepping(getattr(self, name), step))


def _stepping(call: Callable[..., None], step: Callable[[], None]) -> Callable[..., None]:
    def stepped(*arguments: Any, **more: Any) -> None:
        step()
        call(*arguments, **more)
        step()

    return stepped


class _CountingStore(ObjectStore):
    step: Callable[[], None]

    async def put(self, *arguments: Any, **more: Any) -> Any:
        self.step()
        done: Awaitable[Any] = super().put(*arguments, **more)
        result = await done
        self.step()
        return result
