"""The custom bot: notices to one group by a secret address. It has no buttons and cannot update a message.

Source: open.feishu.cn, "Custom bot usage guide". HTTP is 200 even for a refusal: the code in the body decides.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Any

import httpx

from settings import FeishuSettings
from tools.feishu.crypto import webhook_sign
from tools.feishu.errors import FeishuError, refused
from tools.feishu.limits import RateLimits

MAX_BODY_BYTES = 20_000
"""The vendor's 20 KB, read as thousands to be on the safe side."""
ENVELOPE_BYTES = 256
"""What sign, timestamp and message type add to the card."""


class FeishuWebhook:
    """One custom bot. Raises FeishuError; the address, which is a secret, is never part of its text."""

    def __init__(
        self,
        settings: FeishuSettings,
        http: httpx.AsyncClient,
        *,
        limits: RateLimits | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        if not settings.webhook_url:
            raise ValueError("feishu.webhook_url is needed")
        self._url = settings.webhook_url
        self._secret = settings.webhook_secret
        self._http = http
        self._limits = limits or RateLimits()
        self._now = now
        hide_in_logs(self._url.get_secret_value())

    async def send_card(self, card: dict[str, Any]) -> None:
        body: dict[str, Any] = {"msg_type": "interactive", "card": card}
        await self._limits.acquire(webhook="bot")
        if self._secret is not None and self._secret.get_secret_value():
            timestamp = int(self._now())  # after the wait: the vendor checks its age
            body = {
                "timestamp": str(timestamp),
                "sign": webhook_sign(timestamp, self._secret.get_secret_value()),
                **body,
            }
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json; charset=utf-8"}
        try:
            response = await self._http.post(self._url.get_secret_value(), content=content, headers=headers)
        except httpx.HTTPError as error:
            raise FeishuError(
                f"the Feishu webhook cannot be reached ({type(error).__name__})", retryable=True
            ) from error
        except httpx.InvalidURL:
            raise FeishuError("feishu.webhook_url is not a URL", retryable=False) from None
        try:
            answer = response.json()
            code = int(answer["code"] if "code" in answer else answer["StatusCode"])  # the older form
        except (ValueError, KeyError, TypeError):
            final = 300 <= response.status_code < 500 and response.status_code != 429
            message = f"the Feishu webhook answered HTTP {response.status_code} without a code"
            raise FeishuError(message, retryable=not final) from None
        if code != 0:
            raise refused("a notice", code, str(answer.get("msg", "")))


class _AddressFilter(logging.Filter):
    """httpx logs the address of every request, and a custom bot's address is its only credential."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(self._hidden(argument) for argument in record.args)
        return True

    def _hidden(self, argument: object) -> object:
        return "***" if any(path in str(argument) for path in self.paths) else argument


_FILTER = _AddressFilter()


def hide_in_logs(address: str) -> None:
    """Keep the path of an address, which is its credential, out of httpx's log."""
    try:
        path = httpx.URL(address).raw_path.decode("ascii")
    except httpx.InvalidURL:
        return  # never requested either
    if path != "/":
        _FILTER.paths.add(path)
    logging.getLogger("httpx").addFilter(_FILTER)  # adding the same filter again changes nothing
