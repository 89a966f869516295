"""The ways to people that Feishu offers: the app bot (cards with buttons) and the custom bot (notices)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Literal

import httpx

from settings import FeishuSettings
from tools.feishu.cards import MAX_CARD_BYTES
from tools.feishu.client import Card, FeishuClient
from tools.feishu.errors import GONE_CODES, FeishuError
from tools.feishu.webhook import ENVELOPE_BYTES, MAX_BODY_BYTES, FeishuWebhook
from tools.trust import trusted

Channel = Literal["feishu", "feishu_webhook"]
CARD_BYTES: dict[Channel, int] = {"feishu": MAX_CARD_BYTES, "feishu_webhook": MAX_BODY_BYTES - ENVELOPE_BYTES}
"""The largest card of each channel."""
_HTTP_SECONDS = 10.0


def configured_channels(settings: FeishuSettings) -> list[Channel]:
    """The app bot needs app_id, app_secret and chat_id; the custom bot webhook_url."""
    channels: list[Channel] = []
    if settings.app_id and settings.app_secret and settings.chat_id:
        channels.append("feishu")
    if settings.webhook_url and settings.webhook_url.get_secret_value():
        channels.append("feishu_webhook")
    return channels


class Channels:
    """Sends cards. Connections are opened at the first use and closed by `close`."""

    def __init__(self, settings: FeishuSettings, *, now: Callable[[], datetime]) -> None:
        self._settings = settings
        self._now = now
        self._opening = asyncio.Lock()
        self._http: httpx.AsyncClient | None = None
        self._app: FeishuClient | None = None
        self._webhook: FeishuWebhook | None = None

    async def send(self, channel: str, card: Card, *, uuid: str, replaces: str | None = None) -> str | None:
        """Send a card, or update the message `replaces` with it while that is possible.

        Returns the message id where the channel has such. `uuid` keeps repeats from being shown twice. Raises
        FeishuError.
        """
        await self._open()
        if channel == "feishu_webhook" and self._webhook is not None:
            await self._webhook.send_card(card)
            return None
        if channel != "feishu" or self._app is None or self._settings.chat_id is None:
            raise FeishuError(f"the channel {channel} is no longer configured", retryable=False)
        if replaces is not None:
            try:
                await self._app.update_card(replaces, card)
                return replaces
            except FeishuError as error:
                if error.code not in GONE_CODES:
                    raise
        return await self._app.send_card(self._settings.chat_id, card, uuid=uuid)

    async def close(self) -> None:
        http, self._http, self._app, self._webhook = self._http, None, None, None
        if http is not None:
            await http.aclose()

    async def _open(self) -> None:
        async with self._opening:
            if self._http is not None:
                return
            # reads the certificate store, which blocks
            verify = await asyncio.to_thread(trusted)
            http = httpx.AsyncClient(timeout=_HTTP_SECONDS, follow_redirects=False, verify=verify)
            channels = configured_channels(self._settings)
            if "feishu" in channels:
                self._app = FeishuClient(self._settings, http)
            if "feishu_webhook" in channels:
                self._webhook = FeishuWebhook(self._settings, http, now=lambda: self._now().timestamp())
            self._http = http
