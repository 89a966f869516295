"""Point a reference to a ConfigMap or Secret to another one, or to another key, that exists.

Names and keys are compared with what the cluster holds; values are never looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from actions.catalogue.draft import Draft, patch_write, read_target, rollout_radius
from actions.catalogue.stuck_pods import stuck_pods
from actions.objects import container_names, find_container, metadata, normalise, replicas, template_of, title
from actions.patches import Change, pointer
from errors import Refused
from incidents.actions import ChangeConfigReference
from incidents.plan import Risk
from tools.kubernetes.client import Cluster, KubernetesError, Object

KINDS = ("Deployment", "StatefulSet", "DaemonSet")
_VOLUME = {"ConfigMap": ("configMap", "name"), "Secret": ("secret", "secretName")}
_SOURCE = {"ConfigMap": "configMap", "Secret": "secret"}
_ENV_FROM = {"ConfigMap": "configMapRef", "Secret": "secretRef"}
_KEY_REF = {"ConfigMap": "configMapKeyRef", "Secret": "secretKeyRef"}
_At = tuple[str | int, ...]


@dataclass(frozen=True)
class _Place:
    """One reference in a pod template."""

    name_at: _At
    key_at: _At | None = None
    key: str | None = None
    needs: tuple[str, ...] = ()
    """Keys that must be there for a pod to start."""
    container: str | None = None


async def derive(cluster: Cluster, action: ChangeConfigReference) -> Draft:
    """Raises Refused when nothing refers to it, or the new object or one of its keys is not there."""
    live = await read_target(cluster, action.target, KINDS)
    radius = rollout_radius(live)
    if action.container is not None and find_container(live, action.container) is None:
        raise Refused(f"{title(live)} has no container {action.container!r}")
    found = list(_places(live, action))
    what = f"{action.kind} {action.name}" + (f" key {action.key}" if action.key else "")
    if not found:
        raise Refused(f"{title(live)} does not refer to {what}")
    if (action.name, action.key) == (action.to_name, action.to_key or action.key):
        raise Refused(f"{title(live)} refers to {what} already")
    await _require_there(cluster, str(metadata(live)["namespace"]), action, found)
    changes = []
    for place in found:
        if action.to_name != action.name:
            changes.append(Change(pointer(*place.name_at), action.name, action.to_name))
        if place.key_at is not None and action.to_key is not None and action.to_key != action.key:
            changes.append(Change(pointer(*place.key_at), action.key, action.to_key))
    to = f"{action.kind} {action.to_name}" + (f" key {action.to_key}" if action.to_key else "")
    named = sorted({place.container for place in found if place.container}) or container_names(template_of(live))
    return Draft(
        title=f"Let {title(live)} refer to {to} instead of {what}",
        writes=[patch_write(live, [], changes), *await stuck_pods(cluster, live)],
        risk=Risk.MEDIUM,
        blast_radius=f"{radius}; {len(found)} reference(s) change",
        affected_pods=replicas(live),
        preimage=normalise(live),
        changes=changes,
        allowed=[change.path for change in changes],
        containers=named,
    )


def _places(live: Object, action: ChangeConfigReference) -> Iterator[_Place]:
    """The references that the action is about. Raises Refused for one that cannot be changed by itself."""
    spec = template_of(live).get("spec") or {}
    at: _At = ("spec", "template", "spec")
    for group in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(group) or []):
            if action.container in (None, container.get("name")):
                yield from _in_container(container, (*at, group, index), action)
    for index, volume in enumerate(spec.get("volumes") or [] if action.container is None else []):
        field, name = _VOLUME[action.kind]
        yield from _in_volume(volume.get(field), (*at, "volumes", index, field), name, action)
        for number, source in enumerate((volume.get("projected") or {}).get("sources") or []):
            inside = (*at, "volumes", index, "projected", "sources", number, _SOURCE[action.kind])
            yield from _in_volume(source.get(_SOURCE[action.kind]), inside, "name", action)


def _in_container(container: dict[str, Any], at: _At, action: ChangeConfigReference) -> Iterator[_Place]:
    name = str(container.get("name"))
    for index, source in enumerate(container.get("envFrom") or []):
        reference = source.get(_ENV_FROM[action.kind]) or {}
        if action.key is None and reference.get("name") == action.name:
            yield _Place((*at, "envFrom", index, _ENV_FROM[action.kind], "name"), container=name)
    for index, variable in enumerate(container.get("env") or []):
        reference = (variable.get("valueFrom") or {}).get(_KEY_REF[action.kind]) or {}
        if reference.get("name") != action.name or action.key not in (None, reference.get("key")):
            continue
        inside = (*at, "env", index, "valueFrom", _KEY_REF[action.kind])
        key = str(reference.get("key"))
        needs = () if reference.get("optional") else (action.to_key or key,)
        yield _Place((*inside, "name"), (*inside, "key"), key, needs, name)


def _in_volume(source: dict[str, Any] | None, at: _At, name: str, action: ChangeConfigReference) -> Iterator[_Place]:
    if not source or source.get(name) != action.name:
        return
    items = [str(item.get("key")) for item in source.get("items") or []]
    if action.key is None:
        yield _Place((*at, name), needs=() if source.get("optional") else tuple(items))
    elif action.key in items:
        if action.to_name != action.name:
            raise Refused(f"a volume takes key {action.key} of {action.kind} {action.name}: change the whole volume")
        needs = () if source.get("optional") else (action.to_key or action.key,)
        yield _Place((*at, name), (*at, "items", items.index(action.key), "key"), action.key, needs)


async def _require_there(cluster: Cluster, namespace: str, action: ChangeConfigReference, found: list[_Place]) -> None:
    try:
        obj = await cluster.get("v1", action.kind, namespace, action.to_name)
    except KubernetesError as error:
        if error.code in (401, 403):
            raise Refused(
                f"{action.kind} {namespace}/{action.to_name} cannot be read, so nothing can refer to it"
            ) from error
        raise
    if obj is None:
        raise Refused(f"{action.kind} {namespace}/{action.to_name} does not exist")
    keys = {*(obj.get("data") or {}), *(obj.get("binaryData") or {})}
    missing = sorted({key for place in found for key in place.needs} - keys)
    if missing:
        raise Refused(f"{action.kind} {namespace}/{action.to_name} has no key {', '.join(missing)}")
