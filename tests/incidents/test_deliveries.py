"""The outbox: one message per key, leases, back-off, giving up."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from incidents.database import Database
from incidents.deliveries import LEASE, LONGEST_DELAY, MAX_ATTEMPTS, Deliveries, Delivery
from incidents.seen_events import KEPT, SeenEvents
from incidents.tables import DeliveryRow, SeenEventRow
from tests.feishu_samples import NOW, approval, incident, record


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outbox(database: Database, clock: Clock) -> Deliveries:
    return Deliveries(database, now=clock, jitter=lambda: 0.999)


async def add(outbox: Deliveries, key: str, *, supersedes: str | None = None, kind: str = "notice") -> bool:
    return await outbox.enqueue(
        key,
        incident_id="inc_1",
        channel="feishu",
        kind=kind,
        payload={"card": {"key": key}, "approval_id": approval().id},
        supersedes=supersedes,
    )


async def claimed(outbox: Deliveries) -> Delivery:
    delivery = await outbox.claim()
    assert delivery is not None
    return delivery


async def test_a_key_is_queued_once_ever(outbox: Deliveries) -> None:
    assert await add(outbox, "a")
    assert not await add(outbox, "a")
    await outbox.sent(await claimed(outbox), "om_1")
    assert not await add(outbox, "a")
    assert await outbox.claim() is None


async def test_concurrent_producers_make_one_message(outbox: Deliveries, database: Database) -> None:
    other = Deliveries(database)
    added = await asyncio.gather(*(add(box, "a") for box in [outbox, other] * 5))
    assert sum(added) == 1


async def test_a_lease_keeps_others_away_until_it_ends(outbox: Deliveries, clock: Clock) -> None:
    await add(outbox, "a")
    first = await claimed(outbox)
    assert await outbox.claim() is None
    clock.advance(LEASE.total_seconds() + 1)  # its holder died
    second = await claimed(outbox)
    assert (second.id, second.attempts) == (first.id, 2)
    await outbox.failed(first, "late news from the dead", retryable=False)  # its lease is over
    assert (await outbox.receipt("a")).state == "queued"  # type: ignore[union-attr]
    await outbox.sent(second, "om_1")
    assert (await outbox.receipt("a")).message_id == "om_1"  # type: ignore[union-attr]


async def test_two_processes_never_lease_the_same_message(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'shared.db'}"
    databases = [await Database.open(url) for _ in range(2)]  # no lock in common but the database's
    boxes = [Deliveries(database) for database in databases]
    for number in range(20):
        await add(boxes[0], f"k{number}")
    taken: list[str] = []

    async def work(outbox: Deliveries) -> None:
        while (delivery := await outbox.claim()) is not None:
            taken.append(delivery.id)
            await outbox.sent(delivery)

    await asyncio.gather(*(work(box) for box in boxes * 2))
    for database in databases:
        await database.close()
    assert len(taken) == len(set(taken)) == 20


async def test_failures_back_off_and_end(outbox: Deliveries, clock: Clock, database: Database) -> None:
    await add(outbox, "a")
    waits = []
    with capture_logs() as logs:
        for _ in range(MAX_ATTEMPTS):
            delivery = await claimed(outbox)
            await outbox.failed(delivery, "no route", retryable=True)
            async with database.read() as session:
                due = (await session.get_one(DeliveryRow, delivery.id)).next_attempt_at
            waits.append((due - clock.now).total_seconds())
            clock.now = due
    assert waits[:6] == pytest.approx([2, 4, 8, 16, 32, 64], rel=0.01)
    assert max(waits) <= LONGEST_DELAY
    assert (await outbox.receipt("a")).state == "dead"  # type: ignore[union-attr]
    assert await outbox.claim() is None
    assert [entry["event"] for entry in logs] == ["message not delivered"]
    assert logs[0]["error"] == "no route"


async def test_a_final_refusal_is_not_retried(outbox: Deliveries, clock: Clock) -> None:
    await add(outbox, "a")
    await outbox.failed(await claimed(outbox), "card refused", retryable=False)
    clock.advance(1e6)
    assert await outbox.claim() is None


async def test_the_vendors_wish_to_wait_is_kept(outbox: Deliveries, clock: Clock) -> None:
    await add(outbox, "a")
    await outbox.failed(await claimed(outbox), "429", retryable=True, retry_after=60)
    clock.advance(59)
    assert await outbox.claim() is None
    clock.advance(2)
    await claimed(outbox)


async def test_jitter_spreads_retries(database: Database, clock: Clock) -> None:
    early = Deliveries(database, now=clock, jitter=lambda: 0.0)
    await add(early, "a")
    await early.failed(await claimed(early), "no route", retryable=True)
    clock.advance(1.01)  # half of the two seconds
    await claimed(early)


async def test_deferring_costs_no_attempt(outbox: Deliveries, clock: Clock) -> None:
    await add(outbox, "a")
    for _ in range(MAX_ATTEMPTS * 2):
        delivery = await claimed(outbox)
        assert delivery.attempts == 1
        await outbox.defer(delivery, 5)
        clock.advance(5)


async def test_a_newer_state_supersedes_what_is_queued(outbox: Deliveries) -> None:
    await add(outbox, "result:apr_1:x")
    await add(outbox, "result:apr_10:x")
    await add(outbox, "result:apr%1:x")
    await add(outbox, "result:apr_1:y", supersedes="result:apr_1:")
    keys = [(await claimed(outbox)).dedupe_key for _ in range(3)]
    assert sorted(keys) == ["result:apr%1:x", "result:apr_10:x", "result:apr_1:y"]
    assert (await outbox.receipt("result:apr_1:x")).state == "superseded"  # type: ignore[union-attr]


async def test_the_oldest_goes_first(outbox: Deliveries, clock: Clock) -> None:
    for key in ("b", "a", "c"):
        await add(outbox, key)
        clock.advance(1)
    assert [(await claimed(outbox)).dedupe_key for _ in range(3)] == ["b", "a", "c"]


async def test_a_requests_message_is_noted_on_its_approval(outbox: Deliveries, database: Database) -> None:
    from incidents.approvals import ApprovalStore

    await record(database, approval(), incident())
    await add(outbox, "request:1", kind="request")
    await outbox.sent(await claimed(outbox), "om_9")
    assert (await ApprovalStore(database).get(approval().id)).channel_message_id == "om_9"


async def test_an_event_is_seen_once(database: Database) -> None:
    events = SeenEvents(database)
    answers = await asyncio.gather(*(events.seen("feishu", "e1") for _ in range(10)))
    assert sorted(answers) == [False] + [True] * 9
    assert not await events.seen("other", "e1")


async def test_old_events_are_forgotten(database: Database, clock: Clock) -> None:
    events = SeenEvents(database, now=clock)
    await events.seen("feishu", "e1")
    clock.advance(KEPT.total_seconds() + 1)
    await events.seen("feishu", "e2")
    async with database.read() as session:
        assert await session.get(SeenEventRow, ("feishu", "e1")) is None
