"""A further group of Feishu that is told by a custom bot, beside the one of `[feishu]`."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from pydantic import SecretStr

from settings import FeishuSettings
from tools.feishu.webhook import FeishuWebhook

_HTTP_SECONDS = 10.0


class FeishuPost:
    """As `Post`; a body is a card."""

    def __init__(self, address: str, secret: SecretStr | None) -> None:
        self._settings = FeishuSettings(webhook_url=SecretStr(address), webhook_secret=secret)
        self._opening = asyncio.Lock()
        self._http: httpx.AsyncClient | None = None
        self._webhook: FeishuWebhook | None = None

    async def send(self, body: dict[str, Any]) -> None:
        """Raises FeishuError."""
        async with self._opening:
            if self._webhook is None:  # reads the certificate store, which blocks
                self._http = await asyncio.to_thread(httpx.AsyncClient, timeout=_HTTP_SECONDS, follow_redirects=False)
                self._webhook = FeishuWebhook(self._settings, self._http)
        await self._webhook.send_card(body)

    async def close(self) -> None:
        http, self._http, self._webhook = self._http, None, None
        if http is not None:
            await http.aclose()
