"""The revision that fails, the one before that ran, and what changed between them."""

from __future__ import annotations

import json
from collections.abc import Iterator

from diagnosis.redaction import redact
from diagnosis.workloads.containers import template_containers
from diagnosis.workloads.fields import Object, mapping, text
from diagnosis.workloads.revisions import Revision
from diagnosis.workloads.snapshot import Snapshot
from incidents.models import Fact, ObjectRef

_VALUE_CHARS = 120
_NOISE = {"creationTimestamp", "kubectl.kubernetes.io/restartedAt"}


def current_revision(snapshot: Snapshot, ref: ObjectRef) -> Revision | None:
    return next((revision for revision in reversed(snapshot.revisions(ref)) if revision.current), None)


def healthy_before(snapshot: Snapshot, ref: ObjectRef) -> Revision | None:
    """The newest revision before the current one that was seen healthy."""
    current = current_revision(snapshot, ref)
    if current is None:
        return None
    earlier = [r for r in snapshot.revisions(ref) if r.number < current.number and r.was_ready is True]
    return earlier[-1] if earlier else None


def revision_facts(snapshot: Snapshot, ref: ObjectRef) -> dict[str, Fact]:
    """`current_revision`; `healthy_revision` and `healthy_because` when one was seen healthy; else
    `previous_revision` and `previous_because` for the newest one whose health was not observed."""
    current = current_revision(snapshot, ref)
    if current is None:
        return {}
    facts: dict[str, Fact] = {"current_revision": current.number}
    healthy = healthy_before(snapshot, ref)
    if healthy is not None:
        return facts | {"healthy_revision": healthy.number, "healthy_because": healthy.reason}
    earlier = [r for r in snapshot.revisions(ref) if r.number < current.number and r.was_ready is None]
    if earlier:
        facts |= {"previous_revision": earlier[-1].number, "previous_because": earlier[-1].reason}
    return facts


def changes(old: Object, new: Object, container: str | None = None) -> list[str]:
    """What differs between two pod templates, one line each, containers by name; of one container if named."""
    lines: list[str] = []
    before, after = template_containers(old), template_containers(new)
    for name in sorted({*before, *after}):
        if container is not None and name != container:
            continue
        if name not in before:
            lines.append(f"container {name}: added")
        elif name not in after:
            lines.append(f"container {name}: removed")
        else:
            lines += [f"container {name}: {line}" for line in _differences(_named(before[name]), _named(after[name]))]
    if container is None:
        inert = {"containers", "initContainers", "ephemeralContainers"}
        rest_old = {key: value for key, value in mapping(old, "spec").items() if key not in inert}
        rest_new = {key: value for key, value in mapping(new, "spec").items() if key not in inert}
        lines += [f"pod: {line}" for line in _differences(rest_old, rest_new)]
        meta_old, meta_new = mapping(old, "metadata"), mapping(new, "metadata")
        lines += [f"metadata: {line}" for line in _differences(meta_old, meta_new)]
    return lines


def _named(container: Object) -> Object:
    """Lists of named things as mappings, so that a change names the variable and not a position."""
    result = dict(container)
    for field in ("env", "ports", "volumeMounts"):
        items = container.get(field)
        if isinstance(items, list):
            label = "mountPath" if field == "volumeMounts" else "name"
            result[field] = {
                text(item, label) or str(index): item for index, item in enumerate(items) if isinstance(item, dict)
            }
    return result


def _differences(old: object, new: object, path: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}, key=str):
            if key not in _NOISE:
                yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    elif old != new:
        yield f"{path}: {_shown(old)} -> {_shown(new)}"


def _shown(value: object) -> str:
    if value is None:
        return "(none)"
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    shown = redact(shown).replace("\n", " ")
    return shown if len(shown) <= _VALUE_CHARS else f"{shown[:_VALUE_CHARS]}…"
