"""Conversations of the chat: turns in the database, readable by their owner alone."""

from __future__ import annotations

from typing import Literal, cast

from sqlalchemy import select

from errors import NotFound
from incidents.database import Database, utcnow
from incidents.models import new_id
from incidents.tables import MessageRow

Role = Literal["user", "assistant"]
_KEPT_CHARS = 20_000


class Conversations:
    """The `messages` table. Each message carries its owner; a conversation has one."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def open(self, conversation_id: str | None, owner: str) -> str:
        """The id to go on with; a new one for None. Raises NotFound for one that is not the owner's."""
        if conversation_id is None:
            return new_id("cnv")
        query = select(MessageRow.owner).where(MessageRow.conversation_id == conversation_id).limit(1)
        async with self._db.read() as session:
            found = await session.scalar(query)
        if found != owner:  # another one's conversation is as good as none
            raise NotFound(f"you have no conversation {conversation_id[:80]!r}")
        return conversation_id

    async def add(self, conversation_id: str, owner: str, role: Role, text: str, incident_id: str | None) -> None:
        async with self._db.write() as session:
            session.add(
                MessageRow(
                    conversation_id=conversation_id,
                    owner=owner,
                    role=role,
                    text=text[:_KEPT_CHARS],
                    incident_id=incident_id,
                    at=utcnow(),
                )
            )

    async def turns(self, conversation_id: str, owner: str, limit: int = 12) -> list[tuple[Role, str]]:
        """The last turns, oldest first."""
        rows = await self._rows(conversation_id, owner, limit)
        return [(cast(Role, row.role), row.text) for row in reversed(rows)]

    async def subject(self, conversation_id: str, owner: str) -> str | None:
        """The incident that was last spoken about."""
        rows = await self._rows(conversation_id, owner, 50)
        return next((row.incident_id for row in rows if row.incident_id), None)

    async def _rows(self, conversation_id: str, owner: str, limit: int) -> list[MessageRow]:
        query = (
            select(MessageRow)
            .where(MessageRow.conversation_id == conversation_id, MessageRow.owner == owner)
            .order_by(MessageRow.id.desc())
            .limit(limit)
        )
        async with self._db.read() as session:
            return list((await session.scalars(query)).all())
