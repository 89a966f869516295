"""Named leases in the database: who may work on a target, until when.

A lease is taken and kept by one conditional UPDATE or INSERT. Its holder keeps it alive while it works and proves it
before each effect; a holder that was killed loses it by time. The times are those of the server's one clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, delete, update
from sqlalchemy.exc import IntegrityError

from errors import Conflict
from incidents.database import Database, utcnow
from incidents.tables import LockRow

_POLL_SECONDS = 0.1


class Lease:
    """A lease that is held, and kept alive. `extend` before every effect proves that it is still ours."""

    def __init__(self, locks: Locks, name: str, owner: str) -> None:
        self._locks = locks
        self.name = name
        self.owner = owner

    async def extend(self, seconds: float) -> None:
        """Hold it for `seconds` from now. Raises Conflict when it was lost."""
        if not await self._locks.extend(self.name, self.owner, seconds):
            raise Conflict(f"the lock on {self.name} was lost: another process took it")


class Locks:
    def __init__(self, database: Database, *, now: Callable[[], datetime] = utcnow) -> None:
        self._db = database
        self._now = now

    async def acquire(self, name: str, owner: str, seconds: float) -> bool:
        """Take the lease, unless somebody else holds it."""
        now = self._now()
        until = now + timedelta(seconds=seconds)
        take = (
            update(LockRow)
            .where(LockRow.name == name, (LockRow.expires_at <= now) | (LockRow.owner == owner))
            .values(owner=owner, expires_at=until)
        )
        try:
            async with self._db.write() as session:
                if cast("CursorResult[Any]", await session.execute(take)).rowcount == 1:
                    return True
                if await session.get(LockRow, name) is not None:
                    return False
                session.add(LockRow(name=name, owner=owner, expires_at=until))
        except IntegrityError:  # somebody else inserted it first
            return False
        return True

    async def extend(self, name: str, owner: str, seconds: float) -> bool:
        """Keep a lease that is still ours; False when it is not."""
        until = self._now() + timedelta(seconds=seconds)
        keep = update(LockRow).where(LockRow.name == name, LockRow.owner == owner).values(expires_at=until)
        async with self._db.write() as session:
            return cast("CursorResult[Any]", await session.execute(keep)).rowcount == 1

    async def release(self, name: str, owner: str) -> None:
        async with self._db.write() as session:
            await session.execute(delete(LockRow).where(LockRow.name == name, LockRow.owner == owner))

    @asynccontextmanager
    async def lease(self, name: str, owner: str, *, seconds: float, wait: float) -> AsyncIterator[Lease]:
        """Hold the lease inside the block; wait up to `wait` seconds for it. Raises Conflict when it stays taken."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + wait
        while not await self.acquire(name, owner, seconds):
            if loop.time() >= give_up:
                raise Conflict(f"another action works on {name}")
            await asyncio.sleep(_POLL_SECONDS)
        alive = asyncio.create_task(self._keep(name, owner, seconds))
        try:
            yield Lease(self, name, owner)
        finally:
            alive.cancel()
            await asyncio.gather(alive, return_exceptions=True)
            await self.release(name, owner)

    async def _keep(self, name: str, owner: str, seconds: float) -> None:
        """Extend until cancelled, or until the lease is lost; `Lease.extend` finds that out before an effect."""
        held = True
        while held:
            await asyncio.sleep(seconds / 3)
            held = await self.extend(name, owner, seconds)
