"""Delivers the notifier's outbox: what is due goes to chats and sinks, with retries, in the vendors' rate limits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import structlog

from agents.publisher import Publisher
from incidents.deliveries import LEASE, Deliveries, Delivery
from tools.feishu.channels import Channels
from tools.feishu.errors import FeishuError
from tools.notices.feishu import FeishuPost
from tools.notices.post import NoticeError, Post

_WORKERS = 4
_IDLE_SECONDS = 2.0
_DRAIN_SECONDS = 5.0
_SEND_SECONDS = LEASE.total_seconds() * 0.75
"""A send that outlived its lease could happen twice."""
_BASE_PENDING_SECONDS = 2.0

log = structlog.get_logger(__name__)


class Dispatcher:
    """Sends cards through `channels`, bodies through `posts` (by channel id), and events through `publisher`."""

    def __init__(
        self, deliveries: Deliveries, channels: Channels, posts: Mapping[str, Post | FeishuPost], publisher: Publisher
    ) -> None:
        self._deliveries, self._channels, self._posts, self._publisher = deliveries, channels, posts, publisher
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Something was queued: `run` looks at once."""
        self._news.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set; what is being sent then gets a few seconds to finish."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                self._news.clear()
                await self._round(stopping)
                news = asyncio.create_task(self._news.wait())
                await asyncio.wait({news, stopping}, timeout=_IDLE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
        finally:
            stopping.cancel()
            await self.close()

    async def _round(self, stopping: asyncio.Task[Any]) -> None:
        work = asyncio.create_task(self.deliver_due())
        try:
            await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await asyncio.wait({work}, timeout=_DRAIN_SECONDS)
        finally:
            work.cancel()
        try:
            with suppress(asyncio.CancelledError):
                await work
        except Exception:  # the outbox stays as it is; the next round tries again
            log.exception("deliveries stopped")

    async def deliver_due(self) -> int:
        """Send what is due now; the number of messages that a channel accepted."""
        counts = await asyncio.gather(*(self._work() for _ in range(_WORKERS)))
        return sum(counts)

    async def close(self) -> None:
        await self._channels.close()
        await self._publisher.close()
        for post in self._posts.values():
            await post.close()

    async def _work(self) -> int:
        count = 0
        while (delivery := await self._deliveries.claim()) is not None:
            count += await self._deliver(delivery)
        return count

    async def _deliver(self, delivery: Delivery) -> bool:
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                message_id = await self._send(delivery)
        except _NotYet:
            await self._deliveries.defer(delivery, _BASE_PENDING_SECONDS)
            return False
        except (FeishuError, NoticeError) as error:
            await self._deliveries.failed(
                delivery, str(error), retryable=error.retryable, retry_after=error.retry_after
            )
            return False
        except TimeoutError:
            await self._deliveries.failed(delivery, "not sent in time", retryable=True)
            return False
        await self._deliveries.sent(delivery, message_id)
        return True

    async def _send(self, delivery: Delivery) -> str | None:
        if self._publisher.owns(delivery):
            await self._publisher.send(delivery)
            return None
        if (body := delivery.payload.get("body")) is not None:
            if delivery.channel not in self._posts:
                raise NoticeError(f"the channel {delivery.channel} is no longer configured", retryable=False)
            await self._posts[delivery.channel].send(body)
            return None
        base = delivery.payload.get("updates")
        earlier = await self._deliveries.receipt(base) if base else None
        if earlier is not None and earlier.state == "queued":
            raise _NotYet
        return await self._channels.send(
            delivery.channel,
            delivery.payload["card"],
            uuid=delivery.id,
            replaces=earlier.message_id if earlier else None,
        )


class _NotYet(Exception):
    """The message that this one updates is not sent yet."""
