"""The audit log's chain: intact as written, broken by any change."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from incidents.audit import GENESIS, AuditBroken, AuditLog
from incidents.database import Database


async def _filled(database: Database) -> AuditLog:
    audit = AuditLog(database)
    for number in range(4):
        await audit.append("api:ann", "vote.counted", incident_id="inc_1", data={"number": number, "text": "é\u2028"})
    return audit


async def test_entries_hold_the_hash_of_the_one_before(database: Database) -> None:
    audit = await _filled(database)
    entries = await audit.entries()
    assert [entry.seq for entry in entries] == [1, 2, 3, 4]
    assert [entry.prev_hash for entry in entries] == [GENESIS, *[entry.hash for entry in entries[:-1]]]
    assert await audit.verify_chain() == 4
    assert await AuditLog(database).entries(incident_id="inc_2") == []


@pytest.mark.parametrize(
    "tamper",
    [
        "UPDATE audit SET actor='api:eve' WHERE seq=2",
        "UPDATE audit SET data='{\"number\": 7}' WHERE seq=3",
        "UPDATE audit SET at='2020-01-01 00:00:00.000000' WHERE seq=1",
        "UPDATE audit SET approval_id='x' WHERE seq=4",
        "UPDATE audit SET hash=prev_hash WHERE seq=4",
        "DELETE FROM audit WHERE seq=2",
        "DELETE FROM audit WHERE seq=1",
        "UPDATE audit SET seq=9 WHERE seq=4",
    ],
)
async def test_any_change_breaks_the_chain(database: Database, tamper: str) -> None:
    audit = await _filled(database)
    async with database.write() as session:
        await session.execute(text(tamper))
    with pytest.raises(AuditBroken, match="audit entry"):
        await audit.verify_chain()


async def test_many_writers_make_one_chain(database: Database) -> None:
    audit = AuditLog(database)
    await asyncio.gather(*(audit.append("gate", "x", data={"number": number}) for number in range(20)))
    assert await audit.verify_chain() == 20


async def test_an_entry_is_undone_with_the_transaction_it_belongs_to(database: Database) -> None:
    audit = await _filled(database)
    with pytest.raises(RuntimeError):
        async with database.write() as session:
            await audit.append_in(session, "gate", "x")
            raise RuntimeError
    assert await audit.verify_chain() == 4


async def test_overlong_identities_from_outside_are_cut(database: Database) -> None:
    entry = await AuditLog(database).append("x" * 1000, "y", approval_id="z" * 1000)
    assert (len(entry.actor), len(entry.approval_id or "")) == (253, 64)
    assert await AuditLog(database).verify_chain() == 1
