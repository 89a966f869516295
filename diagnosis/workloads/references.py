"""Which ConfigMaps, Secrets and claims a pod spec refers to, each with the place of the reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from diagnosis.workloads.containers import SECTIONS
from diagnosis.workloads.fields import Object, mapping, objects, pick, text

_ENV = {"configMapKeyRef": "ConfigMap", "secretKeyRef": "Secret"}
_ENV_FROM = {"configMapRef": "ConfigMap", "secretRef": "Secret"}


@dataclass(frozen=True)
class Reference:
    """One reference. `container` is None for volumes and pull secrets; `at` is a JSON pointer into the pod spec's
    parent (a pod, or a template)."""

    kind: str
    name: str
    key: str | None
    optional: bool
    container: str | None
    at: str
    pull_secret: bool = False


def references_of(pod: Object) -> Iterator[Reference]:
    """References of a pod (or a pod template)."""
    for section in SECTIONS:
        for index, container in enumerate(objects(pod, "spec", section)):
            yield from _of_container(container, f"/spec/{section}/{index}")
    for index, volume in enumerate(objects(pod, "spec", "volumes")):
        yield from _of_volume(volume, f"/spec/volumes/{index}")
    for index, secret in enumerate(objects(pod, "spec", "imagePullSecrets")):
        if name := text(secret, "name"):
            yield Reference("Secret", name, None, True, None, f"/spec/imagePullSecrets/{index}", pull_secret=True)


def _of_container(container: Object, at: str) -> Iterator[Reference]:
    name = text(container, "name") or None
    for index, variable in enumerate(objects(container, "env")):
        for field, kind in _ENV.items():
            source = mapping(variable, "valueFrom", field)
            if text(source, "name"):
                optional = pick(source, "optional") is True
                where = f"{at}/env/{index}/valueFrom/{field}"
                yield Reference(kind, text(source, "name"), text(source, "key") or None, optional, name, where)
    for index, source in enumerate(objects(container, "envFrom")):
        for field, kind in _ENV_FROM.items():
            if target := text(source, field, "name"):
                optional = pick(source, field, "optional") is True
                yield Reference(kind, target, None, optional, name, f"{at}/envFrom/{index}/{field}")


def _of_volume(volume: Object, at: str) -> Iterator[Reference]:
    sources = [(volume, at)]
    sources += [
        (source, f"{at}/projected/sources/{index}")
        for index, source in enumerate(objects(volume, "projected", "sources"))
    ]
    for source, where in sources:
        for field, kind, name_field in (("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName")):
            part = mapping(source, field)
            target = text(part, name_field) or text(part, "name")
            if not target:
                continue
            optional = pick(part, "optional") is True
            keys: list[str | None] = [text(item, "key") for item in objects(part, "items") if text(item, "key")]
            for key in keys or [None]:
                yield Reference(kind, target, key, optional, None, f"{where}/{field}")
    if claim := text(volume, "persistentVolumeClaim", "claimName"):
        yield Reference("PersistentVolumeClaim", claim, None, False, None, f"{at}/persistentVolumeClaim")
