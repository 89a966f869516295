"""JSON Patch (RFC 6902) as the API server applies it: all operations or none. From the RFC, for the stand-in."""

from __future__ import annotations

import json
from typing import Any


class PatchRefused(Exception):
    """A test failed or a path is not there; the API server answers 422."""


def copied(document: Any) -> Any:
    """A deep copy of what came as JSON: several times as fast as copy.deepcopy."""
    return json.loads(json.dumps(document))


def apply_patch(document: Any, operations: list[dict[str, Any]]) -> Any:
    result = copied(document)
    for operation in operations:
        _apply(result, operation)
    return result


def _apply(root: Any, operation: dict[str, Any]) -> None:
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    holder = root
    for part in parents:
        holder = _child(holder, part)
    match operation["op"]:
        case "test":
            value = _child(holder, last, missing=None)
            if value != operation["value"] or isinstance(value, bool) != isinstance(operation["value"], bool):
                raise PatchRefused(f"test failed at {operation['path']}")
        case "add":
            if isinstance(holder, list):
                holder.insert(len(holder) if last == "-" else int(last), copied(operation["value"]))
            else:
                holder[last] = copied(operation["value"])
        case "replace":
            _child(holder, last)
            holder[int(last) if isinstance(holder, list) else last] = copied(operation["value"])
        case "remove":
            _child(holder, last)
            del holder[int(last) if isinstance(holder, list) else last]
        case other:
            raise PatchRefused(f"unknown operation {other}")


_NONE = object()


def _child(holder: Any, part: str, missing: Any = _NONE) -> Any:
    if isinstance(holder, dict) and part in holder:
        return holder[part]
    if isinstance(holder, list) and part.isdigit() and int(part) < len(holder):
        return holder[int(part)]
    if missing is _NONE:
        raise PatchRefused(f"no member {part!r}")
    return missing
