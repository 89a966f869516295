"""How the tools over a snapshot show what they found, a line each."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence

from agents.read_tools.arguments import MAX_ROWS
from agents.tool_loop import Reading
from diagnosis.workloads.containers import Container, containers_of
from diagnosis.workloads.fields import Object, mapping, text
from diagnosis.workloads.revisions import Revision
from diagnosis.workloads.snapshot import ref_of
from incidents.models import EvidenceKind

TEXT_CHARS = 3800


def reading(rows: Iterable[str], source: str, seen: Sequence[Object]) -> Reading:
    """At most `MAX_ROWS` lines read at `source`; `seen` are the objects that they are about."""
    lines = list(rows)
    shown_lines = lines[:MAX_ROWS] + ([f"({len(lines) - MAX_ROWS} more)"] if len(lines) > MAX_ROWS else [])
    refs = list(dict.fromkeys(ref_of(item) for item in seen))
    return Reading("\n".join(shown_lines)[:TEXT_CHARS] or "(none)", source, EvidenceKind.OBJECT, refs)


def pod_rows(pod: Object) -> Iterable[str]:
    where = text(pod, "spec", "nodeName") or "no node"
    yield f"pod {text(pod, 'metadata', 'name')} {text(pod, 'status', 'phase')} on {where}"
    for item in containers_of(pod):
        yield f"  container {item.name}: {_state(item)}"


def _state(item: Container) -> str:
    state = next(iter(mapping(item.status, "state")), "unknown")
    reason = text(item.status, "state", state, "reason")
    ended = mapping(item.status, "lastState", "terminated")
    parts = [f"{state} {reason}".strip(), f"ready={item.ready}", f"restarts={item.restarts}"]
    if ended:
        parts.append(f"last ended {text(ended, 'reason')} exitCode={ended.get('exitCode')} {text(ended, 'finishedAt')}")
    return ", ".join(parts)


def revision_row(revision: Revision) -> str:
    created = f"{revision.created_at:%Y-%m-%dT%H:%M:%SZ}" if revision.created_at else "unknown"
    ready = {True: "was ready", False: "was seen failing", None: "its health is unknown"}[revision.was_ready]
    current = " (current)" if revision.current else ""
    return f"revision {revision.number}{current} of {created}: {ready}: {revision.reason}"


def healthy_before(found: Sequence[Revision]) -> Revision:
    """The last revision before the newest that was healthy; without one, the one right before."""
    return next((item for item in reversed(found[:-1]) if item.was_ready), found[-2])


def change_rows(old: Revision, new: Revision) -> list[str]:
    before, after = (
        json.dumps(item.template, indent=1, sort_keys=True, ensure_ascii=False).splitlines() for item in (old, new)
    )
    lines = list(difflib.unified_diff(before, after, lineterm="", n=1))[2:]
    return [f"changes from revision {old.number} to {new.number}:", *(lines or ["none"])]


def pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items()) or "none"
