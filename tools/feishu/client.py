"""The app bot: sends cards with buttons to a chat and updates them afterwards.

Source: open.feishu.cn, "Send message" and "Update message card" (im-v1), "Get tenant_access_token (internal app)".
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import httpx

from settings import FeishuSettings
from tools.feishu.errors import TOKEN_CODES, FeishuError, refused
from tools.feishu.limits import RateLimits

Card = dict[str, Any]
"""A card in JSON 2.0."""

_RENEW_BELOW = 1800.0
"""The vendor hands out a new token only when the old one has less than 30 minutes left."""
_GATEWAY_RATE_LIMIT = 99991400
_MESSAGE_RATE_LIMIT = 230020
_LONGEST_WAIT = 300.0


class FeishuClient:
    """One app in one tenant. Raises FeishuError for everything that fails; secrets are never part of its text."""

    def __init__(
        self,
        settings: FeishuSettings,
        http: httpx.AsyncClient,
        *,
        limits: RateLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not (settings.app_id and settings.app_secret):
            raise ValueError("feishu.app_id and feishu.app_secret are needed")
        self._base = settings.base_url.rstrip("/")
        self._app_id = settings.app_id
        self._app_secret = settings.app_secret
        self._http = http
        self._limits = limits or RateLimits()
        self._clock = clock
        self._token: str | None = None
        self._token_until = 0.0
        self._renewal = asyncio.Lock()

    async def send_card(self, chat_id: str, card: Card, *, uuid: str) -> str:
        """Send a card and return its message id. The vendor drops repeats of `uuid` (≤ 50 characters) for an hour."""
        body = {"receive_id": chat_id, "msg_type": "interactive", "content": card_json(card), "uuid": uuid}
        await self._limits.acquire(api="send", chat=chat_id)
        data = await self._call("POST", "/open-apis/im/v1/messages?receive_id_type=chat_id", body, "a message")
        message_id = data.get("message_id")
        if not isinstance(message_id, str):
            raise FeishuError("Feishu accepted a message but named no message id", retryable=True)
        return message_id

    async def update_card(self, message_id: str, card: Card) -> None:
        """Replace the card of a message. Possible for 14 days; `tools.feishu.errors.GONE_CODES` say it no longer is."""
        await self._limits.acquire(api="update", chat=message_id)
        path = f"/open-apis/im/v1/messages/{message_id}"
        await self._call("PATCH", path, {"content": card_json(card)}, "an update of a card")

    async def _call(self, method: str, path: str, body: dict[str, Any], what: str) -> dict[str, Any]:
        token = await self._valid_token()
        try:
            answer = await self._request(method, path, body, what, token)
        except FeishuError as error:
            if error.code not in TOKEN_CODES:
                raise
            # revoked before its time: exactly one more try with a fresh one
            answer = await self._request(method, path, body, what, await self._renew(used=token))
        data = answer.get("data")
        return data if isinstance(data, dict) else {}

    async def _valid_token(self) -> str:
        if self._token is None or self._token_until - self._clock() < _RENEW_BELOW:
            return await self._renew(used=self._token)
        return self._token

    async def _renew(self, used: str | None) -> str:
        """A fresh token; concurrent callers share one request, and a token that still lives survives a failure."""
        async with self._renewal:
            fresh = self._token is not None and self._token_until - self._clock() >= _RENEW_BELOW
            if fresh and self._token != used:
                assert self._token is not None
                return self._token
            path = "/open-apis/auth/v3/tenant_access_token/internal"
            body = {"app_id": self._app_id, "app_secret": self._app_secret.get_secret_value()}
            try:
                await self._limits.acquire(api="token")
                answer = await self._request("POST", path, body, "a tenant access token", None)
                token, seconds = answer.get("tenant_access_token"), answer.get("expire")
                if not isinstance(token, str) or not isinstance(seconds, int):
                    raise FeishuError("Feishu's answer holds no tenant access token", retryable=True)
            except FeishuError as error:
                left = self._token_until - self._clock()
                if error.retryable and self._token is not None and left > 0 and not fresh:
                    return self._token
                raise
            self._token, self._token_until = token, self._clock() + seconds
            return token

    async def _request(
        self, method: str, path: str, body: dict[str, Any], what: str, token: str | None
    ) -> dict[str, Any]:
        headers = {"Content-Type": "application/json; charset=utf-8"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        content = json.dumps(body, ensure_ascii=False).encode()
        try:
            response = await self._http.request(method, self._base + path, content=content, headers=headers)
        except httpx.HTTPError as error:
            raise FeishuError(f"Feishu cannot be reached ({type(error).__name__})", retryable=True) from error
        try:
            answer = response.json()
            code = int(answer["code"])
        except (ValueError, KeyError, TypeError):
            wait = _reset_seconds(response) if response.status_code == 429 else None
            final = 400 <= response.status_code < 500 and response.status_code != 429
            raise FeishuError(
                f"Feishu answered HTTP {response.status_code} without a code", retryable=not final, retry_after=wait
            ) from None
        if code == 0 and response.status_code < 400:
            return dict(answer)
        wait = None
        if response.status_code == 429 or code in (_GATEWAY_RATE_LIMIT, _MESSAGE_RATE_LIMIT):
            wait = _reset_seconds(response)
        raise refused(what, code, self._scrubbed(str(answer.get("msg", "")), token), retry_after=wait)

    def _scrubbed(self, text: str, token: str | None) -> str:
        """The vendor's message without our secrets, should it ever echo them."""
        for secret in (self._app_secret.get_secret_value(), token):
            if secret:
                text = text.replace(secret, "***")
        return text


def card_json(card: Card) -> str:
    """The card as the string that is sent; its UTF-8 length is what the vendor limits to 30 KB."""
    return json.dumps(card, ensure_ascii=False, separators=(",", ":"))


def _reset_seconds(response: httpx.Response) -> float:
    try:
        wait = float(response.headers.get("x-ogw-ratelimit-reset", "1"))
    except ValueError:
        wait = 1.0
    return min(max(wait, 0.0), _LONGEST_WAIT)
