"""What is learned of ended incidents: by what keys it is found, within what bounds, out of what databases."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, func, select, text

from incidents import memory as memory_module
from incidents.database import MIGRATIONS, Database
from incidents.memory import KEPT_OF_ONE, LEARNED_AT_ONCE, Memory
from incidents.models import CauseClass, ObjectRef
from incidents.tables import LessonRow

AT = datetime(2026, 1, 1, tzinfo=UTC)
API = ObjectRef(kind="Deployment", namespace="shop", name="api")
OOM = {CauseClass.OOM_KILLED}


def diagnosis(ref: ObjectRef = API, cause: object = "oom_killed") -> dict[str, Any]:
    return {"causes": [{"class": cause, "object": {**ref.model_dump(), "container": "main"}}]}


async def ended(database: Database, numbers: range, ref: ObjectRef = API, *, status: str = "diagnosed") -> None:
    """Incidents as a service before memory left them, one an hour."""
    rows = [
        {
            "id": f"inc_{number:08}",
            "at": f"{AT + timedelta(hours=number):%Y-%m-%d %H:%M:%S.%f}",
            "status": status,
            "kind": ref.kind,
            "namespace": ref.namespace,
            "name": ref.name,
            "diagnosis": json.dumps(diagnosis(ref)),
        }
        for number in numbers
    ]
    insert = (
        "insert into incidents"
        " (id, created_at, updated_at, status, kind, namespace, name, document, diagnosis, learned)"
        " values (:id, :at, :at, :status, :kind, :namespace, :name, '{}', :diagnosis, 0)"
    )
    async with database.write() as session:
        await session.execute(text(insert), rows)


async def kept(database: Database) -> int:
    async with database.read() as session:
        return await session.scalar(select(func.count()).select_from(LessonRow)) or 0


async def test_ten_thousand_old_incidents_are_learned_in_bounded_steps_the_own_namespace_first(
    database: Database,
) -> None:
    other = ObjectRef(kind="Deployment", namespace="noise", name="job")
    await ended(database, range(10_000), other)
    await ended(database, range(10_000, 10_003))
    memory = Memory(database)
    assert await memory.learn("shop") == LEARNED_AT_ONCE
    found = await memory.of_object(API, OOM, but="inc_00010002")
    assert [item.incident_id for item in found] == ["inc_00010001", "inc_00010000"]
    assert found[1].again_at == found[0].began_at and found[0].object.container == "main"
    assert await kept(database) == 3 + KEPT_OF_ONE  # of one cause on one object no more is kept
    assert len(await memory.of_object(other, OOM, but="", limit=20)) == 20


async def test_every_query_is_served_by_an_index(database: Database) -> None:
    async with database.read() as session:
        for query, index in (
            ("select * from lessons where namespace='a' and kind='b' and name='c' and cause_class in ('d')"
             " order by acted desc, began_at desc limit 20", "ix_lessons_owner"),
            ("select * from lessons where group_id='g' order by acted desc limit 20", "ix_lessons_group_id"),
            ("select id from incidents where learned is 0 and status in ('fixed') limit 4", "ix_incidents_"),
        ):  # fmt: skip
            plan = [str(row) for row in (await session.execute(text(f"explain query plan {query}"))).all()]
            assert any(index in line for line in plan) and not any("SCAN lessons" in line for line in plan), plan


async def test_all_that_is_kept_is_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "KEPT", 5)
    for number in range(9):
        await ended(database, range(number, number + 1), API.model_copy(update={"name": f"api-{number}"}))
    memory = Memory(database)
    assert await memory.learn() == 9
    assert await kept(database) == 5
    assert await memory.learn() == 0  # what was forgotten is not learned again


async def test_only_the_same_cause_on_the_same_object_is_found(database: Database) -> None:
    await ended(database, range(1))
    await ended(database, range(1, 2), API.model_copy(update={"namespace": "shop-2"}))
    await ended(database, range(2, 3), API.model_copy(update={"kind": "StatefulSet"}))
    await ended(database, range(3, 4), status="awaiting_approval")
    memory = Memory(database)
    await memory.learn()
    assert [item.incident_id for item in await memory.of_object(API, OOM, but="")] == ["inc_00000000"]
    assert await memory.of_object(API, {CauseClass.DISK_FULL}, but="") == []
    assert await memory.of_object(API, OOM, but="inc_00000000") == []
    assert await memory.of_object(API.model_copy(update={"container": "side"}), OOM, but="") != []
    assert await memory.named([]) == [] and await memory.of_crash("none", but="") == []


@pytest.mark.parametrize(
    "stored",
    [
        None, [], "x", {}, {"causes": "x"}, {"causes": [7]}, {"causes": [{"class": ["x"], "object": {}}]},
        {"causes": [{"class": "no_such_class", "object": {"kind": "Pod", "name": "x"}}]},
        {"causes": [{"class": "unknown", "object": {"kind": "Pod", "name": "x"}}]},
        {"causes": [{"class": "oom_killed", "object": {"kind": "Pod", "name": "x" * 9000}}]},
        {"causes": [{"class": "oom_killed", "object": {"kind": 7, "name": None}}]},
    ],
)  # fmt: skip
async def test_what_cannot_be_recognised_again_is_passed_over_once(database: Database, stored: object) -> None:
    await ended(database, range(1))
    async with database.write() as session:
        await session.execute(text("update incidents set diagnosis = :it"), {"it": json.dumps(stored)})
    memory = Memory(database)
    assert (await memory.learn(), await memory.learn(), await kept(database)) == (1, 0, 0)


async def test_a_database_from_before_is_migrated_and_its_incidents_are_learned(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as made:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = made
        command.upgrade(config, "0002")
    engine.dispose()
    with sqlite3.connect(path) as connection:
        at = AT.strftime("%Y-%m-%d %H:%M:%S.%f")
        connection.execute(
            "insert into incidents (id, created_at, updated_at, status, kind, namespace, name, document, diagnosis)"
            " values ('inc_old', ?, ?, 'fixed', 'Deployment', 'shop', 'api', '{}', ?)",
            (at, at, json.dumps(diagnosis())),
        )
    connection.close()
    database = await Database.open(f"sqlite+aiosqlite:///{path}")
    memory = Memory(database)
    assert await memory.learn() == 1
    assert [item.incident_id for item in await memory.of_object(API, OOM, but="")] == ["inc_old"]
    await database.close()
