"""What models have cost: one row a call, kept over restarts.

A call is reserved at its highest possible cost in the same transaction that reads what was spent before, and settled
to its real cost after. So parallel incidents cannot pass a budget together, and a call that was killed half way stays
counted at its highest cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from incidents.database import Database
from incidents.tables import ModelUsageRow


@dataclass(frozen=True)
class Spent:
    """What was used up before a call.

    `incident_tokens` is input and output together; `calls_last_hour` slides; the month is the calendar month in UTC.
    `usd_this_month` is the sum of the calls whose price is known; `unpriced_this_month` counts the others, whose cost
    is unknown and not zero.
    """

    incident_tokens: int = 0
    calls_last_hour: int = 0
    usd_this_month: float = 0.0
    unpriced_this_month: int = 0


class UsageStore:
    """The `model_usage` table. On SQLite reservations are serial; on a server database two processes may overlap."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def spent(self, incident_id: str | None, now: datetime) -> Spent:
        async with self._db.read() as session:
            return await _spent(session, incident_id, now)

    async def reserve(
        self,
        model: str,
        incident_id: str | None,
        *,
        input_tokens: int,
        output_tokens: int,
        usd: float | None,
        now: datetime,
        allow: Callable[[Spent], None],
    ) -> int:
        """Record a call that is about to be made and return its row id.

        `allow` sees what was spent before and raises to forbid the call; nothing is recorded then.
        """
        async with self._db.write() as session:
            allow(await _spent(session, incident_id, now))
            row = ModelUsageRow(
                at=now,
                incident_id=incident_id,
                model=model,
                input_tokens=input_tokens,
                output_tokens=output_tokens,
                usd=usd,
            )
            session.add(row)
            await session.flush()
            return row.id

    async def settle(self, row_id: int, *, input_tokens: int, output_tokens: int, usd: float | None) -> None:
        """Replace a reservation by what the call really used."""
        async with self._db.write() as session:
            await session.execute(
                update(ModelUsageRow)
                .where(ModelUsageRow.id == row_id)
                .values(input_tokens=input_tokens, output_tokens=output_tokens, usd=usd)
            )


async def _spent(session: AsyncSession, incident_id: str | None, now: datetime) -> Spent:
    row = ModelUsageRow
    tokens = 0
    if incident_id is not None:
        query = select(func.sum(row.input_tokens + row.output_tokens)).where(row.incident_id == incident_id)
        tokens = await session.scalar(query) or 0
    calls = await session.scalar(select(func.count()).where(row.at > now - timedelta(hours=1)))
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    money = await session.execute(
        select(func.sum(row.usd), func.count() - func.count(row.usd)).select_from(row).where(row.at >= month)
    )
    usd, unpriced = money.one()
    return Spent(int(tokens), int(calls or 0), float(usd or 0.0), int(unpriced or 0))
