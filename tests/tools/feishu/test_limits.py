"""Rate limits hold in every window of time, whoever calls how."""

from __future__ import annotations

import asyncio

from tools.feishu.limits import PER_WEBHOOK, RateLimit, RateLimits


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def most_in_any(times: list[float], window: float) -> int:
    return max(sum(start <= other < start + window - 1e-9 for other in times) for start in times)


async def test_no_window_holds_more_than_allowed() -> None:
    time = Time()
    limit = RateLimit(*PER_WEBHOOK, clock=time, sleep=time.sleep)
    times = []
    for index in range(250):
        await limit.acquire()
        times.append(time.now)
        time.now += 0.7 if index % 40 == 0 else 0.0
    assert most_in_any(times, 1.0) == 5
    assert most_in_any(times, 60.0) == 100


async def test_rest_does_not_buy_a_double_burst() -> None:
    time = Time()
    limit = RateLimit((5, 1.0), clock=time, sleep=time.sleep)
    time.now += 3600
    times = []
    for _ in range(10):
        await limit.acquire()
        times.append(time.now)
    assert most_in_any(times, 1.0) == 5


async def test_chats_do_not_slow_each_other_down_but_share_the_api() -> None:
    time = Time()
    limits = RateLimits(clock=time, sleep=time.sleep)
    for number in range(50):
        await limits.acquire(api="send", chat=f"oc_{number}")
    assert time.now == 1000.0
    await limits.acquire(api="send", chat="oc_51")
    assert time.now == 1001.0


async def test_waiters_are_served_in_turn() -> None:
    time = Time()
    limit = RateLimit((1, 1.0), clock=time, sleep=time.sleep)
    order: list[int] = []

    async def call(number: int) -> None:
        await limit.acquire()
        order.append(number)

    await asyncio.gather(*(call(number) for number in range(5)))
    assert order == [0, 1, 2, 3, 4]
    assert time.now == 1004.0


async def test_forgotten_keys_do_not_pile_up() -> None:
    time = Time()
    limits = RateLimits(clock=time, sleep=time.sleep)
    for number in range(2500):
        await limits.acquire(chat=f"om_{number}")
        time.now += 0.01
    assert len(limits._families["chat"].members) <= 1200
