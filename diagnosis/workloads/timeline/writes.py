"""Objects made, deleted and written: who wrote what when, as far as managed fields keep it.

https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management: an entry for each manager, with the
fields that it manages and the time of its last write that changed them. Earlier writes of the same manager are not
kept. What a controller writes into the status is no change of the object.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import Object, mapping, number, objects, text, when
from diagnosis.workloads.snapshot import ref_of
from diagnosis.workloads.timeline.entry import CLOSE, Entry, line, named
from incidents.models import Evidence, MomentKind

_CONTENT = ("ConfigMap", "Secret")
_CONTROLLERS = frozenset(
    {"kube-controller-manager", "kube-scheduler", "kubelet", "cloud-controller-manager", "kube-apiserver"}
)
"""Where the fields are not known, these count as writers of the status."""


@dataclass(frozen=True)
class Write:
    """That `manager` wrote the object at `time`; `fields` of its spec or data are those that it manages."""

    time: datetime
    manager: str
    fields: tuple[str, ...]
    pointer: str


def writes_of(item: Object) -> list[Write]:
    """The writes of spec or data that the object tells of, oldest first."""
    found = []
    for index, entry in enumerate(objects(item, "metadata", "managedFields")):
        time, manager = when(entry, "time"), text(entry, "manager")
        if time is None or text(entry, "subresource") not in ("", "scale"):
            continue
        fields = mapping(entry, "fieldsV1")
        if not fields and text(item, "kind") not in _CONTENT and manager in _CONTROLLERS:
            continue
        parts = [mapping(fields, part) for part in fields if part not in ("f:metadata", "f:status")]
        if fields and not parts:
            continue
        names = sorted({name[2:] for part in parts for name in part if name.startswith("f:")})
        found.append(Write(time, manager or "an unnamed writer", tuple(names), f"/metadata/managedFields/{index}"))
    return sorted(found, key=lambda write: (write.time, write.manager))


def changes_of(item: Object, now: datetime, told: frozenset[datetime] = frozenset()) -> Iterator[Entry]:
    """When an object was made, written and deleted. Writes at the times `told` are told elsewhere already."""
    ref, made = ref_of(item), when(item, "metadata", "creationTimestamp")
    author = ""
    for write in writes_of(item):
        if made is not None and write.time <= made + CLOSE:
            author = f" by {write.manager}"
        elif write.time not in told:
            scaled = write.fields == ("replicas",)
            yield Entry(
                write.time,
                MomentKind.SCALING if scaled else MomentKind.CHANGE,
                ref,
                line(f"{ref.kind} {ref.name} was {'scaled' if scaled else 'written'} by {write.manager}{_of(write)}"),
                partial(_cited, item, write.pointer, now),
            )
    if made is not None:
        cite = partial(_cited, item, "/metadata/creationTimestamp", now)
        yield Entry(made, MomentKind.CHANGE, ref, line(f"{ref.kind} {ref.name} was created{author}"), cite)
    if (deadline := when(item, "metadata", "deletionTimestamp")) is not None:
        asked = deadline - timedelta(seconds=min(number(item, "metadata", "deletionGracePeriodSeconds") or 0, 86_400))
        cite = partial(_cited, item, "/metadata/deletionTimestamp", now)
        text_ = line(f"Deletion of {ref.kind} {ref.name} was asked for, and it is still there")
        yield Entry(asked, MomentKind.CHANGE, ref, text_, cite)


def _of(write: Write) -> str:
    if not write.fields or write.fields == ("replicas",):
        return ""
    return f" (it manages {named(list(write.fields))})"


def _cited(item: Object, pointer: str, now: datetime) -> list[Evidence]:
    return [of_object(item, pointer, now)]
