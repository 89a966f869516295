"""Events in one shape, from core/v1 (`involvedObject`) and events.k8s.io/v1 (`regarding`, `note`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from diagnosis.workloads.fields import Object, mapping, newest, number, text, when

# kubelet and runtime name the container as `spec.containers{name}`; init and ephemeral ones likewise
_FIELD_PATH = re.compile(r"^spec\.(containers|initContainers|ephemeralContainers)\{(.+)\}$")


@dataclass(frozen=True)
class Event:
    """One (aggregated) event. `first` and `last` are the first and last time it was seen, `count` how often."""

    kind: str
    namespace: str
    name: str
    uid: str
    reason: str
    message: str
    type: str
    source: str
    count: int
    first: datetime | None
    last: datetime | None
    container: str | None
    section: str | None
    raw: Object

    @property
    def warning(self) -> bool:
        return self.type != "Normal"


def read_event(raw: Object) -> Event:
    """An Event from its JSON. Missing fields read as empty; times fall back on each other in the API's own order."""
    about = mapping(raw, "involvedObject") or mapping(raw, "regarding")
    match = _FIELD_PATH.match(text(about, "fieldPath"))
    created = when(raw, "metadata", "creationTimestamp")
    seen = [
        when(raw, "lastTimestamp"),
        when(raw, "series", "lastObservedTime"),
        when(raw, "deprecatedLastTimestamp"),
    ]
    started = when(raw, "firstTimestamp") or when(raw, "deprecatedFirstTimestamp") or when(raw, "eventTime")
    counts = [number(raw, "count"), number(raw, "series", "count"), number(raw, "deprecatedCount")]
    return Event(
        kind=text(about, "kind"),
        namespace=text(about, "namespace") or text(raw, "metadata", "namespace"),
        name=text(about, "name"),
        uid=text(about, "uid"),
        reason=text(raw, "reason"),
        message=text(raw, "message") or text(raw, "note"),
        type=text(raw, "type"),
        source=text(raw, "source", "component")
        or text(raw, "reportingComponent")
        or text(raw, "reportingController")
        or text(raw, "deprecatedSource", "component"),
        count=max([1, *(n for n in counts if n is not None)]),
        first=started or created,
        last=newest(seen) or when(raw, "eventTime") or created,
        container=match[2] if match else None,
        section=match[1] if match else None,
        raw=raw,
    )


def is_event(raw: object) -> bool:
    return text(raw, "kind") == "Event"
