"""The addresses that a container takes from ConfigMaps: through a variable, all keys at once, or files of a volume.

A snapshot keeps of a ConfigMap's values the hosts and ports alone (`diagnosis.redaction`); Secrets are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from diagnosis.hosts_in_text import BARE, HOST_NAMES, hosts_in
from diagnosis.workloads.addresses import Address
from diagnosis.workloads.containers import SECTIONS
from diagnosis.workloads.fields import Object, mapping, objects, text
from diagnosis.workloads.snapshot import Snapshot


@dataclass(frozen=True)
class MapAddress:
    """An address in a key of a ConfigMap. `address.at` points at the reference in the pod; `file` tells whether the
    container reads it as a file, of which other parts may be unused."""

    address: Address
    item: Object
    key: str
    file: bool


def map_addresses(snapshot: Snapshot, pod: Object) -> Iterator[MapAddress]:
    """Every address that containers of a pod have from ConfigMaps that were read."""
    namespace = text(pod, "metadata", "namespace")
    for section in SECTIONS:
        for index, container in enumerate(objects(pod, "spec", section)):
            for name, key, variable, at in _read_by(pod, container, f"/spec/{section}/{index}"):
                item = snapshot.get("ConfigMap", namespace, name)
                for found, value in mapping(item, "data").items():
                    if item is not None and key in (None, found) and isinstance(value, str) and value:
                        yield from _in_key(text(container, "name"), item, found, value, variable, at)


def _read_by(pod: Object, container: Object, at: str) -> Iterator[tuple[str, str | None, str | None, str]]:
    """(ConfigMap, key or None for all, variable or None for all or a file, where)."""
    for index, variable in enumerate(objects(container, "env")):
        source = mapping(variable, "valueFrom", "configMapKeyRef")
        if text(source, "name") and text(source, "key"):
            yield text(source, "name"), text(source, "key"), text(variable, "name"), f"{at}/env/{index}"
    for index, source in enumerate(objects(container, "envFrom")):
        if name := text(source, "configMapRef", "name"):
            yield name, None, text(source, "prefix"), f"{at}/envFrom/{index}"
    mounted = {text(mount, "name") for mount in objects(container, "volumeMounts")}
    for index, volume in enumerate(objects(pod, "spec", "volumes")):
        source = mapping(volume, "configMap")
        if text(volume, "name") not in mounted or not text(source, "name"):
            continue
        keys: list[str | None] = [text(item, "key") for item in objects(source, "items")]
        for chosen in keys or [None]:
            yield text(source, "name"), chosen, None, f"/spec/volumes/{index}/configMap"


def _in_key(container: str, item: Object, key: str, value: str, variable: str | None, at: str) -> Iterator[MapAddress]:
    name = variable if variable and "/env/" in at else f"{variable}{key}" if variable is not None else None
    found = [address for part in value.split() for address in hosts_in(part)]
    if not found and HOST_NAMES.search(name or key) and BARE.match(value):
        found = [("", value, None, False)]
    for scheme, host, port, explicit in found:
        address = Address(container, name, value, scheme, host, port, explicit, at)
        yield MapAddress(address, item, key, file=variable is None)
