"""Sends a notice to an incoming webhook. Its address is the only credential: it is in no error and no log.

Slack answers with a status and a word; WeCom with HTTP 200 and a code in the body, 45009 for more than 20 messages a
minute.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from errors import ToolFailed
from tools.feishu.limits import Rate, RateLimit
from tools.feishu.webhook import hide_in_logs
from tools.notices.message import Kind
from tools.trust import trusted

_HTTP_SECONDS = 10.0
_TURN_SECONDS = 5.0
_RATES: dict[Kind, tuple[Rate, ...]] = {"slack": ((1, 1.0),), "wecom": ((20, 60.0),)}
_WECOM_FULL = 45009
_WECOM_WAIT = 60.0
_WECOM_FINAL = {
    93000: "the robot's address is wrong, or the robot was removed",
    40008: "the message's type is not known",
    40058: "a parameter is wrong",
    45002: "the message is too long",
}


class NoticeError(ToolFailed):
    """A channel refused a notice or was not there. `retry_after`: seconds that it asked to wait."""

    title = "A notice was not sent"

    def __init__(self, message: str, *, retryable: bool, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after = retry_after


class Post:
    """One channel. The connection is opened at the first use and closed by `close`."""

    def __init__(self, name: str, kind: Kind, address: str) -> None:
        self._name, self._kind, self._address = name, kind, address
        self._limit = RateLimit(*_RATES[kind])
        self._opening = asyncio.Lock()
        self._http: httpx.AsyncClient | None = None
        hide_in_logs(address)

    async def send(self, body: dict[str, Any]) -> None:
        """Raises NoticeError."""
        async with self._opening:
            if self._http is None:  # reads the certificate store, which blocks
                verify = await asyncio.to_thread(trusted)
                self._http = httpx.AsyncClient(timeout=_HTTP_SECONDS, follow_redirects=False, verify=verify)
        try:
            async with asyncio.timeout(_TURN_SECONDS):
                await self._limit.acquire()
        except TimeoutError:  # whoever delivers has other channels too
            raise NoticeError(f"{self._name} is told a lot at once", retryable=True, retry_after=_WECOM_WAIT) from None
        try:
            response = await self._http.post(self._address, json=body)
        except httpx.HTTPError as error:
            raise NoticeError(f"{self._name} cannot be reached ({type(error).__name__})", retryable=True) from None
        except httpx.InvalidURL:
            raise NoticeError(f"the address of {self._name} is not a URL", retryable=False) from None
        (_slack_answered if self._kind == "slack" else _wecom_answered)(self._name, response)

    async def close(self) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()


def _slack_answered(name: str, response: httpx.Response) -> None:
    if response.status_code == 200 and response.text.strip() == "ok":
        return
    raise _refused(name, response, response.text.strip())


def _wecom_answered(name: str, response: httpx.Response) -> None:
    try:
        answer = response.json()
        code = int(answer["errcode"])
    except (ValueError, KeyError, TypeError):
        raise _refused(name, response, "no code") from None
    if code == _WECOM_FULL:
        raise NoticeError(f"{name} takes no more messages this minute", retryable=True, retry_after=_WECOM_WAIT)
    if code != 0:
        meaning = _WECOM_FINAL.get(code)
        text = f"{name} refused with code {code}" + (f": {meaning}" if meaning else "")
        raise NoticeError(text, retryable=meaning is None)


def _refused(name: str, response: httpx.Response, word: str) -> NoticeError:
    status = response.status_code
    text = f"{name} answered HTTP {status} ({word[:80]!a})"
    try:
        wait = float(response.headers.get("Retry-After", ""))
    except ValueError:
        wait = None
    final = 300 <= status < 500 and status != 429
    return NoticeError(text, retryable=not final, retry_after=min(wait, 3600.0) if wait and wait > 0 else None)
