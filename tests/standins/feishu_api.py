"""The Open API side of the Feishu stand-in, and its control surface for other processes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.standins.feishu_schema import CardRefused, check_card, is_private

if TYPE_CHECKING:
    from tests.standins.feishu import FeishuStandIn

TOKEN_SECONDS = 7200
RENEWED_BELOW = 1800
CARD_BYTES = 30 * 1024
WEBHOOK_BYTES = 20 * 1024
UPDATABLE_SECONDS = 14 * 86400
_UUID_SECONDS = 3600


class Refusal(Exception):
    """An answer with a vendor code."""

    def __init__(self, code: int, msg: str, *, status: int = 400, headers: dict[str, str] | None = None) -> None:
        super().__init__(msg)
        self.code, self.msg, self.status, self.headers = code, msg, status, headers or {}


class Bucket:
    """`calls` at once, refilled evenly over `seconds`."""

    def __init__(self, calls: int, seconds: float) -> None:
        self.calls, self.rate = float(calls), calls / seconds
        self.left, self.at = float(calls), time.monotonic()

    def wait(self) -> float:
        """Seconds until a call is free; 0 takes it."""
        now = time.monotonic()
        self.left, self.at = min(self.calls, self.left + (now - self.at) * self.rate), now
        if self.left >= 1:
            self.left -= 1
            return 0.0
        return (1 - self.left) / self.rate


class FeishuApi:
    def __init__(self, feishu: FeishuStandIn) -> None:
        self.feishu = feishu
        self.token: str | None = None
        self.token_until = 0.0
        self.buckets: dict[str, list[Bucket]] = {}

    def limit(self, key: str, *rates: tuple[int, float]) -> float:
        buckets = self.buckets.setdefault(key, [Bucket(*rate) for rate in rates])
        return max(bucket.wait() for bucket in buckets)

    def gateway(self, api: str) -> None:
        if (wait := self.limit(f"api:{api}", (50, 1.0), (1000, 60.0))) > 0:
            headers = {"x-ogw-ratelimit-limit": "50", "x-ogw-ratelimit-reset": str(int(wait) + 1)}
            raise Refusal(99991400, "request trigger frequency limit", status=429, headers=headers)

    def authorised(self, request: Request) -> None:
        given = request.headers.get("authorization")
        if given is None:
            raise Refusal(99991661, "Missing access token for authorization.")
        if self.feishu.revoked or given != f"Bearer {self.token}" or self.token_until <= self.feishu.clock():
            raise Refusal(99991663, "Invalid access token for authorization.")

    async def issue(self, request: Request) -> dict[str, Any]:
        self.gateway("token")
        body = await _json(request)
        if body.get("app_id") != self.feishu.app_id or body.get("app_secret") != self.feishu.app_secret:
            raise Refusal(10003, "invalid app_id or app_secret", status=200)
        now = self.feishu.clock()
        if self.token is None or self.feishu.revoked or self.token_until - now < RENEWED_BELOW:
            self.token, self.token_until = f"t-{secrets.token_hex(16)}", now + TOKEN_SECONDS
            self.feishu.revoked = False
            self.feishu.tokens_issued += 1
        return {"tenant_access_token": self.token, "expire": int(self.token_until - now)}

    async def create(self, request: Request) -> dict[str, Any]:
        from tests.standins.feishu import Message  # it builds this application

        self.authorised(request)
        self.gateway("create")
        feishu, body, now = self.feishu, await _json(request), self.feishu.clock()
        if request.query_params.get("receive_id_type") != "chat_id":
            raise Refusal(230001, "receive_id_type")
        if set(body) - {"receive_id", "msg_type", "content", "uuid"} or body.get("msg_type") != "interactive":
            raise Refusal(230001, "your request contains an invalid request parameter")
        if body.get("receive_id") != feishu.chat_id:
            raise Refusal(230002, "Bot/User can NOT be out of the chat.")
        uuid = body.get("uuid")
        if uuid is not None and (not isinstance(uuid, str) or not 0 < len(uuid) <= 50):
            raise Refusal(230001, "uuid")
        if self.limit(f"chat:{body['receive_id']}", (5, 1.0)) > 0:
            raise Refusal(230020, "This operation triggers the frequency limit.")
        card = self.card(body.get("content"))
        for message in feishu.messages.values():
            if uuid is not None and message.uuid == uuid and now - message.sent_at < _UUID_SECONDS:
                return {"data": {"message_id": message.id, "chat_id": message.chat_id}}
        message = Message(f"om_{secrets.token_hex(12)}", body["receive_id"], uuid, now, [card])
        feishu.messages[message.id] = message
        return {"data": {"message_id": message.id, "chat_id": message.chat_id, "msg_type": "interactive"}}

    async def update(self, request: Request) -> dict[str, Any]:
        self.authorised(request)
        self.gateway("patch")
        message = self.feishu.messages.get(request.path_params["message_id"])
        body = await _json(request)
        if message is None or set(body) != {"content"}:
            raise Refusal(230001, "your request contains an invalid request parameter")
        if self.limit(f"message:{message.id}", (5, 1.0)) > 0:
            raise Refusal(230020, "This operation triggers the frequency limit.")
        if self.feishu.clock() - message.sent_at > UPDATABLE_SECONDS:
            raise Refusal(230031, "message is older than 14 days")
        message.versions.append(self.replacing(message.card, self.card(body["content"])))
        return {"data": {}}

    async def delayed(self, request: Request) -> dict[str, Any]:
        self.authorised(request)
        self.gateway("delayed")
        body = await _json(request)
        message_id, answered_at, left = self.feishu.callback_tokens.get(str(body.get("token")), ("", 0.0, 0))
        if not answered_at:
            raise Refusal(11311, "the callback is not answered")
        if self.feishu.clock() - answered_at > 1800:
            raise Refusal(300030, "token expired")
        if left < 1:
            raise Refusal(300040, "token used up")
        self.feishu.callback_tokens[body["token"]] = (message_id, answered_at, left - 1)
        message = self.feishu.messages[message_id]
        message.versions.append(self.replacing(message.card, self.card(json.dumps(body.get("card")))))
        return {"data": {}}

    def card(self, content: Any) -> dict[str, Any]:
        if not isinstance(content, str):
            raise Refusal(230001, "content is not a string")
        if len(content.encode()) > CARD_BYTES:
            raise Refusal(230025, "The length of the message content reaches its limit.")
        try:
            card: dict[str, Any] = json.loads(content)
            check_card(card)
        except (ValueError, CardRefused) as error:
            raise Refusal(230099, f"Failed to create card content, ext=ErrMsg: {error}") from error
        if is_private(card):
            raise Refusal(230028, "The messages do NOT pass the audit")
        return card

    def replacing(self, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
        if not all(card["config"].get("update_multi") is True for card in (old, new)):
            raise Refusal(230001, "update_multi is needed")
        return new

    async def hook(self, request: Request) -> dict[str, Any]:
        if request.path_params["hook_id"] != self.feishu.webhook_id:
            raise Refusal(19001, "param invalid: incoming webhook access token invalid", status=200)
        raw = await request.body()
        if len(raw) > WEBHOOK_BYTES:
            raise Refusal(9499, "Bad Request: body too large", status=200)
        if self.limit("webhook", (5, 1.0), (100, 60.0)) > 0:
            raise Refusal(11232, "frequency limited", status=200)
        body = json.loads(raw)
        self.signed(body)
        if body.get("msg_type") != "interactive" or set(body) - {"timestamp", "sign", "msg_type", "card"}:
            raise Refusal(9499, "Bad Request", status=200)
        try:
            check_card(body.get("card"))
        except CardRefused as error:
            raise Refusal(11246, f"card content invalid: {error}", status=200) from error
        self.feishu.notices.append(body["card"])
        return {"StatusCode": 0, "StatusMessage": "success"}

    def signed(self, body: dict[str, Any]) -> None:
        timestamp = str(body.get("timestamp", ""))
        key = f"{timestamp}\n{self.feishu.webhook_secret}".encode()
        sign = base64.b64encode(hmac.new(key, b"", hashlib.sha256).digest()).decode()
        fresh = timestamp.isdigit() and abs(self.feishu.clock() - int(timestamp)) <= 3600
        if not fresh or body.get("sign") != sign:
            raise Refusal(19021, "sign match fail or timestamp is not within one hour", status=200)


def build_app(feishu: FeishuStandIn) -> Starlette:
    api = FeishuApi(feishu)

    def vendor(handler: Any) -> Any:
        async def endpoint(request: Request) -> Response:
            if feishu.down:
                return Response("upstream connect error", 503)
            try:
                answer, code, status, headers = await handler(request), 0, 200, {}
            except Refusal as refusal:
                answer, code, status, headers = {}, refusal.code, refusal.status, refusal.headers
                message = refusal.msg
            else:
                message = "success"
            feishu.answers.append((request.method, request.url.path, code))
            return JSONResponse({"code": code, "msg": message, **answer}, status, headers=headers)

        return endpoint

    return Starlette(
        routes=[
            Route("/open-apis/auth/v3/tenant_access_token/internal", vendor(api.issue), methods=["POST"]),
            Route("/open-apis/im/v1/messages", vendor(api.create), methods=["POST"]),
            Route("/open-apis/im/v1/messages/{message_id}", vendor(api.update), methods=["PATCH"]),
            Route("/open-apis/interactive/v1/card/update", vendor(api.delayed), methods=["POST"]),
            Route("/open-apis/bot/v2/hook/{hook_id}", vendor(api.hook), methods=["POST"]),
            *_control(feishu),
        ]
    )


def _control(feishu: FeishuStandIn) -> list[Route]:
    from tests.standins.feishu import pressed_json  # it builds this application

    async def messages(_: Request) -> Response:
        return JSONResponse([vars(message) | {"card": message.card} for message in feishu.messages.values()])

    async def notices(_: Request) -> Response:
        return JSONResponse(feishu.notices)

    async def presses(_: Request) -> Response:
        return JSONResponse([pressed_json(pressed) for pressed in feishu.presses])

    async def press(request: Request) -> Response:
        try:
            return JSONResponse(pressed_json(await feishu.press(**await request.json())))
        except KeyError as error:
            return JSONResponse({"error": f"no such message or button: {error}"}, 404)

    async def replay(request: Request) -> Response:
        index = (await request.json())["index"]
        return JSONResponse(pressed_json(await feishu.replay(feishu.presses[index])))

    async def configure(request: Request) -> Response:
        body = await request.json()
        feishu.callback_url = body.get("callback_url", feishu.callback_url)
        feishu.down = body.get("down", feishu.down)
        feishu.clock.advance(body.get("advance_seconds", 0))
        return JSONResponse({})

    return [
        Route("/_test/messages", messages),
        Route("/_test/notices", notices),
        Route("/_test/presses", presses),
        Route("/_test/press", press, methods=["POST"]),
        Route("/_test/replay", replay, methods=["POST"]),
        Route("/_test/configure", configure, methods=["POST"]),
    ]


async def _json(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError as error:
        raise Refusal(9499, "Bad Request") from error
    if not isinstance(body, dict):
        raise Refusal(9499, "Bad Request")
    return body
