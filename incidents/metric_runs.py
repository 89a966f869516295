"""Analyses of metrics as they were answered, and what people set for the next ones."""

from __future__ import annotations

from sqlalchemy import delete, select

from errors import NotFound
from incidents.audit import AuditLog
from incidents.database import Database, utcnow
from incidents.metric_charts import ChartedSeries, MetricRun
from incidents.metric_report import MetricReport
from incidents.models import new_id
from incidents.tables import MetricConfigRow, MetricRunRow

KEPT = 500
"""Analyses that belong to no incident; older ones go."""
_ONLY = 1


class MetricRuns:
    """Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def save(
        self,
        report: MetricReport,
        charts: list[ChartedSeries],
        *,
        requested_by: str,
        incident_id: str | None = None,
    ) -> MetricRun:
        """Keep an analysis. An incident has one: a later one takes its place."""
        run = MetricRun(
            id=new_id("rca"),
            created_at=utcnow(),
            requested_by=requested_by,
            incident_id=incident_id,
            report=report,
            charts=charts,
        )
        row = MetricRunRow(
            id=run.id, created_at=run.created_at, incident_id=incident_id, document=run.model_dump(mode="json")
        )
        async with self._db.write() as session:
            if incident_id is not None:
                await session.execute(delete(MetricRunRow).where(MetricRunRow.incident_id == incident_id))
            else:
                free = select(MetricRunRow.id).where(MetricRunRow.incident_id.is_(None))
                old = free.order_by(MetricRunRow.created_at.desc()).offset(KEPT - 1)
                await session.execute(delete(MetricRunRow).where(MetricRunRow.id.in_(old)))
            session.add(row)
        return run

    async def get(self, run_id: str) -> MetricRun:
        """Raises NotFound."""
        async with self._db.read() as session:
            row = await session.get(MetricRunRow, run_id)
        if row is None:
            raise NotFound(f"no analysis {run_id!r}; the newest {KEPT} are kept")
        return MetricRun.model_validate(row.document)

    async def of_incident(self, incident_id: str) -> MetricRun | None:
        query = select(MetricRunRow).where(MetricRunRow.incident_id == incident_id)
        async with self._db.read() as session:
            row = await session.scalar(query.limit(1))
        return MetricRun.model_validate(row.document) if row else None

    async def config(self) -> dict[str, object]:
        """What was set, by name; what is not in it has its default."""
        async with self._db.read() as session:
            row = await session.get(MetricConfigRow, _ONLY)
        return dict(row.document) if row else {}

    async def set_config(self, changed: dict[str, object], actor: str, audit: AuditLog) -> dict[str, object]:
        """Change what is given and append who did it to the audit log, both or neither. Returns all that is set."""
        async with self._db.write() as session:
            row = await session.get(MetricConfigRow, _ONLY)
            before = dict(row.document) if row else {}
            after = {**before, **changed}
            await session.merge(MetricConfigRow(id=_ONLY, document=after))
            was = {name: before.get(name) for name in changed}
            await audit.append_in(session, actor, "rca.config", data={"before": was, "after": changed})
        return after
