"""Where a custom resource says what its operator writes into a workload: the field to change instead.

An operator copies fields of its resource into the pod template, mostly under the same name. A field of the resource
that has the same name and the same value as what would be changed is that field, when there is only one that fits best.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from actions.objects import controller_of, metadata
from actions.patches import pointer, value_at
from actions.preview import changed_paths
from errors import ToolFailed
from tools.kubernetes.client import Cluster, Object

_MAX_DEPTH = 12
_Scalar = str | int | float | bool
_Part = str | int


async def owners_change(cluster: Cluster, before: Object, after: Object) -> str | None:
    """The change of the owning custom resource as text; None when it cannot be read or the fields cannot be told."""
    owner = controller_of(before) or {}
    version, kind, name = (str(owner.get(key) or "") for key in ("apiVersion", "kind", "name"))
    try:
        resource = await cluster.get(version, kind, metadata(before).get("namespace"), name)
    except ToolFailed:
        return None  # no right to read such resources: its owner's name has to do
    if resource is None or metadata(resource).get("uid") != owner.get("uid"):
        return None
    lines = []
    for path in changed_paths(before, after):
        old, new = value_at(before, path), value_at(after, path)
        place = _place(resource.get("spec") or {}, path, old) if isinstance(old, _Scalar) else None
        if place is None or not isinstance(new, _Scalar):
            return None
        lines += [f"-{place}: {old}", f"+{place}: {new}"]
    where = f"{kind} {metadata(resource).get('namespace')}/{name}"
    return "\n".join([f"--- {where} now", f"+++ {where} after", *lines]) if lines else None


def _place(spec: Any, path: str, value: _Scalar) -> str | None:
    """The one field with this value whose path ends most like `path`; at least the name is the same."""
    wanted = path.split("/")[1:]
    found: dict[int, list[str]] = {}
    for parts, held in _leaves(spec, ("spec",)):
        if held == value and type(held) is type(value):
            score = _same_end([str(part) for part in parts], wanted)
            found.setdefault(score, []).append(pointer(*parts))
    best = max(found, default=0)
    return found[best][0] if best and len(found[best]) == 1 else None


def _same_end(one: list[str], other: list[str]) -> int:
    count = 0
    for left, right in zip(reversed(one), reversed(other), strict=False):
        if left != right:
            break
        count += 1
    return count


def _leaves(value: Any, at: tuple[_Part, ...]) -> Iterator[tuple[tuple[_Part, ...], _Scalar]]:
    if len(at) > _MAX_DEPTH:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*at, str(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*at, index))
    elif isinstance(value, _Scalar):
        yield at, value
