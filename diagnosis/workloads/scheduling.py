"""The scheduler's message, taken apart: which filter stops how many nodes.

Words: kubernetes/pkg/scheduler/framework/plugins (each filter plugin's ErrReason constants); they differ a little
between versions. A node that several filters refuse may be counted by each of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_HEAD = re.compile(r"^\s*(?:\d+/)?(\d+) nodes are available: ?")
_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("volume_zone", re.compile(r"volume node affinity conflict|no available volume zone", re.I)),
    ("volume_limit", re.compile(r"exceed max volume count", re.I)),
    (
        "claim",
        re.compile(
            r"persistentvolumeclaim|\bpvcs?\b|persistent volumes to bind|enough free storage|storageclass",
            re.I,
        ),
    ),
    ("host_port", re.compile(r"free ports", re.I)),
    ("spread", re.compile(r"topology spread", re.I)),
    ("pod_anti_affinity", re.compile(r"anti-?affinity rules|existing pods anti-?affinity", re.I)),
    ("pod_affinity", re.compile(r"pod affinity rules", re.I)),
    ("pod_affinity_or_anti", re.compile(r"pod affinity/anti-affinity|inter-?pod", re.I)),
    ("node_match", re.compile(r"node selector|node affinity|didn't match|did not match", re.I)),
    ("cordon", re.compile(r"(?:were|was|is) unschedulable|node\.kubernetes\.io/unschedulable", re.I)),
    ("taint", re.compile(r"taint", re.I)),
    ("resource", re.compile(r"insufficient [\w./-]+|too many pods", re.I)),
)
_TAINT = re.compile(r"\{(?P<key>[^:}\s]+)(?:: ?(?P<value>[^}]*))?\}")
CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")


@dataclass(frozen=True)
class Reason:
    """One part of the message. `what` is the resource (`pods` for too many pods) or the taint's key, else empty."""

    kind: str
    count: int
    said: str
    what: str = ""
    value: str = ""


def reasons_in(message: str) -> list[Reason]:
    """The parts of a scheduler's message in its own order; parts that no known filter says are of kind `other`."""
    body = _HEAD.sub("", message).split(" preemption:")[0]
    parts = [part.strip(" .") for part in re.split(r",(?![^{(]*[})])", body) if part.strip(" .")]
    found: list[Reason] = []
    for part in parts:
        if found and not re.match(r"\d", part):  # `…, that the pod didn't tolerate`
            continue
        count = re.match(r"(\d{1,9}) ", part)
        kind = next((kind for kind, pattern in _KINDS if pattern.search(part)), "other")
        what = value = ""
        if kind == "resource":
            named = re.search(r"insufficient ([\w./-]+)", part, re.I)
            what = named[1] if named else "pods"
        elif kind == "taint" and (match := _TAINT.search(part)):
            what, value = match["key"], (match["value"] or "").strip()
        found.append(Reason(kind, int(count[1]) if count else 1, part, what, value))
    return found


def nodes_in(message: str) -> int | None:
    """How many nodes the scheduler looked at."""
    match = _HEAD.match(message)
    return int(match[1]) if match and len(match[1]) < 10 else None
