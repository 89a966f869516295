"""What kind of thing a metric tells, by its name: its own resources, what it serves, what it waits for.

The kinds differ in how far trouble travels. A workload's own CPU or memory changes where the trouble is; what it serves
slows wherever it waits for another; traffic falls everywhere behind and before a slow one. The weights say this and
nothing finer; they were set once from that argument and are no fit to a data set.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache


class Signal(StrEnum):
    CPU = "cpu"
    MEMORY = "memory"
    DISK = "disk"
    RESTARTS = "restarts"
    SERVED_LATENCY = "latency"
    ERRORS = "errors"
    CALL_LATENCY = "latency of its calls"
    CALLED_LATENCY = "latency seen by its callers"  # of an edge; credited to the callee
    TRAFFIC = "traffic"
    LESS_WORK = "less work"  # of one that others call: it does less because less is asked of it
    ASKS_LESS = "asks less of others"  # of those who call such
    OTHER = "other"
    PRESENCE = "presence"  # the series itself began or ended
    SLOWS = "latency of most of what runs on it"  # of a node
    NODE = "node"  # of the machine: says nothing of one pod on it


WEIGHTS = {
    Signal.CPU: 1.0,
    Signal.MEMORY: 1.0,
    Signal.DISK: 1.0,
    Signal.RESTARTS: 1.0,
    Signal.SERVED_LATENCY: 1.0,
    Signal.CALLED_LATENCY: 1.0,
    Signal.ERRORS: 1.0,
    Signal.OTHER: 0.8,
    Signal.PRESENCE: 0.6,
    Signal.CALL_LATENCY: 0.5,
    Signal.TRAFFIC: 0.5,
    Signal.LESS_WORK: 0.5,
    Signal.ASKS_LESS: 1.0,
    Signal.SLOWS: 1.0,
}
TRAVELS = {Signal.SERVED_LATENCY, Signal.CALLED_LATENCY, Signal.ERRORS, Signal.CALL_LATENCY, Signal.TRAFFIC,
           Signal.LESS_WORK, Signal.ASKS_LESS}  # fmt: skip
WORK = {Signal.CPU, Signal.DISK, Signal.TRAFFIC, Signal.OTHER}
"""Kinds that fall where less is asked."""
"""Kinds that a caller shows because of what it calls."""

_FORMS = (
    (Signal.NODE, r"^node|^machine_|^kubelet_"),
    (Signal.RESTARTS, r"restart|oom|terminated|crash|evict"),
    (Signal.ERRORS, r"error|fail|success|5xx|4xx|exception|refused|abort|reject"),
    (Signal.CALL_LATENCY, r"client.*(latency|duration|time|seconds)|upstream.*(latency|duration|time)"),
    (Signal.SERVED_LATENCY, r"latenc|duration|response_?time|request.*seconds|delay|p(50|90|95|99)\b|rtt"),
    (Signal.CPU, r"cpu|throttl|load\d*$|procs_running"),
    (Signal.MEMORY, r"mem|heap|rss|working_?set|gc_"),
    (Signal.DISK, r"disk|(^|_)fs(_|$)|filesystem|(^|[_-])io(ps)?([_-]|$)|iowait|diskio|volume"),
    (Signal.TRAFFIC, r"network|(^|_)net|receive|transmit|packet|workload|load$|qps|rps|ops\b|throughput"),
    (Signal.TRAFFIC, r"request|socket|connection"),
)  # fmt: skip
_COMPILED = tuple((signal, re.compile(form)) for signal, form in _FORMS)
_SPARE = re.compile(r"avail|free|idle")
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")


@lru_cache(maxsize=4096)
def signal_of(name: str) -> Signal:
    """By the first form that the name has; CamelCase is read like snake_case."""
    plainly = _plain(name)
    return next((signal for signal, form in _COMPILED if form.search(plainly)), Signal.OTHER)


@lru_cache(maxsize=4096)
def signal_of_node(name: str) -> Signal:
    """What a node's own metric measures: its name without the word for the node."""
    return signal_of(re.sub(r"^(node|machine|kubelet)_+", "", _plain(name)))


@lru_cache(maxsize=4096)
def worse(name: str) -> float:
    """Which way a node's metric goes when it has less to give: 1 up, -1 down."""
    return -1.0 if _SPARE.search(_plain(name)) else 1.0


def _plain(name: str) -> str:
    return _WORDS.sub("_", name).lower().replace(" ", "_").replace("-", "_")
