"""The vendor's rate limits, kept on our side so that a storm of crashes is not answered with refusals.

Every limit is "at most N calls in any window of T seconds". That is stricter than a token bucket of size N, which lets
2N calls through around a moment of rest, and therefore holds whatever kind of window the vendor counts with.
One process keeps its own count: with several processes the vendor's 429 answers, and the retry after them, remain.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Rate = tuple[int, float]
"""(calls, seconds)"""

PER_API: tuple[Rate, ...] = ((50, 1.0), (1000, 60.0))
"""Each Open API method of one app (open.feishu.cn, frequency control)."""
PER_CHAT: tuple[Rate, ...] = ((5, 1.0),)
"""Messages to one chat, and updates of one message."""
PER_WEBHOOK: tuple[Rate, ...] = ((5, 1.0), (100, 60.0))
"""One custom bot in one tenant."""


class RateLimit:
    """Waits until a call keeps all of `rates`. Waiters go in the order they came."""

    def __init__(
        self,
        *rates: Rate,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._windows = [(seconds, deque[float](maxlen=calls)) for calls, seconds in rates]
        self._clock = clock
        self._sleep = sleep
        self._turn = asyncio.Lock()

    async def acquire(self) -> None:
        async with self._turn:
            while (delay := self._delay()) > 0:
                await self._sleep(delay)
            now = self._clock()
            for _, calls in self._windows:
                calls.append(now)

    @property
    def idle(self) -> bool:
        """Nobody waits and no past call counts any more: forgetting this limit changes nothing."""
        now = self._clock()
        return not self._turn.locked() and all(not c or c[-1] + seconds <= now for seconds, c in self._windows)

    def _delay(self) -> float:
        now = self._clock()
        full = [calls[0] + seconds - now for seconds, calls in self._windows if len(calls) == calls.maxlen]
        return max(full, default=0.0)


@dataclass
class _Family:
    rates: tuple[Rate, ...]
    members: dict[str, RateLimit]


class RateLimits:
    """The limits of one app or bot: `await limits.acquire(api="send", chat="oc_…")`."""

    _MAX_KEYS = 1000

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._families = {
            "api": _Family(PER_API, {}),
            "chat": _Family(PER_CHAT, {}),
            "webhook": _Family(PER_WEBHOOK, {}),
        }

    async def acquire(self, **keys: str) -> None:
        """Wait for every named limit: `api`, `chat` (a chat or message id) and `webhook`."""
        for family, key in keys.items():
            await self._limit(self._families[family], key).acquire()

    def _limit(self, family: _Family, key: str) -> RateLimit:
        if key not in family.members:
            if len(family.members) >= self._MAX_KEYS:  # message ids come and go
                family.members = {k: limit for k, limit in family.members.items() if not limit.idle}
            family.members[key] = RateLimit(*family.rates, clock=self._clock, sleep=self._sleep)
        return family.members[key]
