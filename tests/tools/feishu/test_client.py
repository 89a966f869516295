"""The app bot and the custom bot over HTTP, against the strict stand-in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.feishu_samples import approval
from tests.standins.feishu import FeishuStandIn
from tests.standins.serving import ServerThread
from tools.feishu.approval_card import approval_card
from tools.feishu.client import FeishuClient
from tools.feishu.errors import FeishuError
from tools.feishu.limits import RateLimits
from tools.feishu.webhook import FeishuWebhook

CARD = approval_card(approval(), language="en")


class Unlimited(RateLimits):
    """A client that does not hold back, to see what the vendor does then."""

    async def acquire(self, **keys: str) -> None:
        return


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=60, verify=False) as client:
        yield client


@pytest.fixture
def client(feishu: FeishuStandIn, http: httpx.AsyncClient) -> FeishuClient:
    return FeishuClient(feishu.settings(), http, clock=feishu.clock)


async def test_a_card_is_sent_and_updated(client: FeishuClient, feishu: FeishuStandIn) -> None:
    message_id = await client.send_card(feishu.chat_id, CARD, uuid="u1")
    assert feishu.only_message().id == message_id
    assert feishu.only_message().card == CARD
    changed = approval_card(approval(), language="zh")
    await client.update_card(message_id, changed)
    assert feishu.only_message().card == changed


async def test_a_repeat_with_the_same_uuid_is_one_message(client: FeishuClient, feishu: FeishuStandIn) -> None:
    first = await client.send_card(feishu.chat_id, CARD, uuid="u1")
    assert await client.send_card(feishu.chat_id, CARD, uuid="u1") == first
    assert len(feishu.messages) == 1


async def test_one_token_serves_many_calls_and_is_renewed_in_time(client: FeishuClient, feishu: FeishuStandIn) -> None:
    for number in range(3):
        await client.send_card(feishu.chat_id, CARD, uuid=f"u{number}")
    assert feishu.tokens_issued == 1
    feishu.clock.advance(7200 - 1800 + 10)  # less than 30 minutes are left
    await client.send_card(feishu.chat_id, CARD, uuid="later")
    assert feishu.tokens_issued == 2


async def test_a_revoked_token_is_replaced_once(client: FeishuClient, feishu: FeishuStandIn) -> None:
    await client.send_card(feishu.chat_id, CARD, uuid="u1")
    feishu.revoked = True
    await client.send_card(feishu.chat_id, CARD, uuid="u2")
    assert feishu.tokens_issued == 2
    assert [code for _, _, code in feishu.answers if code] == [99991663]


async def test_a_wrong_secret_is_an_error_without_the_secret(feishu: FeishuStandIn, http: httpx.AsyncClient) -> None:
    client = FeishuClient(feishu.settings(app_secret="wr0ng-secret"), http)
    with pytest.raises(FeishuError) as caught:
        await client.send_card(feishu.chat_id, CARD, uuid="u1")
    assert caught.value.code == 10003
    assert "wr0ng-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("chat", "card", "uuid", "code"),
    [
        ("oc_elsewhere", CARD, "u", 230002),
        (None, CARD, "u" * 51, 230001),
        (None, CARD | {"unknown": 1}, "u", 230099),
        (None, CARD | {"body": {"elements": [{"tag": "markdown", "content": "x" * 31_000}]}}, "u", 230025),
        (None, CARD | {"body": {"elements": [{"tag": "markdown", "content": "a@b.example"}]}}, "u", 230028),
    ],
)
async def test_refusals_that_no_retry_can_mend(
    client: FeishuClient, feishu: FeishuStandIn, chat: str | None, card: dict[str, Any], uuid: str, code: int
) -> None:
    with pytest.raises(FeishuError) as caught:
        await client.send_card(chat or feishu.chat_id, card, uuid=uuid)
    assert caught.value.code == code
    assert not caught.value.retryable


async def test_a_message_older_than_14_days_cannot_be_updated(client: FeishuClient, feishu: FeishuStandIn) -> None:
    message_id = await client.send_card(feishu.chat_id, CARD, uuid="u1")
    feishu.clock.advance(14 * 86400 + 1)
    with pytest.raises(FeishuError) as caught:
        await client.update_card(message_id, CARD)
    assert caught.value.code == 230031
    assert not caught.value.retryable


async def test_the_vendors_limits_are_kept(client: FeishuClient, feishu: FeishuStandIn) -> None:
    for number in range(8):
        await client.send_card(feishu.chat_id, CARD, uuid=f"u{number}")
    assert [code for _, _, code in feishu.answers if code] == []


async def test_a_rate_limit_of_the_chat_is_retryable(feishu: FeishuStandIn, http: httpx.AsyncClient) -> None:
    client = FeishuClient(feishu.settings(), http, limits=Unlimited())
    calls = (client.send_card(feishu.chat_id, CARD, uuid=f"u{number}") for number in range(40))
    refused = [r for r in await asyncio.gather(*calls, return_exceptions=True) if isinstance(r, FeishuError)]
    assert {(error.code, error.retryable) for error in refused} == {(230020, True)}


async def test_the_gateways_limit_says_how_long_to_wait(http: httpx.AsyncClient, feishu: FeishuStandIn) -> None:
    async def full(request: Request) -> Response:
        headers = {"x-ogw-ratelimit-limit": "50", "x-ogw-ratelimit-reset": "7"}
        return JSONResponse({"code": 99991400, "msg": "frequency limit"}, 429, headers=headers)

    server = ServerThread(Starlette(routes=[Route("/{path:path}", full, methods=["POST"])]))
    server.start()
    try:
        client = FeishuClient(feishu.settings(base_url=server.url), http)
        with pytest.raises(FeishuError) as caught:
            await client.send_card("oc_1", CARD, uuid="u")
    finally:
        server.stop()
    assert caught.value.retryable
    assert caught.value.retry_after == 7.0


@pytest.mark.parametrize(
    ("status", "body", "retryable"),
    [(502, b"<html>bad gateway", True), (200, b"[]", True), (404, b"nothing here", False), (200, b"\xff", True)],
)
async def test_answers_that_are_no_answers(
    http: httpx.AsyncClient, feishu: FeishuStandIn, status: int, body: bytes, retryable: bool
) -> None:
    async def answer(request: Request) -> Response:
        return Response(body, status)

    server = ServerThread(Starlette(routes=[Route("/{path:path}", answer, methods=["POST"])]))
    server.start()
    try:
        with pytest.raises(FeishuError) as caught:
            await FeishuClient(feishu.settings(base_url=server.url), http).send_card("oc_1", CARD, uuid="u")
    finally:
        server.stop()
    assert caught.value.retryable is retryable


async def test_nobody_there(feishu: FeishuStandIn, http: httpx.AsyncClient) -> None:
    client = FeishuClient(feishu.settings(base_url="http://127.0.0.1:1"), http)
    with pytest.raises(FeishuError) as caught:
        await client.send_card("oc_1", CARD, uuid="u")
    assert caught.value.retryable


async def test_a_living_token_survives_a_failed_renewal(client: FeishuClient, feishu: FeishuStandIn) -> None:
    await client.send_card(feishu.chat_id, CARD, uuid="u1")
    feishu.clock.advance(7200 - 600)
    issued, feishu.app_secret = feishu.tokens_issued, "changed-meanwhile"
    await client.send_card(feishu.chat_id, CARD, uuid="u2")
    assert feishu.tokens_issued == issued
    assert len(feishu.messages) == 2


async def test_a_notice_goes_through_the_custom_bot(feishu: FeishuStandIn, http: httpx.AsyncClient) -> None:
    await FeishuWebhook(feishu.settings(webhook=True), http).send_card(CARD)
    assert feishu.notices == [CARD]


async def test_a_wrong_webhook_secret_is_final(feishu: FeishuStandIn, http: httpx.AsyncClient) -> None:
    webhook = FeishuWebhook(feishu.settings(webhook=True, webhook_secret="no"), http)
    with pytest.raises(FeishuError) as caught:
        await webhook.send_card(CARD)
    assert (caught.value.code, caught.value.retryable) == (19021, False)


async def test_a_wrong_clock_is_refused_by_the_custom_bot(feishu: FeishuStandIn, http: httpx.AsyncClient) -> None:
    webhook = FeishuWebhook(feishu.settings(webhook=True), http, now=lambda: feishu.clock() - 3700)
    with pytest.raises(FeishuError, match="19021"):
        await webhook.send_card(CARD)


async def test_the_custom_bots_rate_limit_is_retryable(feishu: FeishuStandIn, http: httpx.AsyncClient) -> None:
    webhook = FeishuWebhook(feishu.settings(webhook=True), http, limits=Unlimited())
    calls = (webhook.send_card(CARD) for _ in range(40))
    refused = [r for r in await asyncio.gather(*calls, return_exceptions=True) if r is not None]
    assert {(error.code, error.retryable) for error in refused} == {(11232, True)}


async def test_no_secret_reaches_the_log(
    feishu: FeishuStandIn, http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = feishu.settings(webhook=True)
    await FeishuWebhook(settings, http).send_card(CARD)
    client = FeishuClient(settings, http)
    await client.send_card(feishu.chat_id, CARD, uuid="u1")
    with pytest.raises(FeishuError) as caught:
        await client.send_card("oc_2", CARD, uuid="u2")
    said = caplog.text + str(caught.value) + repr(settings)
    assert "HTTP Request" in caplog.text  # the library does log; only the address is hidden
    assert not [secret for secret in feishu.secrets if secret in said]
