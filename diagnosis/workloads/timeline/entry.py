"""What a source of the timeline yields: one thing that happened, cheap to make in great number.

Only those entries that are shown become a `Moment` with evidence.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from incidents.models import Evidence, MomentKind, ObjectRef

CLOSE = timedelta(seconds=2)
"""Times are told in whole seconds and come from several clocks."""

BOOT = timedelta(minutes=5)
"""What a node says so soon after it joined the cluster is its start."""
_TEXT = 500
_BREAKS = re.compile(r"[\t-\r\x1c-\x1f\x85\u2028\u2029]")


@dataclass(frozen=True)
class Entry:
    """`failing` says that it shows trouble of its `object`; `cite` makes its evidence. `text` is one line."""

    at: datetime
    kind: MomentKind
    object: ObjectRef
    text: str
    cite: Callable[[], list[Evidence]]
    until: datetime | None = None
    count: int = 1
    failing: bool = False


def line(text: str) -> str:
    """`text` on one line, cut. What is quoted in it stays as it is, but for its line breaks."""
    joined = _BREAKS.sub(" ", text)
    return joined if len(joined) <= _TEXT else f"{joined[:_TEXT]}…"


def named(names: list[str]) -> str:
    """A few of the names, and how many more there are."""
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + more
