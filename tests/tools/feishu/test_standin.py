"""The stand-in itself: what it must refuse, and its use from another process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.feishu_samples import approval
from tests.standins.feishu import FeishuStandIn
from tests.standins.feishu_schema import CardRefused, check_card
from tests.standins.serving import ServerThread
from tools.feishu.approval_card import approval_card
from tools.feishu.client import FeishuClient, card_json

CARD = approval_card(approval(), language="en")


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=60, verify=False) as client:
        yield client


@pytest.fixture
async def sent(feishu: FeishuStandIn, http: httpx.AsyncClient) -> str:
    return await FeishuClient(feishu.settings(), http).send_card(feishu.chat_id, CARD, uuid="u1")


@pytest.fixture
def serve() -> Iterator[Callable[[Any], str]]:
    running: list[ServerThread] = []

    def start(endpoint: Any) -> str:
        running.append(ServerThread(Starlette(routes=[Route("/callback", endpoint, methods=["POST"])])))
        running[-1].start()
        return f"{running[-1].url}/callback"

    yield start
    for server in running:
        server.stop()


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (JSONResponse({}), 0),
        (JSONResponse({"toast": {"type": "success", "content": "ok"}}), 0),
        (JSONResponse({"toast": {"type": "danger", "content": "ok"}}), 200672),
        (JSONResponse([]), 200672),
        (Response("fine"), 200672),
        (JSONResponse({"card": {"type": "raw", "data": {"schema": "1.0"}}}), 200673),
        (JSONResponse({}, 500), 200671),
        (RedirectResponse("/elsewhere"), 200671),
    ],
)
async def test_answers_are_judged_as_clients_do(
    feishu: FeishuStandIn, sent: str, serve: Callable[[Any], str], answer: Response, code: int
) -> None:
    async def endpoint(request: Request) -> Response:
        return answer

    feishu.callback_url = serve(endpoint)
    pressed = await feishu.press(sent, "approve")
    assert pressed.client_code == code
    assert len(feishu.messages[sent].versions) == 1


async def test_a_service_that_is_slow_or_gone(feishu: FeishuStandIn, sent: str, serve: Callable[[Any], str]) -> None:
    async def endpoint(request: Request) -> Response:
        await asyncio.sleep(1)
        return JSONResponse({})

    assert (await feishu.press(sent, "approve")).client_code == 200340
    feishu.callback_url, feishu.answer_seconds = serve(endpoint), 0.1
    assert (await feishu.press(sent, "approve")).client_code == 200341
    feishu.callback_url = "http://127.0.0.1:1/callback"
    assert (await feishu.press(sent, "approve")).client_code == 200342


async def test_a_callbacks_token_updates_twice_within_half_an_hour(
    feishu: FeishuStandIn, sent: str, http: httpx.AsyncClient, serve: Callable[[Any], str]
) -> None:
    token = {"app_id": feishu.app_id, "app_secret": feishu.app_secret}
    issued = await http.post(f"{feishu.base_url}/open-apis/auth/v3/tenant_access_token/internal", json=token)
    headers = {"Authorization": f"Bearer {issued.json()['tenant_access_token']}"}

    async def update(callback_token: str) -> int:
        body = {"token": callback_token, "card": CARD}
        url = f"{feishu.base_url}/open-apis/interactive/v1/card/update"
        async with httpx.AsyncClient(verify=False, timeout=60) as client:  # this runs in the server's loop too
            answer = await client.post(url, json=body, headers=headers)
        return int(answer.json()["code"])

    during: list[int] = []

    async def endpoint(request: Request) -> Response:
        during.append(await update(next(iter(feishu.callback_tokens))))
        return JSONResponse({})

    feishu.callback_url = serve(endpoint)
    pressed = await feishu.press(sent, "approve")
    assert during == [11311]  # before the callback is answered
    assert [await update(pressed.sent.callback_token) for _ in range(3)] == [0, 0, 300040]
    again = await feishu.press(sent, "approve")
    feishu.clock.advance(1801)
    assert await update(again.sent.callback_token) == 300030


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "1.0"},
        {"i18n_elements": {}},
        {"config": {"update_multi": False}},
        {"config": {"wide_screen_mode": True}},
        {"header": {"title": {"tag": "lark_md", "content": "x"}}},
        {"body": {"elements": [{"tag": "action", "actions": []}]}},
        {"body": {"elements": [{"tag": "note", "elements": []}]}},
        {"body": {"elements": [{"tag": "markdown", "content": "x", "colour": "red"}]}},
        {"body": {"elements": [{"tag": "hr", "element_id": "1st"}]}},
        {"body": {"elements": [{"tag": "hr", "element_id": "a" * 21}]}},
        {"body": {"elements": [{"tag": "hr", "element_id": "a"}, {"tag": "hr", "element_id": "a"}]}},
        {"body": {"elements": [{"tag": "button", "text": {"tag": "plain_text", "content": "x"}, "value": {}}]}},
    ],
)
def test_cards_that_feishu_refuses(change: dict[str, Any]) -> None:
    check_card(CARD)
    with pytest.raises(CardRefused):
        check_card(CARD | change)


async def test_the_custom_bot_takes_20_kb(feishu: FeishuStandIn, http: httpx.AsyncClient) -> None:
    answer = await http.post(feishu.webhook_url, content=b"x" * 20_481)
    assert (answer.status_code, answer.json()["code"]) == (200, 9499)
    assert (await http.post(feishu.webhook_url, json={"msg_type": "interactive", "card": CARD})).json()["code"] == 19021


def test_it_serves_another_process(tmp_path: Path) -> None:
    state_file = tmp_path / "state.json"
    command = [sys.executable, "-m", "tests.standins.feishu", "--state-file", str(state_file)]
    root = Path(__file__).parents[3]
    with subprocess.Popen(command, cwd=root) as process:
        try:
            for _ in range(1000):
                if state_file.exists():
                    break
                time.sleep(0.1)
            state = json.loads(state_file.read_text())
            environment, base = state["environment"], state["base_url"]
            token = {
                "app_id": environment["PARAMEDIC_FEISHU__APP_ID"],
                "app_secret": environment["PARAMEDIC_FEISHU__APP_SECRET"],
            }
            with httpx.Client(base_url=base, timeout=60) as client:
                issued = client.post("/open-apis/auth/v3/tenant_access_token/internal", json=token).json()
                message = {"receive_id": state["chat_id"], "msg_type": "interactive", "content": card_json(CARD)}
                headers = {"Authorization": f"Bearer {issued['tenant_access_token']}"}
                client.post("/open-apis/im/v1/messages?receive_id_type=chat_id", json=message, headers=headers)
                (shown,) = client.get("/_test/messages").json()
                assert shown["card"] == CARD
                client.post("/_test/configure", json={"callback_url": "http://127.0.0.1:1/"})
                press = {"message_id": shown["id"], "element_id": "approve", "open_id": "ou_bob"}
                assert client.post("/_test/press", json=press).json()["client_code"] == 200342
                assert client.post("/_test/replay", json={"index": 0}).json()["client_code"] == 200342
                assert client.post("/_test/press", json=press | {"element_id": "no"}).status_code == 404
                assert len(client.get("/_test/presses").json()) == 2
        finally:
            process.terminate()
