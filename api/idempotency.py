"""Idempotency keys: a request repeated with the same `Idempotency-Key` has its effect once.

After draft-ietf-httpapi-idempotency-key-header-07: the same key with another payload is 422, a request still in
progress is 409, a finished one is answered as it was. Keys belong to their caller and live 24 hours.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import delete

from errors import Conflict, InvalidInput
from incidents.database import Database, utcnow
from incidents.plan import canonical_json
from incidents.tables import IdempotencyRow

KEPT = timedelta(hours=24)
ABANDONED = timedelta(minutes=2)
"""A request in progress for longer than any request takes died with its process; its key may be used again."""


class KeyReused(InvalidInput):
    """The key was already used for something else."""

    title = "Idempotency key reused"
    status = 422


@dataclass(frozen=True)
class Answer:
    """A finished answer, as it is stored and replayed."""

    status: int
    body: dict[str, Any]


class IdempotencyKeys:
    """The keys in the database. The primary key (caller, key) is the arbiter between concurrent requests."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def begin(self, caller: str, key: str, payload: object) -> Answer | None:
        """Claim the key. Returns the stored answer of a finished request, None when this one is to be done.

        Raises KeyReused for another payload, Conflict while the first request is in progress, InvalidInput for a key
        that is not 1 to 255 visible ASCII characters.
        """
        if not (0 < len(key) <= 255 and all("!" <= char <= "~" for char in key)):
            raise InvalidInput("Idempotency-Key must be 1 to 255 visible ASCII characters")
        fingerprint = hashlib.sha256(canonical_json(payload)).hexdigest()
        now = utcnow()
        async with self._db.write() as session:
            await session.execute(delete(IdempotencyRow).where(IdempotencyRow.at < now - KEPT))
            row = await session.get(IdempotencyRow, (caller, key))
            if row is None:
                session.add(
                    IdempotencyRow(caller=caller, key=key, fingerprint=fingerprint, status=None, body=None, at=now)
                )
                return None
            if row.fingerprint != fingerprint:
                raise KeyReused("this Idempotency-Key was used for another request; use a new one")
            if row.status is not None and row.body is not None:
                return Answer(row.status, row.body)
            if row.at > now - ABANDONED:
                raise Conflict("a request with this Idempotency-Key is still in progress; ask again in a moment")
            row.at = now
            return None

    async def finish(self, caller: str, key: str, answer: Answer) -> None:
        """Store the answer that repeats get."""
        async with self._db.write() as session:
            row = await session.get(IdempotencyRow, (caller, key))
            if row is not None:
                row.status, row.body = answer.status, answer.body

    async def release(self, caller: str, key: str) -> None:
        """Forget a request that had no effect, so that it may be tried again."""
        async with self._db.write() as session:
            row = await session.get(IdempotencyRow, (caller, key))
            if row is not None and row.status is None:
                await session.delete(row)
