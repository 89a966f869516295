"""What the human sees: the difference between the object and the server's own dry run of the write.

The text is a function of the two objects alone, so that the executor's second dry run can be compared with it.
Values of environment variables and keys that look like secrets are masked; whether they change stays visible.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from actions.objects import normalise, title
from errors import Refused
from tools.kubernetes.client import Object

_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # libyaml's is ten times faster
_SECRET_NAME = re.compile(r"pass(word|wd)?|secret|token|credential|private|api_?key|access_?key|auth", re.IGNORECASE)
_CREDENTIALS = re.compile(r"://[^/\s:@]*:[^@\s]+@")
_MASK = "<masked>"
_MASK_CHANGED = "<masked, and changed>"
_CONTEXT_LINES = 4


def object_diff(before: Object, after: Object) -> str:
    """Unified diff of the semantic forms, as YAML with sorted keys."""
    old, new = normalise(before), normalise(after)
    _mask_pair(old, new)
    name = title(before)
    return text_diff(to_yaml(old), to_yaml(new), f"{name} now", f"{name} after")


def text_diff(old: str, new: str, old_name: str, new_name: str) -> str:
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), old_name, new_name, lineterm="", n=_CONTEXT_LINES)
    return "\n".join(lines)


def require_only(before: Object, after: Object, allowed: Sequence[str]) -> None:
    """Raises Refused when the dry run changes anything outside the `allowed` JSON pointers, or nothing at all."""
    changed = changed_paths(before, after)
    if not changed:
        raise Refused(f"{title(before)} has this already: there is nothing to change")
    for path in changed:
        if not any(path == prefix or path.startswith(prefix + "/") for prefix in allowed):
            raise Refused(f"the server would also change {path} of {title(before)}; that is not part of the action")


def changed_paths(before: Object, after: Object) -> list[str]:
    """JSON pointers of the smallest parts of the semantic forms that differ."""
    return list(_changed(normalise(before), normalise(after), ""))


def _changed(old: Any, new: Any, path: str) -> Iterator[str]:
    """JSON pointers of the smallest parts that differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            below = f"{path}/{str(key).replace('~', '~0').replace('/', '~1')}"
            if key not in old or key not in new:
                yield below
            else:
                yield from _changed(old[key], new[key], below)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _changed(left, right, f"{path}/{index}")
    elif old != new or type(old) is not type(new):
        yield path


def _mask_pair(old: Any, new: Any) -> None:
    """Mask secret-looking environment values in both, in place. Containers and variables are paired by name."""
    before = dict(_variables(old))
    for key, variable in _variables(new):
        earlier = before.get(key)
        same = earlier is not None and earlier.get("value") == variable.get("value")
        variable["value"] = _MASK if same or earlier is None else _MASK_CHANGED
    for variable in before.values():
        variable["value"] = _MASK


def _variables(obj: Any) -> list[tuple[tuple[str, str], dict[str, Any]]]:
    spec = obj.get("spec") or {}
    pod = (spec.get("template") or {}).get("spec") or spec
    return [
        ((str(container.get("name")), str(variable.get("name"))), variable)
        for group in ("initContainers", "containers")
        for container in pod.get(group) or []
        for variable in container.get("env") or []
        if "value" in variable
        and (_SECRET_NAME.search(str(variable.get("name"))) or _CREDENTIALS.search(str(variable["value"])))
    ]


def mask_manifest_object(obj: Object) -> Object:
    """A manifest's object fit for people: the values of Secrets are masked."""
    shown = copy.deepcopy(obj)
    if shown.get("kind") == "Secret":
        for part in ("data", "stringData"):
            if isinstance(shown.get(part), dict):
                shown[part] = dict.fromkeys(shown[part], _MASK)
    for _, variable in _variables(shown):
        variable["value"] = _MASK
    return shown


def to_yaml(value: object) -> str:
    return str(yaml.dump(value, Dumper=_DUMPER, sort_keys=True, allow_unicode=True, width=1000))
