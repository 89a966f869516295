"""Notices from the incident to the chat, over HTTP against the strict stand-in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from agents.notifier import Notifier
from incidents.approvals import ApprovalStore
from incidents.database import Database, utcnow
from incidents.models import Diagnosis, DiagnosisStatus, IncidentStatus
from incidents.plan import Approval, ApprovalState
from settings import FeishuSettings, Settings
from tests.feishu_samples import approval, diagnosis, incident, proposal, record
from tests.standins.feishu import FeishuStandIn
from tests.standins.feishu_fixtures import feishu, feishu_server
from tests.standins.feishu_schema import buttons_of, visible_text

__all__ = ["feishu", "feishu_server"]

Make = Callable[..., Notifier]


class Clock:
    """Real time, moved."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def __call__(self) -> datetime:
        return utcnow() + self.offset

    def advance(self, seconds: float) -> None:
        self.offset += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def make(database: Database, feishu: FeishuStandIn, clock: Clock) -> AsyncIterator[Make]:
    made: list[Notifier] = []

    def build(channel: FeishuSettings | None = None, **changes: Any) -> Notifier:
        settings = Settings(feishu=channel or feishu.settings(), **changes)
        made.append(Notifier(settings, database, now=clock))
        return made[-1]

    yield build
    for notifier in made:
        await notifier.close()


@pytest.fixture
def notifier(make: Make) -> Notifier:
    return make()


def title(card: dict[str, Any]) -> str:
    return str(card["header"]["title"]["content"])


async def test_an_incident_from_diagnosis_to_result(
    notifier: Notifier, feishu: FeishuStandIn, database: Database
) -> None:
    asked = approval()
    await record(database, asked, incident())
    assert await notifier.diagnosis(incident(), diagnosis(), [proposal()]) == "queued for feishu"
    assert await notifier.request(incident(), asked) == "queued for feishu"
    assert await notifier.deliver_due() == 2
    told, request = sorted(feishu.messages.values(), key=lambda message: title(message.card), reverse=True)
    assert [title(message.card) for message in (told, request)] == ["Crash diagnosed", "Approval needed"]
    assert list(buttons_of(request.card)) == ["approve", "reject"]
    assert (await ApprovalStore(database).get(asked.id)).channel_message_id == request.id

    done = approval(ApprovalState.DONE, outcome="ready for 60 s")
    await notifier.outcome(incident(status=IncidentStatus.FIXED), done)
    assert await notifier.deliver_due() == 1
    assert len(feishu.messages) == 2
    assert title(feishu.messages[request.id].card) == "Fixed and verified"
    assert "ready for 60 s" in visible_text(feishu.messages[request.id].card)
    assert not buttons_of(feishu.messages[request.id].card)


async def test_a_storm_is_one_message(notifier: Notifier, feishu: FeishuStandIn) -> None:
    said = await asyncio.gather(*(notifier.diagnosis(incident(), diagnosis(), []) for _ in range(30)))
    assert sorted(said)[:1] == ["queued for feishu"]
    assert sorted(said)[1:] == ["told before"] * 29
    await notifier.deliver_due()
    assert await notifier.diagnosis(incident(), diagnosis(), []) == "told before"
    assert len(feishu.messages) == 1
    other = Diagnosis(status=DiagnosisStatus.UNKNOWN)
    assert await notifier.diagnosis(incident(), other, []) == "queued for feishu"


async def test_without_a_channel_nothing_is_queued(make: Make) -> None:
    notifier = make(FeishuSettings())
    assert await notifier.diagnosis(incident(), diagnosis(), []) == "no notification channel is configured"
    assert await notifier.request(incident(), approval()) == "no notification channel is configured"
    assert not await notifier.notice("a", "b", "low")
    assert await notifier.deliver_due() == 0


async def test_expired_and_superseded_requests_lose_their_buttons(notifier: Notifier, feishu: FeishuStandIn) -> None:
    for number, state in enumerate((ApprovalState.EXPIRED, ApprovalState.SUPERSEDED), 1):
        await notifier.request(incident(), approval(number=number))
        await notifier.deliver_due()
        await notifier.outcome(incident(status=IncidentStatus.EXPIRED), approval(state, number=number))
        await notifier.deliver_due()
    assert [title(message.card) for message in feishu.messages.values()] == [
        "Expired: nothing was changed",
        "Replaced by a newer plan",
    ]
    assert not any(buttons_of(message.card) for message in feishu.messages.values())


async def test_a_vendor_that_was_down_gets_everything_once(
    notifier: Notifier, feishu: FeishuStandIn, clock: Clock
) -> None:
    feishu.down = True
    await notifier.diagnosis(incident(), diagnosis(), [])
    await notifier.request(incident(), approval())
    await notifier.outcome(incident(status=IncidentStatus.EXECUTING), approval(ApprovalState.APPROVED))
    await notifier.outcome(incident(status=IncidentStatus.FIXED), approval(ApprovalState.DONE))
    for _ in range(3):
        assert await notifier.deliver_due() == 0
        clock.advance(20)
    feishu.down = False
    clock.advance(60)
    for _ in range(5):
        await notifier.deliver_due()
        clock.advance(5)
    cards = [[title(card) for card in message.versions] for message in feishu.messages.values()]
    assert sorted(cards) == [["Approval needed", "Fixed and verified"], ["Crash diagnosed"]]


async def test_two_notifiers_send_once(make: Make, feishu: FeishuStandIn) -> None:
    notifiers = [make(), make()]
    for number in range(4):
        await notifiers[0].request(incident(), approval(number=number))
    counts = await asyncio.gather(*(notifier.deliver_due() for notifier in notifiers))
    assert sum(counts) == len(feishu.messages) == 4


async def test_an_answer_that_was_lost_does_not_repeat_the_message(
    notifier: Notifier, feishu: FeishuStandIn, database: Database, clock: Clock
) -> None:
    await notifier.request(incident(), approval())
    delivery = await notifier._deliveries.claim()
    assert delivery is not None
    await notifier._dispatcher._send(delivery)  # sent, and the process dies before it is noted
    clock.advance(61)
    assert await notifier.deliver_due() == 1
    assert len(feishu.messages) == 1


async def test_a_refused_card_is_given_up_with_a_log_line(make: Make, feishu: FeishuStandIn) -> None:
    notifier = make(feishu.settings(chat_id="oc_elsewhere"))
    await notifier.diagnosis(incident(), diagnosis(), [])
    with capture_logs() as logs:
        assert await notifier.deliver_due() == 0
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("message not delivered", "error")]
    assert "230002" in logs[0]["error"]


async def test_a_message_too_old_to_update_is_followed_by_a_new_one(notifier: Notifier, feishu: FeishuStandIn) -> None:
    await notifier.request(incident(), approval())
    await notifier.deliver_due()
    feishu.clock.advance(15 * 86400)
    await notifier.outcome(incident(), approval(ApprovalState.EXPIRED))
    assert await notifier.deliver_due() == 1
    assert [title(message.card) for message in feishu.messages.values()] == [
        "Approval needed",
        "Expired: nothing was changed",
    ]


async def test_the_custom_bot_gets_notices_without_buttons(make: Make, feishu: FeishuStandIn) -> None:
    notifier = make(feishu.settings(webhook=True, app=False))
    assert await notifier.request(incident(), approval(core=False)) == "queued for feishu_webhook"
    await notifier.outcome(incident(), approval(ApprovalState.DONE))
    await notifier.deliver_due()
    assert sorted(map(title, feishu.notices)) == ["Approval needed", "Fixed and verified"]
    assert not any(buttons_of(card) for card in feishu.notices)


async def test_both_channels_are_told(make: Make, feishu: FeishuStandIn) -> None:
    notifier = make(feishu.settings(webhook=True))
    assert await notifier.diagnosis(incident(), diagnosis(), []) == "queued for feishu, feishu_webhook"
    assert await notifier.deliver_due() == 2
    assert len(feishu.notices) == len(feishu.messages) == 1


async def test_without_callbacks_requests_have_no_buttons(make: Make, feishu: FeishuStandIn) -> None:
    notifier = make(feishu.settings(encrypt_key=None))
    await notifier.request(incident(), approval())
    await notifier.deliver_due()
    card = feishu.only_message().card
    assert not buttons_of(card)
    assert "paramedic approve" in visible_text(card)


@pytest.mark.parametrize(
    ("service", "channel", "expected"),
    [
        ("zh", None, "需要审批"),
        ("en", "zh", "需要审批"),
        ("zh", "en", "Approval needed"),
        ("en", None, "Approval needed"),
    ],
)
async def test_the_channels_language_wins_over_the_services(
    make: Make, feishu: FeishuStandIn, service: str, channel: str | None, expected: str
) -> None:
    own = {"language": channel} if channel else {}
    notifier = make(feishu.settings(**own), language=service)
    await notifier.request(incident(), approval())
    await notifier.deliver_due()
    assert title(feishu.only_message().card) == expected


async def test_a_notice_is_told_once_in_a_while(notifier: Notifier, feishu: FeishuStandIn, clock: Clock) -> None:
    assert await notifier.notice("Help <at id=all>", "disk full\npassword=hunter2secret", "high")
    assert not await notifier.notice("Help <at id=all>", "disk full\npassword=hunter2secret", "high")
    await notifier.deliver_due()
    seen = visible_text(feishu.only_message().card)
    assert "disk full" in seen
    assert "hunter2" not in seen
    clock.advance(301)
    assert await notifier.notice("Help <at id=all>", "disk full\npassword=hunter2secret", "high")


async def test_an_incident_that_ends_without_an_approval(notifier: Notifier, feishu: FeishuStandIn) -> None:
    ended = incident(status=IncidentStatus.DIAGNOSED)
    assert await notifier.outcome(ended, None) == "told with the diagnosis"
    failed = incident(status=IncidentStatus.FAILED, summary="the cluster went away")
    assert await notifier.outcome(failed, None) == "queued for feishu"
    await notifier.deliver_due()
    assert "the cluster went away" in visible_text(feishu.only_message().card)


async def test_a_broken_database_does_not_reach_the_incident(notifier: Notifier, database: Database) -> None:
    async with database.write() as session:
        await session.execute(text("DROP TABLE deliveries"))
    said = await notifier.diagnosis(incident(), diagnosis(), [])
    assert said.startswith("the notice could not be queued")


async def test_a_card_that_cannot_be_built_does_not_reach_the_incident(notifier: Notifier) -> None:
    broken: Approval = approval().model_copy(update={"plan": None})
    assert (await notifier.request(incident(), broken)).startswith("the notice could not be built")


async def test_running_delivers_what_comes_and_stops(make: Make, feishu: FeishuStandIn) -> None:
    notifier, stop = make(), asyncio.Event()
    running = asyncio.create_task(notifier.run(stop))
    await notifier.diagnosis(incident(), diagnosis(), [])
    for _ in range(3000):
        if feishu.messages:
            break
        await asyncio.sleep(0.02)
    stop.set()
    await asyncio.wait_for(running, 60)
    assert len(feishu.messages) == 1


async def test_telling_does_not_wait_for_a_channel_that_hangs(make: Make, feishu: FeishuStandIn) -> None:
    held: list[asyncio.StreamWriter] = []

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        await asyncio.sleep(60)

    silent = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    notifier, stop = make(feishu.settings(base_url=f"http://127.0.0.1:{port}")), asyncio.Event()
    running = asyncio.create_task(notifier.run(stop))
    assert await notifier.diagnosis(incident(), diagnosis(), []) == "queued for feishu"
    await asyncio.sleep(0.1)
    assert await notifier.request(incident(), approval()) == "queued for feishu"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    for writer in held:
        writer.close()
    silent.close()
    await silent.wait_closed()


async def test_no_secret_is_logged_or_shown(
    make: Make, feishu: FeishuStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    notifier = make(feishu.settings(webhook=True))
    leak = "Authorization: Bearer abcdefghijklmnop password=hunter2secret AKIAABCDEFGHIJKLMNOP a@corp.example"
    with capture_logs() as logs:
        await notifier.diagnosis(incident(event=leak), diagnosis(leak), [proposal(leak)])
        await notifier.request(incident(), approval(text=leak, diff=f"+ {leak}\n"))
        await notifier.outcome(incident(summary=leak), approval(ApprovalState.FAILED, text=leak, outcome=leak))
        await notifier.deliver_due()
        await notifier.deliver_due()
    cards = [card for message in feishu.messages.values() for card in message.versions] + feishu.notices
    assert len(cards) >= 5
    said = caplog.text + str(logs) + str(cards)
    hidden = [*feishu.secrets, "abcdefghijklmnop", "hunter2secret", "AKIAABCDEFGHIJKLMNOP", "corp.example"]
    assert not [secret for secret in hidden if secret in said]
