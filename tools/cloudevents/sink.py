"""Sends CloudEvents to one HTTP sink: the service itself, or any other that takes them."""

from __future__ import annotations

from types import TracebackType
from typing import Literal
from urllib.parse import urlsplit

import httpx

from errors import InvalidInput, ToolFailed, ToolTimeout
from tools.cloudevents.event import STRUCTURED, CloudEvent
from tools.feishu.webhook import hide_in_logs
from tools.trust import trusted

_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_AGAIN = {401, 403, 404, 408, 409, 425, 429}
"""Answers that the same event may get over: a key that is replaced, a sink that is being set up."""


class EventRefused(ToolFailed):
    """The sink says that this event is wrong: to send it again is of no use."""

    title = "The event was refused"


class Sink:
    """`url` is where events are posted to; `key` is sent as bearer token. Neither is in a message or a log."""

    def __init__(self, url: str, key: str | None = None, *, mode: Literal["structured", "binary"] = "structured"):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            raise InvalidInput("a sink of events is an http or https URL without credentials")
        self._url, self._host = url, parts.hostname
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._mode = mode
        hide_in_logs(url)
        self._client = httpx.AsyncClient(
            timeout=_TIMEOUT, follow_redirects=False, trust_env=False, verify=trusted(), headers=headers
        )

    async def send(self, event: CloudEvent) -> None:
        """Post it. Raises EventRefused (never will), ToolFailed and ToolTimeout (may later)."""
        headers, body = ({"content-type": STRUCTURED}, event.structured())
        if self._mode == "binary":
            headers, body = event.binary()
        try:
            response = await self._client.post(self._url, content=body, headers=headers)
        except httpx.TimeoutException:
            raise ToolTimeout(f"{self._host} did not answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ToolFailed(f"{self._host} cannot be reached: {type(error).__name__}") from None
        code = response.status_code
        if 200 <= code < 300:
            return
        if 400 <= code < 500 and code not in _AGAIN:
            raise EventRefused(f"{self._host} refuses the event with status {code}")
        raise ToolFailed(f"{self._host} answers with status {code}")

    async def close(self) -> None:
        await self._client.aclose()

    async def __aenter__(self) -> Sink:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
