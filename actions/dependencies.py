"""What a pod template refers to: ConfigMaps and Secrets by version, never by value, and images as the spec names them.

An approval is bound to these, because a pod that starts after an edit of its ConfigMap is not the pod that was
judged. Image ids of running pods are left out: a crash loop changes which pods run, and that is not an edit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from errors import Refused
from incidents.plan import canonical_json
from tools.kubernetes.client import Cluster, KubernetesError, Object


@dataclass(frozen=True, order=True)
class Reference:
    kind: str
    name: str
    optional: bool = False


@dataclass(frozen=True)
class Dependencies:
    digest: str
    missing: tuple[Reference, ...]
    """Not optional, and not there: a new pod would not start."""


def references(template: Object) -> set[Reference]:
    """The ConfigMaps and Secrets that a pod of this template needs or uses."""
    spec = template.get("spec") or {}
    found: set[Reference] = set()
    for volume in spec.get("volumes") or []:
        found |= _one("ConfigMap", volume.get("configMap"), "name")
        found |= _one("Secret", volume.get("secret"), "secretName")
        for source in (volume.get("projected") or {}).get("sources") or []:
            found |= _one("ConfigMap", source.get("configMap"), "name") | _one("Secret", source.get("secret"), "name")
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        for source in container.get("envFrom") or []:
            found |= _one("ConfigMap", source.get("configMapRef"), "name")
            found |= _one("Secret", source.get("secretRef"), "name")
        for variable in container.get("env") or []:
            source = variable.get("valueFrom") or {}
            found |= _one("ConfigMap", source.get("configMapKeyRef"), "name")
            found |= _one("Secret", source.get("secretKeyRef"), "name")
    # a pod starts without its pull secret, when the image needs none
    found |= {
        Reference("Secret", str(item["name"]), optional=True)
        for item in spec.get("imagePullSecrets") or []
        if item.get("name")
    }
    return found


async def look_up(
    cluster: Cluster, namespace: str, templates: Sequence[Object], starting: Sequence[Object] | None = None
) -> Dependencies:
    """Read the versions of everything that the templates refer to; `missing` is what those of `starting` lack.

    Raises Refused when one may not be read: an approval that cannot be bound is not asked for.
    """
    wanted = sorted(set().union(*(references(template) for template in templates)))
    needed = set().union(*(references(template) for template in (templates if starting is None else starting)))
    versions: dict[str, str] = {}
    missing = []
    for item in wanted:
        key = f"{item.kind}/{item.name}"
        if key not in versions:
            versions[key] = await _version(cluster, item, namespace)
        if versions[key] == "absent" and not item.optional and item in needed:
            missing.append(item)
    images = sorted({image for template in templates for image in _images(template)})
    digest = hashlib.sha256(canonical_json({"versions": versions, "images": images})).hexdigest()
    return Dependencies(digest, tuple(missing))


async def _version(cluster: Cluster, item: Reference, namespace: str) -> str:
    try:
        obj = await cluster.get("v1", item.kind, namespace, item.name)
    except KubernetesError as error:
        if error.code in (401, 403):
            raise Refused(
                f"{item.kind} {namespace}/{item.name} cannot be read, so no approval can be bound to its version"
            ) from error
        raise
    if obj is None:
        return "absent"
    return f"{obj['metadata'].get('uid')}/{obj['metadata'].get('resourceVersion')}"


def _images(template: Object) -> list[str]:
    spec = template.get("spec") or {}
    return [str(item.get("image")) for group in ("initContainers", "containers") for item in spec.get(group) or []]


def _one(kind: str, source: dict[str, Any] | None, key: str) -> set[Reference]:
    if not source or not source.get(key):
        return set()
    return {Reference(kind, str(source[key]), bool(source.get("optional")))}
