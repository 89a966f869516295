"""`Idempotency-Key`: one effect, the same answer, and clear refusals."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from pathlib import Path

from sqlalchemy import update

from incidents.database import utcnow
from incidents.models import IncidentStatus
from incidents.tables import IdempotencyRow
from tests.standins.parts import Served, open_parts, served

CRASH = {"deployment": "api", "namespace": "shop", "event": "x", "force": True}
KEY = {"Idempotency-Key": "a-1"}


async def post(service: Served, body=CRASH, headers=KEY, query=""):
    return await service.client.post(f"/api/v1/autofix{query}", json=body, headers=headers)


async def test_a_repeat_gets_the_stored_answer(service: Served):
    first = await post(service)
    await service.parts.incidents.update(first.json()["incident"]["id"], status=IncidentStatus.ANALYSING)
    again = await post(service)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json() and first.headers["location"] == again.headers["location"]
    assert again.headers["idempotent-replayed"] == "true" and "idempotent-replayed" not in first.headers
    assert len(service.parts.runner.submitted) == 1
    await post(service, headers={"Idempotency-Key": "a-2"})
    await post(service, headers={})
    assert len(service.parts.runner.submitted) == 3


async def test_another_payload_is_422_and_key_order_is_no_other_payload(service: Served):
    await post(service)
    assert (await post(service, body=dict(reversed(CRASH.items())))).status_code == 202
    answer = await post(service, body={**CRASH, "event": "y"})
    assert answer.status_code == 422 and answer.json()["title"] == "Idempotency key reused"
    assert len(service.parts.runner.submitted) == 1


async def test_twenty_at_once_have_one_effect_and_in_progress_is_409(service: Served):
    service.parts.runner.gate.clear()
    calls = [asyncio.create_task(post(service)) for _ in range(20)]
    while sum(call.done() for call in calls) < 19:
        await asyncio.sleep(0.01)
    service.parts.runner.gate.set()
    answers = await asyncio.gather(*calls)
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 19
    assert len(service.parts.runner.submitted) == 1


async def test_a_refused_request_frees_its_key(service: Served):
    bad = {"core": {"path": "/etc/passwd"}}
    assert (await post(service, body=bad)).status_code == 422
    assert (await post(service, body=CRASH)).status_code == 202


async def test_keys_that_cannot_be_keys(service: Served):
    for key in (b"", b"a b", b"\xff", b"x" * 256, b"a\tb"):
        answer = await service.client.post("/api/v1/autofix", json=CRASH, headers={"Idempotency-Key": key})
        assert answer.status_code == 400, key
    assert service.parts.runner.submitted == []


async def test_keys_end_after_a_day_and_abandoned_ones_after_two_minutes(service: Served):
    await post(service)
    async with service.parts.database.write() as session:
        await session.execute(update(IdempotencyRow).values(at=utcnow() - timedelta(hours=25)))
    assert (await post(service, body={**CRASH, "event": "y"})).status_code == 202
    async with service.parts.database.write() as session:  # as if the process had died before it could answer
        await session.execute(update(IdempotencyRow).values(status=None, body=None))
    assert (await post(service, body={**CRASH, "event": "y"})).status_code == 409
    async with service.parts.database.write() as session:
        await session.execute(update(IdempotencyRow).values(at=utcnow() - timedelta(minutes=3)))
    assert (await post(service, body={**CRASH, "event": "y"})).status_code == 202


async def test_a_waiting_repeat_gets_the_end(service: Served):
    first = await post(service)
    await service.parts.incidents.update(first.json()["incident"]["id"], status=IncidentStatus.UNKNOWN)
    ended = await post(service, query="?wait=5")
    assert ended.status_code == 200 and ended.json()["incident"]["status"] == "unknown"
    assert (await post(service)).json() == ended.json()


async def test_keys_belong_to_their_callers(tmp_path: Path):
    keys = [{"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "scopes": ["autofix"]} for name in "ab"]
    async with open_parts(tmp_path, keys=keys) as parts, served(parts) as service:
        for name in "ab":
            body = {**CRASH, "event": name}
            assert (await post(service, body=body, headers={**KEY, "X-API-Key": name})).status_code == 202
        assert len(parts.runner.submitted) == 2
