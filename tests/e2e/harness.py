"""Small things that every scenario needs: waiting with a bound, names that give nothing away, running programs."""

from __future__ import annotations

import random
import secrets
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]

_WORDS = (
    "alder", "amber", "birch", "brook", "cedar", "clover", "coral", "dale", "ember", "fern", "flint", "garnet",
    "grove", "hazel", "heron", "ivory", "jade", "juniper", "larch", "linden", "maple", "marten", "meadow",
    "moss", "oak", "onyx", "opal", "orchid", "osprey", "otter", "pebble", "pine", "plover", "quartz", "raven",
    "reed", "river", "robin", "rowan", "saffron", "sage", "slate", "sorrel", "sparrow", "spruce", "tansy",
    "teal", "thistle", "umber", "vale", "walnut", "willow", "wren", "yarrow",
)  # fmt: skip


def name() -> str:
    """A random name of two words and a number: no rule can learn anything from it."""
    return f"{random.choice(_WORDS)}-{random.choice(_WORDS)}-{secrets.token_hex(2)}"


class NotInTime(AssertionError):
    """What was waited for did not happen."""


def until(check: Callable[[], T | None], timeout: float, what: str, *, show: Callable[[], object] | None = None) -> T:
    """The first truthy answer of `check`. Raises NotInTime after `timeout` seconds, with what `show` says."""
    deadline = time.monotonic() + timeout
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > deadline:
            last = f"; last seen: {show()}" if show else ""
            raise NotInTime(f"not within {timeout:.0f} s: {what}{last}")
        time.sleep(0.2)


def run(*command: str | Path, timeout: float = 120, env: dict[str, str] | None = None, check: bool = True) -> str:
    """Run a program by its argument list and return its standard output; a failure shows its errors."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=timeout, env=env)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout
