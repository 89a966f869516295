"""Outside events that were already handled, so that a replayed one has no second effect."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError

from incidents.database import Database, utcnow
from incidents.tables import SeenEventRow

KEPT = timedelta(days=1)
"""Longer than any window in which an old event is still accepted."""


class SeenEvents:
    def __init__(self, database: Database, *, now: Callable[[], datetime] = utcnow) -> None:
        self._db = database
        self._now = now

    async def seen(self, source: str, event_id: str) -> bool:
        """Record the event; True when it was recorded before. Of concurrent callers exactly one gets False."""
        now = self._now()
        try:
            async with self._db.write() as session:
                if await session.get(SeenEventRow, (source, event_id)) is not None:
                    return True
                await session.execute(delete(SeenEventRow).where(SeenEventRow.at < now - KEPT))
                session.add(SeenEventRow(source=source, event_id=event_id, at=now))
        except IntegrityError:  # another process was quicker
            return True
        return False
