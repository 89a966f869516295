"""Button presses over HTTP: the chat, the callback, the vote in the database, and the card afterwards."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import select

import tools.feishu.callback
from agents.notifier import Notifier
from api.problems import install
from api.routes.feishu import router
from incidents.approvals import ApprovalStore
from incidents.database import utcnow
from incidents.plan import Approval, ApprovalState
from incidents.tables import AuditRow, VoteRow
from incidents.voting import Ballot, Voting
from tests.feishu_samples import approval, incident, record
from tests.standins.feishu import FORGED, FeishuStandIn, Message, Variant
from tests.standins.feishu_fixtures import feishu, feishu_server
from tests.standins.feishu_schema import buttons_of, visible_text

__all__ = ["feishu", "feishu_server"]

PATH = "/api/v1/feishu/callback"


@dataclass
class Runner:
    """Votes for real; resuming the incident is left out."""

    voting: Voting
    delay: float = 0.0
    calls: list[dict[str, Any]] = field(default_factory=list)

    async def decide(self, approval_id: str, **arguments: Any) -> Approval:
        self.calls.append(arguments)
        await asyncio.sleep(self.delay)
        return await self.voting.decide(approval_id, Ballot(**arguments))


@dataclass
class Desk:
    """The service with one request in the chat. Alice and bob may approve, mallory may not."""

    parts: Any
    url: str
    feishu: FeishuStandIn

    async def ask(self, **changes: Any) -> tuple[Approval, Message]:
        changes = {"issued_at": utcnow() - timedelta(seconds=5)} | changes
        asked = approval(**changes)
        await record(self.parts.database, asked, incident())
        notifier = Notifier(self.parts.settings, self.parts.database)
        await notifier.request(incident(), asked)
        await notifier.deliver_due()
        await notifier.close()
        return asked, self.feishu.only_message()

    async def state(self, asked: Approval) -> ApprovalState:
        return (await self.parts.approvals.get(asked.id)).state

    async def count(self, table: type[VoteRow] | type[AuditRow]) -> int:
        async with self.parts.database.read() as session:
            return len((await session.scalars(select(table))).all())


@asynccontextmanager
async def served(parts: Any) -> AsyncIterator[str]:
    """The callback route alone: building the whole API takes longer than most of these tests."""
    app = FastAPI()
    app.state.services = parts
    install(app)
    app.include_router(router)
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        task = asyncio.create_task(server._serve([listener]))
        while not server.started:
            await asyncio.sleep(0.005)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await task


@pytest.fixture
async def desk(parts: Any, feishu: FeishuStandIn, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setattr(tools.feishu.callback, "DECIDE_SECONDS", 20.0)  # these tests are not about time
    feishu.answer_seconds = 30.0
    parts.settings = parts.settings.model_copy(update={"feishu": feishu.settings()})
    approvers = {feishu.identity(name): ["approver"] for name in ("ou_alice", "ou_bob")}
    parts.approvals = ApprovalStore(parts.database)
    parts.runner = Runner(Voting(parts.database, approvers=approvers, allow_self_approval=False))
    async with served(parts) as url:
        feishu.callback_url = f"{url}{PATH}"
        yield Desk(parts, url, feishu)


async def test_a_press_approves(desk: Desk) -> None:
    asked, message = await desk.ask()
    pressed = await desk.feishu.press(message.id, "approve")
    assert pressed.client_code == 0
    assert pressed.toast["type"] == "success"
    settled = await desk.parts.approvals.get(asked.id)
    assert settled.state is ApprovalState.APPROVED
    assert [(vote.identity, vote.channel) for vote in settled.votes] == [("feishu:tenant1/ou_alice", "feishu")]
    assert not buttons_of(message.card)
    assert "ou_alice" in visible_text(message.card)


async def test_the_whole_service_lets_a_press_in_and_a_forgery_not(desk: Desk, service: Any) -> None:
    asked, message = await desk.ask()
    desk.feishu.callback_url = f"{service.url}{PATH}"
    forged = await desk.feishu.press(message.id, "approve", variant="unsigned")
    assert forged.status == 403
    giant = await desk.feishu.press(message.id, "approve", variant="giant")
    assert giant.status in (403, 413)  # the service's general limit may come first
    assert await desk.state(asked) is ApprovalState.PENDING
    assert (await desk.feishu.press(message.id, "approve")).client_code == 0
    assert await desk.state(asked) is ApprovalState.APPROVED


async def test_a_press_rejects(desk: Desk) -> None:
    asked, message = await desk.ask()
    pressed = await desk.feishu.press(message.id, "reject", "ou_bob")
    assert pressed.toast["content"] == "Rejected: nothing was changed"
    assert await desk.state(asked) is ApprovalState.REJECTED


async def test_many_presses_at_once_are_one_decision(desk: Desk) -> None:
    asked, message = await desk.ask()
    presses = await asyncio.gather(*(desk.feishu.press(message.id, "approve", version=0) for _ in range(20)))
    assert {pressed.client_code for pressed in presses} == {0}
    assert await desk.state(asked) is ApprovalState.APPROVED
    assert await desk.count(VoteRow) == 1


async def test_replayed_bytes_decide_nothing(desk: Desk) -> None:
    asked, message = await desk.ask(quorum=2)
    pressed = await desk.feishu.press(message.id, "approve")
    replays = await asyncio.gather(*(desk.feishu.replay(pressed) for _ in range(10)))
    assert {replay.client_code for replay in replays} == {0}
    assert len(desk.parts.runner.calls) == 1
    assert await desk.state(asked) is ApprovalState.PENDING


@pytest.mark.parametrize("variant", FORGED)
async def test_forged_presses_are_refused_alike(desk: Desk, variant: Variant) -> None:
    asked, message = await desk.ask()
    forged = await desk.feishu.press(message.id, "approve", variant=variant)
    assert forged.client_code == 200671
    assert forged.status == 403
    assert (forged.reply["title"], forged.reply["detail"]) == ("Callback rejected", "callback rejected")
    assert await desk.state(asked) is ApprovalState.PENDING
    assert not desk.parts.runner.calls
    assert await desk.count(AuditRow) == 0


async def test_a_stranger_decides_nothing(desk: Desk) -> None:
    asked, message = await desk.ask()
    for open_id, tenant in (("ou_mallory", None), ("ou_alice", "tenant2")):
        pressed = await desk.feishu.press(message.id, "approve", open_id, tenant)
        assert pressed.client_code == 0
        assert pressed.toast["type"] == "error"
        assert "not an approver" in pressed.toast["content"]
    assert await desk.state(asked) is ApprovalState.PENDING
    assert buttons_of(message.card)  # those who may decide still can


async def test_the_requester_cannot_approve(desk: Desk) -> None:
    asked = approval(issued_at=utcnow() - timedelta(seconds=5))
    me = desk.feishu.identity("ou_alice")
    plan = asked.plan.model_copy(update={"requested_by": me})
    mine = asked.model_copy(update={"plan": plan, "digest": plan.digest(), "requested_by": me})
    await record(desk.parts.database, mine, incident())
    notifier = Notifier(desk.parts.settings, desk.parts.database)
    await notifier.request(incident(), mine)
    await notifier.deliver_due()
    await notifier.close()
    pressed = await desk.feishu.press(desk.feishu.only_message().id, "approve")
    assert pressed.toast["type"] == "error"
    assert await desk.state(mine) is ApprovalState.PENDING


async def test_a_press_after_expiry_is_told_so(desk: Desk) -> None:
    asked, message = await desk.ask(issued_at=utcnow() - timedelta(hours=1))
    pressed = await desk.feishu.press(message.id, "approve")
    assert pressed.client_code == 0
    assert pressed.toast["type"] == "warning"
    assert "expired" in pressed.toast["content"]
    assert await desk.state(asked) is ApprovalState.EXPIRED
    assert not buttons_of(message.card)
    again = await desk.feishu.press(message.id, "approve", version=0)  # a client that did not refresh
    assert "expired" in again.toast["content"]


async def test_a_press_on_what_somebody_else_decided(desk: Desk) -> None:
    asked, message = await desk.ask()
    await desk.feishu.press(message.id, "reject", "ou_bob")
    late = await desk.feishu.press(message.id, "approve", "ou_alice", version=0)
    assert late.toast["content"] == "Too late, already: rejected, nothing was changed"
    assert await desk.state(asked) is ApprovalState.REJECTED


async def test_two_people_are_two_people(desk: Desk) -> None:
    asked, message = await desk.ask(quorum=2)
    for _ in range(3):
        pressed = await desk.feishu.press(message.id, "approve", "ou_alice")
        assert pressed.toast["content"] == "Recorded: 1 of 2 approvals"
        assert buttons_of(message.card)
    assert await desk.state(asked) is ApprovalState.PENDING
    pressed = await desk.feishu.press(message.id, "approve", "ou_bob")
    assert pressed.toast["type"] == "success"
    assert await desk.state(asked) is ApprovalState.APPROVED


async def test_a_missing_core_needs_the_waiving_button(desk: Desk) -> None:
    asked, message = await desk.ask(core=False)
    refused = await desk.feishu.press(message.id, "approve")
    assert refused.toast["type"] == "warning"
    assert "core is not captured" in refused.toast["content"]
    waived = await desk.feishu.press(message.id, "approve_waive")
    assert waived.toast["type"] == "success"
    assert (await desk.parts.approvals.get(asked.id)).votes[0].waive_evidence


async def test_a_client_that_edits_its_button_gets_no_further(desk: Desk) -> None:
    asked, message = await desk.ask()
    value = {"v": 1, "approval_id": asked.id, "verdict": "approve", "digest": "0" * 64, "waive": True}
    pressed = await desk.feishu.press(message.id, "approve", value=value)
    assert pressed.toast["type"] == "warning"
    assert "another plan" in pressed.toast["content"]
    missing = await desk.feishu.press(message.id, "approve", value=value | {"approval_id": "apr_" + "f" * 32})
    assert missing.toast["content"] == "There is no such request"
    assert await desk.state(asked) is ApprovalState.PENDING


async def test_a_decision_slower_than_feishus_patience(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools.feishu.callback, "DECIDE_SECONDS", 0.05)
    asked, message = await desk.ask()
    desk.parts.runner.delay = 0.2
    pressed = await desk.feishu.press(message.id, "approve")
    assert pressed.client_code == 0
    assert "the card will show it" in pressed.toast["content"]
    for _ in range(3000):
        if await desk.state(asked) is ApprovalState.APPROVED:
            break
        await asyncio.sleep(0.02)
    assert await desk.state(asked) is ApprovalState.APPROVED


async def test_chinese_to_the_end(desk: Desk) -> None:
    desk.parts.settings = desk.parts.settings.model_copy(update={"language": "zh"})
    _, message = await desk.ask()
    pressed = await desk.feishu.press(message.id, "approve")
    assert pressed.toast["content"] == "已批准，正在执行"
    assert "已批准，执行中" in visible_text(message.card)


async def test_the_address_is_verified(desk: Desk) -> None:
    answer = await desk.feishu.verify_url("c0ffee")
    assert (answer.status_code, answer.json()) == (200, {"challenge": "c0ffee"})
    assert (await desk.feishu.verify_url("c0ffee", token="wrong")).status_code == 403


async def test_a_giant_body_is_not_read(desk: Desk) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 65536
            yield b"x" * 65536

    async with httpx.AsyncClient(timeout=100, base_url=desk.url, verify=False) as client:
        assert (await client.post(PATH, content=b"x" * 65_537)).status_code == 403
        try:
            answer = await client.post(PATH, content=endless())
        except httpx.TransportError:
            pass  # the server closed while we were still sending
        else:
            assert answer.status_code == 403
    assert sent < 32 << 20


@pytest.mark.parametrize("missing", ["encrypt_key", "verification_token"])
async def test_without_both_keys_there_is_no_callback(desk: Desk, missing: str) -> None:
    asked, message = await desk.ask()
    unkeyed = desk.feishu.settings(**{missing: None})
    desk.parts.settings = desk.parts.settings.model_copy(update={"feishu": unkeyed})
    pressed = await desk.feishu.press(message.id, "approve")
    assert (pressed.client_code, pressed.status) == (200671, 503)
    assert f"feishu.{missing}" in pressed.reply["detail"]
    assert await desk.state(asked) is ApprovalState.PENDING


async def test_a_database_that_is_gone_is_a_toast_and_no_decision(desk: Desk) -> None:
    _, message = await desk.ask()

    async def broken(*_: Any, **__: Any) -> Approval:
        raise OSError("disk I/O error")

    desk.parts.runner.voting.decide = broken
    pressed = await desk.feishu.press(message.id, "approve")
    assert pressed.client_code == 0
    assert pressed.toast["type"] == "error"
    assert "disk" not in pressed.toast["content"]
