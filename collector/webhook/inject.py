"""What is added to a pod: a folder of the node, divided by the pod's own identity.

At admission a pod of a Deployment has no name yet (`generateName`), so the folder cannot be written into the pod. The
kubelet expands it when the container starts: `subPathExpr` with the downward API's namespace, name and uid.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from collector.webhook.paths import normal, refused
from diagnosis.workloads.fields import Object, mapping, objects, text

PREFIXES = ("paramedic.io", "coredog.io")
"""Annotations `<prefix>/inject`, `/path`, `/container`; ours win where a pod has both."""
VOLUME = "paramedic-cores"
LABEL = "paramedic.io/cores"
_SECTIONS = ("initContainers", "containers")
_FIELDS = {
    "PARAMEDIC_POD_NAMESPACE": "metadata.namespace",
    "PARAMEDIC_POD_NAME": "metadata.name",
    "PARAMEDIC_POD_UID": "metadata.uid",
}
_FOLDER = "$(PARAMEDIC_POD_NAMESPACE)/$(PARAMEDIC_POD_NAME)_$(PARAMEDIC_POD_UID)"


@dataclass
class Injection:
    """`pod` is the changed pod, or None when nothing changes; `warnings` are told to whoever creates it."""

    pod: Object | None = None
    warnings: list[str] = field(default_factory=list)


def wanted(pod: Object) -> bool:
    """Whether the pod asks for it."""
    return (_annotation(pod, "inject") or "").strip().lower() == "true"


def inject(pod: Object, node_folder: str, default_path: str) -> Injection:
    """Add volume, variables and mounts to a pod that asks for it. A second time changes nothing. Raises nothing.

    What the pod has already stays as it is: a container with something else at the path is left out, with a warning.
    """
    answer = Injection()
    path = (_annotation(pod, "path") or default_path).strip()
    if reason := refused(path):
        answer.warnings.append(f"cores are not collected: annotation path {reason}")
        return answer
    changed = copy.deepcopy(pod)
    spec = mapping(changed, "spec")
    source = {"path": node_folder, "type": "DirectoryOrCreate"}
    volume = {"name": VOLUME, "hostPath": source}
    present = next((item for item in objects(spec, "volumes") if text(item, "name") == VOLUME), None)
    if present is not None and mapping(present, "hostPath").get("path") != node_folder:
        answer.warnings.append(f"cores are not collected: the pod has a volume of its own named {VOLUME}")
        return answer
    chosen = {name.strip() for name in (_annotation(pod, "container") or "").split(",") if name.strip()}
    known = set()
    mounted = 0
    for container in _containers(spec):
        name = text(container, "name")
        known.add(name)
        if chosen and name not in chosen:
            continue
        if warning := _mount(container, name, normal(path)):
            answer.warnings.append(warning)
        else:
            mounted += 1
    if missing := sorted(chosen - known):
        names = ", ".join(missing)[:200]
        answer.warnings.append(f"annotation container names what the pod does not have: {names}")
    if not mounted:
        return answer
    if present is None:
        spec.setdefault("volumes", []).append(volume)
    metadata = changed.setdefault("metadata", {})
    metadata["labels"] = {**mapping(metadata, "labels"), LABEL: "injected"}
    if changed != pod:
        answer.pod = changed
    return answer


def _mount(container: Object, name: str, path: str) -> str | None:
    """Give one container the folder; a warning where its path is taken."""
    mount = {"name": VOLUME, "mountPath": path, "subPathExpr": f"{_FOLDER}/{name}"}
    mounts = objects(container, "volumeMounts")
    taken = next((item for item in mounts if normal(text(item, "mountPath") or "/") == path), None)
    if taken is not None and taken != mount:
        return f"cores of container {name[:80]} are not collected: something else is mounted at {path}"
    if taken is None:
        container["volumeMounts"] = [*mounts, mount]
    # they name the folder on the node: what the pod says they are must not stand, and the last of a name counts
    kept = [item for item in objects(container, "env") if text(item, "name") not in _FIELDS]
    own = [
        {"name": variable, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": field_path}}}
        for variable, field_path in _FIELDS.items()
    ]
    if objects(container, "env")[-len(own) :] != own or len(kept) + len(own) != len(objects(container, "env")):
        container["env"] = [*kept, *own]
    return None


def _containers(spec: Object) -> Iterator[Object]:
    for section in _SECTIONS:
        yield from objects(spec, section)


def _annotation(pod: Object, name: str) -> str | None:
    annotations: dict[str, Any] = mapping(pod, "metadata", "annotations")
    for prefix in PREFIXES:
        value = annotations.get(f"{prefix}/{name}")
        if isinstance(value, str):
            return value
    return None
