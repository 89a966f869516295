"""Crashes by signal that left no core: they are incidents too, with the reason why there is none.

A container that a core-dumping signal ended is met with its core by pod uid, container and time. When none has come
within the grace time, and none is being written, the crash is recorded without one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from collector.ledger import Ledger
from collector.node import core_limit, lost_by_limit, lost_by_pattern, processes_of, read_node
from collector.webhook.inject import LABEL, wanted
from diagnosis.workloads.containers import Container, containers_of
from diagnosis.workloads.fields import Object, objects, text
from diagnosis.workloads.restarts import Ending, restarts_of

_BEFORE = timedelta(seconds=120)  # a large core is written for a while before the container counts as ended
_AFTER = timedelta(seconds=15)  # times of the status have whole seconds, and clocks of node and kubelet are one
_TOO_OLD = timedelta(hours=1)
_NOT_GIVEN = (
    "the pod asks for a folder for its cores and was given none when it was made: its namespace has as many as it may "
    "(webhook.max_pods) or forbids them, the path that it names may not be used, or the webhook was away; the "
    "webhook's log says which"
)


@dataclass(frozen=True)
class SignalCrash:
    """One ended container instance."""

    pod: Object
    container: Container
    signal: int | None
    finished: datetime

    @property
    def uid(self) -> str:
        return text(self.pod, "metadata", "uid")

    @property
    def span(self) -> tuple[int, int]:
        """When its core was last written (ns since the epoch)."""
        earliest, latest = self.finished - _BEFORE, self.finished + _AFTER
        return int(earliest.timestamp() * 1e9), int(latest.timestamp() * 1e9)


def crashes_in(pods: list[Object], now: datetime) -> Iterator[SignalCrash]:
    """What ended by a signal that dumps core within the last hour. Probe kills, evictions and stops are none."""
    for pod in pods:
        for container in containers_of(pod):
            for restart in restarts_of(container, []):
                ended = restart.finished
                if restart.ending is Ending.CRASH_SIGNAL and ended is not None and now - ended < _TOO_OLD:
                    yield SignalCrash(pod, container, restart.signal, ended)


def core_of(crash: SignalCrash, ledger: Ledger) -> str | None:
    """The record of the core that this crash left, or None."""
    return ledger.core_of_crash(crash.uid, crash.container.name, crash.finished, crash.span)


def why_none(crash: SignalCrash, proc: Path) -> str:
    """Why there is no core, as far as the node shows it. Blocking."""
    try:
        node = read_node(proc)
    except OSError:
        return "no core was found, and the node's /proc could not be read to say why"
    mounts = [text(mount, "mountPath") for mount in objects(crash.container.spec, "volumeMounts")]
    if reason := lost_by_pattern(node, mounts):
        given = text(crash.pod, "metadata", "labels", LABEL) == "injected"
        return _NOT_GIVEN if wanted(crash.pod) and not given else reason
    for container_id in _container_ids(crash.container):
        for pid in processes_of(container_id, proc):
            known, limit = core_limit(pid, proc)
            if known and (reason := lost_by_limit(limit)):
                return reason
            break
    return (
        "no core was found although the node would have kept it: the program may handle the signal and exit with its "
        "number, or forbid cores (prctl, RLIMIT_CORE), or the disk was full"
    )


def _container_ids(container: Container) -> Iterator[str]:
    """Of the instance that runs now: it was started with the limits of the one that crashed."""
    found = text(container.status, "containerID").rpartition("://")[2]
    if found:
        yield found
