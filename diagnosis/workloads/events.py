"""Events in one shape, from core/v1 (`involvedObject`) and events.k8s.io/v1 (`regarding`, `note`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from diagnosis.workloads.fields import Object, mapping, newest, text, when, written

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
    path = text(about, "fieldPath")
    match = _FIELD_PATH.match(path) if path else None
    get, series = raw.get, mapping(raw, "series")  # events are most of a snapshot's objects
    created = when(raw, "metadata", "creationTimestamp")
    happened = written(get("eventTime"))
    seen = [
        written(get("lastTimestamp")),
        written(series.get("lastObservedTime")),
        written(get("deprecatedLastTimestamp")),
    ]
    started = written(get("firstTimestamp")) or written(get("deprecatedFirstTimestamp")) or happened
    counts = [found for found in (get("count"), series.get("count"), get("deprecatedCount")) if type(found) is int]
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
        count=max([1, *counts]),
        first=started or created,
        last=newest(seen) or happened or created,
        container=match[2] if match else None,
        section=match[1] if match else None,
        raw=raw,
    )


def is_event(raw: object) -> bool:
    return text(raw, "kind") == "Event"
