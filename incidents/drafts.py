"""Working papers of an incident: each specialist's own diagnosis, and the plan before it is asked for.

They are inputs to what the record says, never the record: an approval holds its own copy of its plan.
"""

from __future__ import annotations

from errors import NotFound
from incidents.database import Database
from incidents.models import Diagnosis
from incidents.plan import Plan
from incidents.tables import DraftRow


class Drafts:
    """Drafts by incident and name; saving replaces."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def save(self, incident_id: str, agent: str, diagnosis: Diagnosis) -> None:
        await self._save(incident_id, agent, diagnosis.model_dump(mode="json", by_alias=True))

    async def load(self, incident_id: str, agent: str) -> Diagnosis | None:
        document = await self._load(incident_id, agent)
        return None if document is None else Diagnosis.model_validate(document)

    async def save_plan(self, incident_id: str, plan: Plan) -> None:
        await self._save(incident_id, "plan", plan.model_dump(mode="json"))

    async def load_plan(self, incident_id: str) -> Plan:
        document = await self._load(incident_id, "plan")
        if document is None:
            raise NotFound(f"incident {incident_id} has no plan")
        return Plan.model_validate(document)

    async def _save(self, incident_id: str, name: str, document: dict[str, object]) -> None:
        async with self._db.write() as session:
            await session.merge(DraftRow(incident_id=incident_id, name=name, document=document))

    async def _load(self, incident_id: str, name: str) -> dict[str, object] | None:
        async with self._db.read() as session:
            row = await session.get(DraftRow, (incident_id, name))
        return row.document if row else None
