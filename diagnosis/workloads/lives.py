"""How long the instances of a container lived before they were killed for memory, where nothing was measured.

A program that loses memory at a steady rate lives about as long each time, and long. So does one that a clock kills (a
job of every hour or night), or a peak of load that meets all replicas at once: those are told apart by when it ended.
A pod's status shows two ended instances at most; replicas show more, and the restart count with the pod's age gives
the mean of all. Three samples that agree are needed: of random lives (exponential, mean of five) two agree so in one
case of seven, three in one of forty.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations
from typing import Literal

from diagnosis.workloads.containers import Container, containers_of
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import text, when
from diagnosis.workloads.restarts import Ending, Restart
from diagnosis.workloads.scope import Scope
from incidents.models import Evidence

_LONG = timedelta(minutes=30)  # six times the longest back-off, so that it does not blur the mean
_SAMPLES = 3
_ALIKE = 1.3
_CHANGED = 2.0
_FEWEST_ENDED = 4  # for a mean
_SAME_TIME = timedelta(minutes=3)

Course = Literal["alike", "shorter", "longer"]


@dataclass(frozen=True)
class Lives:
    """`course` from the first to the last; `typical` is the shortest and the longest that was seen."""

    course: Course
    typical: tuple[timedelta, timedelta]
    evidence: list[Evidence]


def lives_of(scope: Scope, container: Container) -> Lives | None:
    """What the lives of a container and of its replicas show; None where they show nothing plain."""
    peers = [peer for peer in _peers(scope, container) if _may_be_compared(peer, container)]
    killed = [end for peer in peers for end in scope.endings(peer) if end.ending is Ending.OOM_KILLED and end.lifetime]
    means = {id(peer): mean for peer in peers if (mean := _mean(scope, peer)) is not None}
    known = [end.lifetime for end in killed if end.lifetime is not None]
    samples = [*known, *means.values()]
    if len(samples) < 2 or min(samples) < _LONG:
        return None
    seen = [of_object(end.container.pod, end.at, scope.snapshot.observed_at) for end in killed[:4]]
    span = min(samples), max(samples)
    if len(samples) >= _SAMPLES and span[1] / span[0] <= _ALIKE:
        longer_now = any(_lives_on(scope, peer, span[1]) for peer in peers)
        return None if longer_now or _by_the_clock(killed) else Lives("alike", span, seen)
    course = _course(scope, container, means.get(id(container)))
    return Lives(course, span, seen) if course else None


def _peers(scope: Scope, container: Container) -> list[Container]:
    pods = scope.snapshot.pods_of(scope.owner(container).model_copy(update={"container": None}))
    others = [pod for pod in pods if pod is not container.pod]
    return [container, *(peer for pod in others for peer in containers_of(pod) if peer.name == container.name)]


def _may_be_compared(peer: Container, container: Container) -> bool:
    """The same program under the same limit."""
    same = [text(one.spec, "resources", "limits", "memory") for one in (peer, container)]
    return peer.image == container.image and same[0] == same[1] and peer.section == container.section


def _mean(scope: Scope, container: Container) -> timedelta | None:
    """From the pod's start to the last end, over the lives that ended meanwhile."""
    shown, begun = scope.endings(container), when(container.pod, "status", "startTime")
    count = container.restarts + (not container.running)
    if not shown or begun is None or shown[0].finished is None or count < _FEWEST_ENDED:
        return None
    if any(end.ending is not Ending.OOM_KILLED for end in shown):
        return None
    return (shown[0].finished - begun) / count


def _lives_on(scope: Scope, container: Container, longest: timedelta) -> bool:
    """Whether the present instance has outlived all others: then nothing grew to a limit in that time."""
    started = when(container.status, "state", "running", "startedAt")
    return started is not None and scope.snapshot.observed_at - started > longest * _ALIKE


def _by_the_clock(killed: list[Restart]) -> bool:
    """Whether the ends fall on the same minute of an hour, or two of different pods at the same moment."""
    times = [(end.finished, end.container.pod_uid) for end in killed if end.finished is not None]
    pairs = list(combinations(times, 2))
    together = any(abs(one - other) <= _SAME_TIME for (one, pod), (other, its) in pairs if pod != its)
    return together or (bool(pairs) and all(_same_minute(one, other) for (one, _), (other, _) in pairs))


def _same_minute(one: datetime, other: datetime) -> bool:
    rest = abs(one - other) % timedelta(hours=1)
    return min(rest, timedelta(hours=1) - rest) <= _SAME_TIME


def _course(scope: Scope, container: Container, mean: timedelta | None) -> Course | None:
    """Whether the newest life is much shorter or longer than the one before it, or than the mean of at least four."""
    shown = [end.lifetime for end in scope.endings(container) if end.ending is Ending.OOM_KILLED and end.lifetime]
    before = mean or (shown[1] if len(shown) == 2 else None)
    if not shown or before is None or not shown[0]:
        return None
    if before / shown[0] >= _CHANGED:
        return "shorter"
    return "longer" if shown[0] / before >= _CHANGED else None
