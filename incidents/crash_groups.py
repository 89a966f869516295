"""Groups of crashes and every crash that was seen, in the database: since when, how often, in which revision, where."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from incidents.crash_verdicts import History
from incidents.database import Database, utcnow
from incidents.models import IncidentStatus
from incidents.tables import CrashGroupRow, CrashSightingRow, IncidentRow

MAX_LOADED = 50_000
"""Groups that a service keeps at hand, those that were founded last."""
_NODES = 20
_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Place:
    """Where a crash was, as far as the cluster told. `workload` is `Kind namespace/name`."""

    workload: str | None = None
    revision: int | None = None
    previous_revision: int | None = None
    image: str | None = None
    node: str | None = None
    pod: str | None = None


@dataclass(frozen=True)
class StoredGroup:
    """`members` are stacks as they were recorded; `aliases` other hashes of crashes that belong to the group."""

    id: str
    members: list[dict[str, Any]]
    aliases: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class GroupedCrash:
    """What the analysis of a core says about its group. `member` is its stack, None when the group has enough."""

    group_id: str
    version: int
    signature: str | None
    stack_key: str
    address_sig: str | None
    members: list[dict[str, Any]]


class CrashGroups:
    """The record of groups and sightings. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def load(self, version: int) -> list[StoredGroup]:
        """The groups made by the rules of `version`, oldest first."""
        newest = (
            select(CrashGroupRow)
            .where(CrashGroupRow.version == version)
            .order_by(CrashGroupRow.founded_at.desc(), CrashGroupRow.id)
            .limit(MAX_LOADED)
        )
        hashes = (
            select(CrashSightingRow.group_id, CrashSightingRow.stack_key, CrashSightingRow.address_sig)
            .where(CrashSightingRow.group_id.is_not(None))
            .distinct()
        )
        async with self._db.read() as session:
            rows = (await session.scalars(newest)).all()
            aliases: dict[str, list[str]] = {}
            for group_id, *keys in await session.execute(hashes):
                aliases.setdefault(str(group_id), []).extend(key for key in keys if key)
        return [StoredGroup(row.id, list(row.members), aliases.get(row.id, [])) for row in reversed(rows)]

    async def arrived(self, incident_id: str, identity: str | None, place: Place | None = None) -> None:
        """A crash of this incident came in. A later one takes the group of those before, and what `place` lacks."""
        async with self._db.write() as session:
            before = await session.scalar(
                select(CrashSightingRow)
                .where(CrashSightingRow.incident_id == incident_id, CrashSightingRow.group_id.is_not(None))
                .order_by(CrashSightingRow.id)
                .limit(1)
            )
            known = before or CrashSightingRow()
            told = place or Place()
            where = replace(
                told,
                workload=told.workload or known.workload,
                revision=told.revision or known.revision,
                image=told.image or known.image,
            )
            session.add(
                CrashSightingRow(
                    incident_id=incident_id,
                    at=utcnow(),
                    identity=identity,
                    group_id=known.group_id,
                    analysed=False,
                    stack_key=known.stack_key,
                    address_sig=known.address_sig,
                    **_columns(where),
                )
            )

    async def grouped(
        self, incident_id: str, crash: GroupedCrash, place: Place, *, identity: str | None, analysed: bool
    ) -> History:
        """Put the incident's crashes into their group and say what the record knows of it. A repeat changes nothing."""
        now = utcnow()
        async with self._db.write() as session:
            group = await session.get(CrashGroupRow, crash.group_id)
            if group is None:
                group = CrashGroupRow(
                    id=crash.group_id,
                    version=crash.version,
                    founded_at=now,
                    signature=crash.signature,
                    members=crash.members,
                )
                session.add(group)
                await session.flush()
            else:
                group.members = crash.members or group.members
            mine = select(CrashSightingRow).where(CrashSightingRow.incident_id == incident_id)
            rows = list((await session.scalars(mine.order_by(CrashSightingRow.id))).all())
            if not rows:
                rows = [CrashSightingRow(incident_id=incident_id, at=now, identity=identity, analysed=False)]
                session.add(rows[0])
            for row in rows:
                row.group_id, row.stack_key, row.address_sig = crash.group_id, crash.stack_key, crash.address_sig
                row.identity = row.identity or identity
                for name, value in _columns(place).items():
                    setattr(row, name, getattr(row, name) or value)
            rows[0].analysed = rows[0].analysed or analysed
        return await self.history(crash.group_id, place)

    async def history(self, group_id: str, place: Place) -> History:
        """How often, since when and where crashes of the group were seen; revisions are those of `place.workload`."""
        sighting = CrashSightingRow
        mine = sighting.group_id == group_id
        async with self._db.read() as session:
            count, first, last = (
                await session.execute(select(func.count(), func.min(sighting.at), func.max(sighting.at)).where(mine))
            ).one()
            nodes = (
                await session.scalars(select(sighting.node).where(mine, sighting.node.is_not(None)).distinct())
            ).all()
            first_revision = absent = None
            if place.workload is not None and place.revision is not None:
                here = (mine, sighting.workload == place.workload, sighting.revision.is_not(None))
                first_revision = await session.scalar(select(func.min(sighting.revision)).where(*here))
                absent = place.previous_revision if first_revision == place.revision else None
        names = sorted(node for node in nodes if node)
        return History(
            count=count or 1,
            first_seen=_iso(first),
            last_seen=_iso(last),
            first_revision=str(first_revision) if first_revision is not None else None,
            absent_in=str(absent) if absent is not None else None,
            nodes=names[:_NODES],
            sentence=_sentence(count or 1, first, first_revision, absent, len(names), place),
        )

    async def pods_last_hour(self, group_id: str) -> int | None:
        """Different pods that crashed this way within the last hour; None when no pod is known."""
        row = CrashSightingRow
        query = select(func.count(func.distinct(row.pod))).where(
            row.group_id == group_id, row.at > utcnow() - _HOUR, row.pod.is_not(None)
        )
        async with self._db.read() as session:
            return await session.scalar(query) or None

    async def earlier(self, group_id: str, but: str) -> int:
        """Crashes of the group that other incidents are about."""
        row = CrashSightingRow
        query = select(func.count()).where(row.group_id == group_id, row.incident_id != but)
        async with self._db.read() as session:
            return await session.scalar(query) or 0

    async def incidents_of(self, identity: str, *, ended_within: float) -> list[str]:
        """Incidents of the same crash that a new arrival may join, newest first.

        Those are open ones, and ones that ended within `ended_within` seconds with nothing but a report: where
        something was executed, declined or left to a person, a new crash is news; so it is where no core could be read.
        """
        read = (IncidentRow.status == IncidentStatus.UNKNOWN.value) & CrashSightingRow.group_id.is_not(None)
        reported = (IncidentRow.status == IncidentStatus.DIAGNOSED.value) | read
        still_open = [status.value for status in IncidentStatus if not status.ended]
        recent = IncidentRow.updated_at > utcnow() - timedelta(seconds=ended_within)
        query = (
            select(IncidentRow.id)
            .join(CrashSightingRow, CrashSightingRow.incident_id == IncidentRow.id)
            .where(CrashSightingRow.identity == identity)
            .where(IncidentRow.status.in_(still_open) | (reported & recent))
            .group_by(IncidentRow.id)
            .order_by(func.max(CrashSightingRow.id).desc())
            .limit(8)
        )
        async with self._db.read() as session:
            return list((await session.scalars(query)).all())

    async def analysed(self, identity: str, but: str) -> str | None:
        """The newest other incident in which a debugger read a core of this identity."""
        row = CrashSightingRow
        query = (
            select(row.incident_id)
            .where(row.identity == identity, row.analysed, row.incident_id != but)
            .order_by(row.id.desc())
            .limit(1)
        )
        async with self._db.read() as session:
            return await session.scalar(query)


def _columns(place: Place) -> dict[str, Any]:
    limits = (("workload", 600), ("image", 600), ("node", 253), ("pod", 253))
    cut = {name: value[:limit] if (value := getattr(place, name)) else None for name, limit in limits}
    return {**cut, "revision": place.revision}


def _iso(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z") if at else None


def _sentence(
    count: int, first: datetime | None, first_revision: int | None, absent: int | None, nodes: int, place: Place
) -> str:
    """Such as: first seen in revision 7 of Deployment shop/api, absent in revision 6, 4 times on 2 nodes."""
    if first_revision is not None:
        text = f"First seen in revision {first_revision} of {place.workload}"
    else:
        text = f"First seen {first:%Y-%m-%d %H:%M} UTC" if first else "First seen now"
    if absent is not None:
        text += f", absent in revision {absent}"
    text += f", {count} times" if count > 1 else ", once"
    if nodes:
        text += f" on {nodes} node{'s' if nodes > 1 else ''}"
    return text + " so far."
