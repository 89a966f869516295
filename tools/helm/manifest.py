"""Reading a release's manifest: its objects, and what helm keeps or deletes with the release."""

from __future__ import annotations

from typing import Any

import yaml

from errors import ToolFailed

Object = dict[str, Any]
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times faster
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")


def manifest_objects(manifest: str) -> list[Object]:
    """The objects of a manifest, in its order. Raises ToolFailed when it is no YAML of Kubernetes objects."""
    try:
        documents = [item for item in yaml.load_all(manifest, Loader=_LOADER) if item]
    except yaml.YAMLError as error:
        raise ToolFailed(f"the release's manifest is not YAML: {error}") from error
    found: list[Object] = []
    for item in documents:
        if not isinstance(item, dict) or not item.get("kind") or not (item.get("metadata") or {}).get("name"):
            raise ToolFailed("the release's manifest holds something that is no Kubernetes object")
        found.extend(item["items"] if item["kind"] == "List" else [item])
    return found


def is_kept(obj: Object) -> bool:
    """Whether `helm uninstall` leaves it (annotation `helm.sh/resource-policy: keep`)."""
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    return str(annotations.get("helm.sh/resource-policy") or "").strip().lower() == "keep"


def namespace_of(obj: Object, release_namespace: str) -> str:
    return str((obj.get("metadata") or {}).get("namespace") or release_namespace)


def name_of(obj: Object) -> str:
    return f"{obj['kind']} {obj['metadata']['name']}"
