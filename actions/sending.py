"""Sending one write at most once, whatever happens to the answer or to this process.

The journal says that a write is about to be sent before it is, and what was reached after it. Found in between, the
target is read first: as before, then the same bytes go out again (their test operations make a late duplicate
harmless); as after, then it counts as done; anything else ends in a failure that a person has to look at. Nothing is
ever retried blindly.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from actions.effects.base import Effect, Expected, Look, ambiguous
from errors import Stale, ToolFailed

_TRIES = 3
_LOOK_SECONDS = 0.25


class Unknown(ToolFailed):
    """The write was sent, and the target is neither as before nor as after it."""

    title = "It is not certain what was written"


@dataclass(frozen=True)
class Marks:
    """`confirm` proves that the lock is still ours; `sending(attempt)` tells the journal. Both before each write."""

    confirm: Callable[[], Awaitable[None]]
    sending: Callable[[int], Awaitable[None]]


async def send_once(effect: Effect, expected: Expected, marks: Marks, *, attempts: int, may_send: bool) -> Expected:
    """Bring about one write and return what was reached.

    `attempts` is how often it was sent before, as the journal says; 0 means never. With `may_send` false (the kill
    switch) nothing is sent, only recognised.
    Raises Stale when it was not written, Unknown when that is not certain, another ToolFailed when the target cannot
    be seen (call again later).
    """
    while True:
        if attempts:
            look, seen = await settled_look(effect, expected)
            if look is Look.AFTER:
                return seen
            if look is not Look.BEFORE:
                raise Unknown("the write was sent, and the target is now in a state that it does not explain")
        if not may_send:
            raise Stale("the kill switch is on: it was not written")
        if attempts >= _TRIES:
            raise Unknown(f"the write was sent {attempts} times, and the cluster did not carry it out")
        attempts += 1
        await marks.confirm()
        await marks.sending(attempts)
        try:
            return await effect.send()
        except ToolFailed as error:
            if attempts == 1 and not ambiguous(error):
                return await _refused(effect, expected, error)


async def settled_look(effect: Effect, expected: Expected) -> tuple[Look, Expected]:
    """Look until nothing is being carried out any more, at most `effect.patience` seconds.

    Raises the tools' error (ClusterUnreachable, …) when the target cannot be seen all that time.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + effect.patience
    while True:
        failure, look, seen = None, Look.WORKING, cast(Expected, {})
        try:
            look, seen = await effect.look(expected)
        except ToolFailed as error:
            failure = error
        if failure is None and look is not Look.WORKING:
            return look, seen
        if loop.time() >= give_up:
            if failure:
                raise failure
            return look, seen
        await asyncio.sleep(_LOOK_SECONDS)


async def _refused(effect: Effect, expected: Expected, error: ToolFailed) -> Expected:
    """The first attempt was refused. The API server writes all or nothing; helm may have come half way."""
    if not effect.atomic:
        look, seen = await settled_look(effect, expected)
        if look is Look.AFTER:
            return seen  # a failed revision: verification sees it, and it is undone
        if look is not Look.BEFORE:
            raise Unknown(f"it failed half way: {error}") from error
    raise Stale(f"it was refused: {error}") from error


def encode(expected: list[Expected]) -> str:
    """The outcomes of rehearsals, as the journal keeps them."""
    return json.dumps(expected, sort_keys=True)


def decode(text: object) -> list[Expected]:
    return cast("list[Expected]", json.loads(str(text)))
