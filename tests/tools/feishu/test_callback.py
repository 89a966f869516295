"""Opening pushes and answering presses, without a server between."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest

import tools.feishu.callback
from errors import Conflict, Forbidden, NotFound, Refused, ToolFailed, ToolMissing
from incidents.plan import Approval, ApprovalState
from settings import FeishuSettings
from tests.feishu_samples import approval
from tests.standins.feishu import FeishuStandIn, SharedServer
from tests.standins.feishu_press import Sent, build_event, seal
from tools.feishu.callback import Rejected, callback_keys, handle_callback, open_callback
from tools.feishu.crypto import encrypt, event_signature

ASKED = approval()


class Desk:
    """Records decisions and answers as told."""

    def __init__(self, answer: Approval | Exception | None = None, delay: float = 0.0) -> None:
        self.calls: list[dict[str, Any]] = []
        self.answer = answer or approval(ApprovalState.APPROVED)
        self.delay = delay
        self.events: set[str] = set()

    async def decide(self, approval_id: str, **arguments: Any) -> Approval:
        self.calls.append({"approval_id": approval_id, **arguments})
        await asyncio.sleep(self.delay)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def seen(self, event_id: str) -> bool:
        known = event_id in self.events
        self.events.add(event_id)
        return known


@pytest.fixture
def feishu(feishu_server: SharedServer) -> FeishuStandIn:
    return FeishuStandIn(served_by=feishu_server)


def pushed(feishu: FeishuStandIn, variant: str = "genuine", value: Any = None, open_id: str = "ou_alice") -> Sent:
    value = value or {"v": 1, "approval_id": ASKED.id, "verdict": "approve", "digest": ASKED.digest, "waive": False}
    event = build_event(
        feishu,
        message_id="om_1",
        chat_id=feishu.chat_id,
        open_id=open_id,
        tenant_key=feishu.tenant_key,
        value=value,
        variant=variant,
    )
    return seal(feishu, event, variant)


async def handle(feishu: FeishuStandIn, sent: Sent, desk: Desk, **changes: Any) -> dict[str, Any]:
    return await handle_callback(
        sent.headers, sent.body, settings=feishu.settings(**changes), decide=desk.decide, seen=desk.seen
    )


async def test_a_press_is_decided_as_the_operator(feishu: FeishuStandIn) -> None:
    desk = Desk()
    answer = await handle(feishu, pushed(feishu), desk)
    assert desk.calls == [
        {
            "approval_id": ASKED.id,
            "identity": "feishu:tenant1/ou_alice",
            "verdict": "approve",
            "digest": ASKED.digest,
            "waive_evidence": False,
            "channel": "feishu",
            "reason": None,
        }
    ]
    assert answer["toast"]["type"] == "success"
    assert set(answer["toast"]["i18n"]) == {"en_us", "zh_cn"}
    assert answer["card"]["data"]["header"]["title"]["content"] == "Approved, in progress"


async def test_the_toast_speaks_the_configured_language(feishu: FeishuStandIn) -> None:
    answer = await handle(feishu, pushed(feishu), Desk(), language="zh")
    assert answer["toast"]["content"] == "已批准，正在执行"
    assert answer["card"]["data"]["header"]["title"]["content"] == "已批准，执行中"


async def test_a_replay_decides_nothing(feishu: FeishuStandIn) -> None:
    desk, sent = Desk(), pushed(feishu)
    await handle(feishu, sent, desk)
    answer = await handle(feishu, sent, desk)
    assert len(desk.calls) == 1
    assert "card" not in answer


@pytest.mark.parametrize(
    "variant", ["bad_signature", "tampered", "stale", "wrong_token", "unsigned", "plain", "other_app"]
)
async def test_forgeries_are_rejected_alike(feishu: FeishuStandIn, variant: str) -> None:
    desk = Desk()
    with pytest.raises(Rejected) as caught:
        await handle(feishu, pushed(feishu, variant), desk)
    assert str(caught.value) == "callback rejected"
    assert caught.value.status == 403
    assert not desk.calls
    assert not desk.events


async def test_mutated_bodies_are_only_ever_rejected(feishu: FeishuStandIn) -> None:
    random.seed(7)
    desk = Desk()
    sent = pushed(feishu)
    for _ in range(500):
        body = bytearray(sent.body)
        for _ in range(random.randint(1, 6)):
            change = random.randrange(3)
            at = random.randrange(len(body))
            if change == 0:
                body[at] ^= 1 << random.randrange(8)
            elif change == 1:
                del body[at : at + random.randint(1, 40)]
            else:
                body[at:at] = random.randbytes(random.randint(1, 40))
        if bytes(body) == sent.body:
            continue
        for headers in (sent.headers, {}):  # unsigned bodies get as far as decryption
            with pytest.raises(Rejected):
                await handle(feishu, Sent(headers, bytes(body), ""), desk)
    assert not desk.calls


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"1",
        b"{}",
        b'{"header":null}',
        b'{"header":{"token":1}}',
        b'{"type":"url_verification"}',
        b'{"type":"url_verification","token":"no","challenge":"c"}',
        b'{"type":["url_verification"],"token":"x"}',
        b"[" * 3000,
        b'{"header":' * 3000,
        b"\xff\xfe",
    ],
)
@pytest.mark.parametrize("signed", [True, False])
async def test_shapes_that_feishu_never_sends(feishu: FeishuStandIn, plaintext: bytes, signed: bool) -> None:
    body = json.dumps({"encrypt": encrypt(plaintext, feishu.encrypt_key)}).encode()
    for raw in (body, plaintext):
        with pytest.raises(Rejected):
            await handle(feishu, Sent(headers_for(feishu, raw) if signed else {}, raw, ""), Desk())


def headers_for(feishu: FeishuStandIn, body: bytes, timestamp: str | None = None) -> dict[str, str]:
    timestamp = timestamp or str(int(feishu.clock()))
    return {
        "x-lark-request-timestamp": timestamp,
        "x-lark-request-nonce": "n",
        "x-lark-signature": event_signature(timestamp, "n", feishu.encrypt_key, body),
    }


@pytest.mark.parametrize("timestamp", ["", "²", "-1", "1e9", "9" * 40, "nan", "1700000000"])
async def test_odd_and_old_timestamps(feishu: FeishuStandIn, timestamp: str) -> None:
    body = pushed(feishu).body
    headers = headers_for(feishu, body) | {"x-lark-request-timestamp": timestamp}
    headers["x-lark-signature"] = event_signature(timestamp, "n", feishu.encrypt_key, body)
    with pytest.raises(Rejected):
        await handle(feishu, Sent(headers, body, ""), Desk())


@pytest.mark.parametrize(("skew", "accepted"), [(-299, True), (299, True), (-302, False), (302, False)])
def test_the_window_of_age(feishu: FeishuStandIn, skew: int, accepted: bool) -> None:
    sent = pushed(feishu)
    now = datetime.fromtimestamp(feishu.clock() + skew, UTC)
    keys = callback_keys(feishu.settings())
    if accepted:
        assert open_callback(sent.headers, sent.body, keys=keys, now=now)["schema"] == "2.0"
    else:
        with pytest.raises(Rejected):
            open_callback(sent.headers, sent.body, keys=keys, now=now)


async def test_the_challenge_is_answered_signed_or_not(feishu: FeishuStandIn) -> None:
    event = {"challenge": "abc", "token": feishu.verification_token, "type": "url_verification"}
    for variant in ("unsigned", "genuine"):
        assert await handle(feishu, seal(feishu, event, variant), Desk()) == {"challenge": "abc"}
    with pytest.raises(Rejected):
        await handle(feishu, seal(feishu, event, "plain"), Desk())


async def test_other_events_are_acknowledged(feishu: FeishuStandIn) -> None:
    desk = Desk()
    header = {
        "event_id": "e1",
        "token": feishu.verification_token,
        "event_type": "im.message.receive_v1",
        "app_id": feishu.app_id,
    }
    assert await handle(feishu, seal(feishu, {"schema": "2.0", "header": header}, "genuine"), desk) == {}
    assert not desk.calls


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"verdict": "execute"},
        {"digest": "short"},
        {"approval_id": "../x"},
        {"approval_id": 7},
        {"waive": "yes"},
        {"command": "kubectl delete ns shop"},
    ],
)
async def test_a_button_that_is_not_ours_decides_nothing(feishu: FeishuStandIn, change: dict[str, Any]) -> None:
    desk = Desk()
    value = {"v": 1, "approval_id": ASKED.id, "verdict": "approve", "digest": ASKED.digest, "waive": False}
    answer = await handle(feishu, pushed(feishu, value=value | change), desk)
    assert answer["toast"]["type"] == "warning"
    assert not desk.calls


@pytest.mark.parametrize("open_id", ["a/b", "", "x" * 200, "ou 1", "ou_1\n", "ou_é"])
async def test_an_operator_of_odd_shape_is_rejected(feishu: FeishuStandIn, open_id: str) -> None:
    with pytest.raises(Rejected):
        await handle(feishu, pushed(feishu, open_id=open_id), Desk())


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (Forbidden("feishu:tenant1/ou_alice is not an approver"), "error", "not an approver"),
        (Conflict("approval apr_1 is expired"), "warning", "is expired"),
        (Refused("the kill switch is on"), "warning", "kill switch"),
        (NotFound("no approval"), "error", "no such request"),
        (ToolFailed("database password=hunter2secret down"), "error", "try again"),
        (RuntimeError("boom <at id=all>"), "error", "try again"),
        (Conflict("<at id=all> password=hunter2secret " + "x" * 5000), "warning", "Not possible"),
    ],
)
async def test_every_error_becomes_a_toast(feishu: FeishuStandIn, error: Exception, kind: str, said: str) -> None:
    answer = await handle(feishu, pushed(feishu), Desk(error))
    assert answer["toast"]["type"] == kind
    assert said in answer["toast"]["content"]
    assert len(answer["toast"]["content"]) < 300
    assert not [text for text in answer["toast"]["i18n"].values() if "<at" in text or "hunter2" in text]


async def test_a_late_press_is_told_what_happened(feishu: FeishuStandIn) -> None:
    expired = approval(ApprovalState.EXPIRED, outcome="nobody decided in time")

    async def lookup(approval_id: str) -> Approval:
        assert approval_id == expired.id
        return expired

    sent, desk = pushed(feishu), Desk(Conflict("too late"))
    answer = await handle_callback(
        sent.headers, sent.body, settings=feishu.settings(), decide=desk.decide, seen=desk.seen, lookup=lookup
    )
    assert answer["toast"]["content"] == "Too late, already: expired, nothing was changed"
    assert answer["toast"]["type"] == "warning"
    assert answer["card"]["data"]["header"]["title"]["content"] == "Expired: nothing was changed"


async def test_the_first_of_two_approvers_leaves_the_question_open(feishu: FeishuStandIn) -> None:
    answer = await handle(feishu, pushed(feishu), Desk(approval(quorum=2)))
    assert answer["toast"]["content"] == "Recorded: 0 of 2 approvals"
    assert answer["card"]["data"]["header"]["title"]["content"] == "Approval needed"


async def test_a_rejection(feishu: FeishuStandIn) -> None:
    value = {"v": 1, "approval_id": ASKED.id, "verdict": "reject", "digest": ASKED.digest, "waive": False}
    desk = Desk(approval(ApprovalState.REJECTED))
    answer = await handle(feishu, pushed(feishu, value=value), desk)
    assert desk.calls[0]["verdict"] == "reject"
    assert answer["toast"]["content"] == "Rejected: nothing was changed"


async def test_a_slow_decision_is_answered_in_time_and_goes_on(
    feishu: FeishuStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools.feishu.callback, "DECIDE_SECONDS", 0.02)
    desk = Desk(delay=0.15)
    answer = await handle(feishu, pushed(feishu), desk)
    assert "card will show it" in answer["toast"]["content"]
    (late,) = tools.feishu.callback._late
    approved = await late
    assert approved is not None
    assert approved.state is ApprovalState.APPROVED


async def test_no_database_no_decision(feishu: FeishuStandIn) -> None:
    desk = Desk()

    async def broken(event_id: str) -> bool:
        raise OSError("disk full")

    sent = pushed(feishu)
    answer = await handle_callback(sent.headers, sent.body, settings=feishu.settings(), decide=desk.decide, seen=broken)
    assert answer["toast"]["type"] == "error"
    assert not desk.calls


@pytest.mark.parametrize("missing", [{"encrypt_key": None}, {"verification_token": None}, {"encrypt_key": ""}])
async def test_callbacks_need_both_keys(feishu: FeishuStandIn, missing: dict[str, Any]) -> None:
    settings: FeishuSettings = feishu.settings(**missing)
    with pytest.raises(ToolMissing, match=next(iter(missing))):
        callback_keys(settings)
    with pytest.raises(ToolMissing):
        await handle(feishu, pushed(feishu), Desk(), **missing)
