"""A further group of Feishu that is told by a custom bot, beside the one of `[feishu]`."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from pydantic import SecretStr

from settings import FeishuSettings
from tools.feishu.webhook import FeishuWebhook
from tools.trust import trusted

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
                verify = await asyncio.to_thread(trusted)
                self._http = httpx.AsyncClient(timeout=_HTTP_SECONDS, follow_redirects=False, verify=verify)
                self._webhook = FeishuWebhook(self._settings, self._http)
        await self._webhook.send_card(body)

    async def close(self) -> None:
        http, self._http, self._webhook = self._http, None, None
        if http is not None:
            await http.aclose()
