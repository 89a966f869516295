"""Which crash a posted core is, before an incident is opened for it: a storm of one crash is one incident."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from pathlib import Path
from typing import TypeVar

from agents.known_crashes import KnownCrashes
from diagnosis.crashes.identity import identity_of
from errors import ParamedicError
from graph.core_wait import CoreWait
from incidents.crash_groups import Place
from incidents.models import CoreRef, Incident, ObjectRef
from settings import Settings
from tools.cores.opening import open_core
from tools.cores.stored import SCHEME
from tools.gdb.look import look_at_core

_K = TypeVar("_K")
_V = TypeVar("_V")
_REMEMBERED = 1024
_LOOKS = 4
_SECONDS = 20.0


class Intake:
    """Identities of posted cores. A file is looked at once, however often it is named."""

    def __init__(self, known: KnownCrashes, settings: Settings, uploads: Path, wait: CoreWait) -> None:
        self._known = known
        self._wait = wait
        self._settings = settings
        self._uploads = uploads
        self._identities: OrderedDict[tuple[str, ...], str | None] = OrderedDict()
        self._told: OrderedDict[str, str] = OrderedDict()
        self._busy: dict[tuple[str, ...], asyncio.Lock] = {}
        self._looks = asyncio.Semaphore(_LOOKS)

    async def identity(self, core: CoreRef, told: str | None = None) -> str | None:
        """The crash's identity (see `identity_of`); None for what cannot be told at once, such as a file to fetch.

        `told` is the identity that our agent computed where the core was dumped. The first core it is told of is looked
        at, for what is here may show more of it; later ones are not even fetched, so that a storm joins the incident
        that is open also while the store or this machine can do no more. Raises nothing: what is wrong with a core is
        told by its analysis.
        """
        if told is None:
            return await self._own(core)
        async with self._busy.setdefault((told,), asyncio.Lock()):
            try:
                if told not in self._told:
                    _remember(self._told, told, await self._own(core) or told)
            finally:
                self._busy.pop((told,), None)
        return self._told.get(told, told)

    async def _own(self, core: CoreRef) -> str | None:
        if (core.url and not core.url.startswith(SCHEME)) or (core.executable and "://" in core.executable):
            return None
        try:
            key = await asyncio.to_thread(_key, core, self._uploads)
            async with self._busy.setdefault(key, asyncio.Lock()):
                try:
                    if key not in self._identities:
                        _remember(self._identities, key, await self._look(core))
                finally:
                    self._busy.pop(key, None)
                return self._identities.get(key)
        except (ParamedicError, OSError, TimeoutError, ValueError):
            return None

    async def incident_for(self, identity: str, target: ObjectRef, core: CoreRef) -> Incident | None:
        """See `KnownCrashes.incident_for`."""
        return await self._known.incident_for(identity, target, core)

    async def arrived(self, incident: Incident, identity: str | None, place: Place | None) -> None:
        """See `KnownCrashes.arrived`."""
        await self._known.arrived(incident, identity, place)

    async def _look(self, core: CoreRef) -> str | None:
        await self._wait.check(core)
        folders = self._settings.core
        async with (
            self._looks,
            asyncio.timeout(_SECONDS),
            open_core(core, folders, self._uploads, store=self._settings.store) as local,
        ):
            seen = await look_at_core(
                local.core,
                executable=local.executable,
                settings=self._settings.gdb,
                sysroot=local.sysroot,
                debug_dirs=folders.debug_dirs,
                executable_dirs=[*local.executable_dirs, *folders.executable_dirs],
            )
        return identity_of(seen.crash) if seen.crash else None


def _remember(known: OrderedDict[_K, _V], key: _K, value: _V) -> None:
    known[key] = value
    while len(known) > _REMEMBERED:
        known.popitem(last=False)


def _key(core: CoreRef, uploads: Path) -> tuple[str, ...]:
    """Changes when the files do. Raises OSError for a file that is not there."""
    parts = [core.url] if core.url else []
    for name in (core.path or core.upload, core.executable):
        if name:
            path = uploads / name if name.startswith("upl_") else Path(name)
            status = path.stat()
            parts += [str(path), str(status.st_size), str(status.st_mtime_ns), str(status.st_ino)]
    return tuple(parts)
