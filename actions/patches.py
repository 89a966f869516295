"""JSON Patches (RFC 6902) that refuse themselves when the object is not the one that was seen.

Every body begins with `test` operations on uid and generation, then on each value that it replaces. The API server
applies all operations or none. Where a kind has no generation, the whole spec is tested in its place; of a Node, whose
taints its controller writes, only what is changed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from tools.kubernetes.client import Object


class Absent(Enum):
    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT
"""The member was not there: the patch adds it, the inverse removes it."""


@dataclass(frozen=True)
class Change:
    """One value to set, or (new is ABSENT) to remove. `path` is a JSON pointer; its parent exists."""

    path: str
    old: Any
    new: Any


def pointer(*parts: str | int) -> str:
    """A JSON pointer (RFC 6901) to `parts`."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def value_at(obj: Object, path: str) -> Any:
    """The value at a JSON pointer, or ABSENT."""
    found: Any = obj
    for part in (item.replace("~1", "/").replace("~0", "~") for item in path.split("/")[1:]):
        if isinstance(found, dict) and part in found:
            found = found[part]
        elif isinstance(found, list) and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        else:
            return ABSENT
    return found


def forward_body(
    uid: str, generation: int, guards: Sequence[Change], changes: Sequence[Change], *, spec: Object | None = None
) -> str:
    """The patch that makes `changes`. `guards` (old equal to new) are only tested.

    `generation` 0: the kind has none, and `spec` (unless None) is tested in its place.
    """
    operations = _identity(uid, generation, spec)
    operations += [{"op": "test", "path": guard.path, "value": guard.old} for guard in guards]
    for change in changes:
        if change.old is not ABSENT:
            operations.append({"op": "test", "path": change.path, "value": change.old})
        if change.new is ABSENT:
            operations.append({"op": "remove", "path": change.path})
            continue
        operation = "add" if change.old is ABSENT else "replace"
        operations.append({"op": operation, "path": change.path, "value": change.new})
    return _encode(operations)


def inverse_body(uid: str, after: Object, changes: Sequence[Change]) -> str:
    """The patch that takes `changes` back, from the object `after` them (as the dry run answered it)."""
    operations = _identity(uid, int(after["metadata"].get("generation") or 0), tested_spec(after))
    for change in reversed(changes):
        if change.new is ABSENT:
            operations.append({"op": "add", "path": change.path, "value": change.old})
            continue
        operations.append({"op": "test", "path": change.path, "value": value_at(after, change.path)})
        if change.old is ABSENT:
            operations.append({"op": "remove", "path": change.path})
        else:
            operations.append({"op": "replace", "path": change.path, "value": change.old})
    return _encode(operations)


def tested_spec(obj: Object) -> Object | None:
    """What binds a patch to an object without generation."""
    return None if obj.get("kind") == "Node" else obj.get("spec")


def _identity(uid: str, generation: int, spec: Object | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"op": "test", "path": "/metadata/uid", "value": uid}]
    if generation:
        found.append({"op": "test", "path": "/metadata/generation", "value": generation})
    elif spec is not None:
        found.append({"op": "test", "path": "/spec", "value": spec})
    return found


_AS_THE_SERVER = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}
"""The API server compares the text of a string in a `test` byte by byte with its own JSON, in which Go escapes these
(encoding/json, HTMLEscape; github.com/evanphx/json-patch). JSON has none of them outside of strings."""


def _encode(operations: list[dict[str, Any]]) -> str:
    return json.dumps(operations, separators=(",", ":"), ensure_ascii=False).translate(_AS_THE_SERVER)
