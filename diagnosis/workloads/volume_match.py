"""Why no volume that exists fits a claim.

Rules: kubernetes/pkg/controller/volume/persistentvolume/index.go (findMatchingVolume): same class, enough capacity, all
access modes, the claim's selector, not bound to another claim.
"""

from __future__ import annotations

from diagnosis.workloads.fields import Object, mapping, objects, pick, quantity, strings, text
from diagnosis.workloads.snapshot import Snapshot

DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
NO_PROVISIONER = "kubernetes.io/no-provisioner"


def mode_of(storage_class: Object) -> str:
    return text(storage_class, "volumeBindingMode") or "Immediate"


def difference(snapshot: Snapshot, claim: Object) -> tuple[str, str, Object | None] | None:
    """(kind, in words, the volume) of what keeps a claim from a volume of its class that is there; None where there is
    no such volume, or where the claim's class makes volumes itself. Kinds: bound_elsewhere, capacity, access_mode,
    selector."""
    named = text(claim, "spec", "volumeName")
    if named:
        volume = snapshot.get("PersistentVolume", None, named)
        return _of_named(claim, named, volume) if volume is not None else None
    kind = text(claim, "spec", "storageClassName")
    provisioner = text(snapshot.get("StorageClass", None, kind), "provisioner") if kind else NO_PROVISIONER
    if provisioner not in ("", NO_PROVISIONER):
        return None
    free = [
        volume
        for volume in snapshot.all("PersistentVolume")
        if text(volume, "spec", "storageClassName") == kind and text(volume, "status", "phase") in ("Available", "")
    ]
    found = [(entry, volume) for volume in free if (entry := _lack(claim, volume)) is not None]
    if not found or len(found) < len(free):
        return None  # none of the class, or one fits and will be bound
    (differs, why), volume = min(found, key=lambda entry: _ORDER.index(entry[0][0]))
    return differs, f"volume {text(volume, 'metadata', 'name')} does not fit: {why}", volume


_ORDER = ("selector", "access_mode", "capacity")


def _of_named(claim: Object, named: str, volume: Object) -> tuple[str, str, Object | None] | None:
    holder = mapping(volume, "spec", "claimRef")
    own = (text(claim, "metadata", "namespace"), text(claim, "metadata", "name"))
    if holder and (text(holder, "namespace"), text(holder, "name")) != own:
        whose = f"{text(holder, 'namespace')}/{text(holder, 'name')}"
        return "bound_elsewhere", f"volume {named} is bound to claim {whose}", volume
    lack = _lack(claim, volume)
    return (lack[0], f"volume {named} does not fit: {lack[1]}", volume) if lack else None


def _lack(claim: Object, volume: Object) -> tuple[str, str] | None:
    selector = mapping(claim, "spec", "selector")
    labels = mapping(volume, "metadata", "labels")
    if any(labels.get(key) != value for key, value in mapping(selector, "matchLabels").items()):
        return "selector", "its labels are not those of the claim's selector"
    if any(not _matches(labels, expression) for expression in objects(selector, "matchExpressions")):
        return "selector", "its labels are not those of the claim's selector"
    asked, offered = strings(claim, "spec", "accessModes"), strings(volume, "spec", "accessModes")
    if not set(asked) <= set(offered):
        return "access_mode", f"it offers {', '.join(offered)}, asked is {', '.join(asked)}"
    want = quantity(pick(claim, "spec", "resources", "requests", "storage"))
    have = quantity(pick(volume, "spec", "capacity", "storage"))
    if want is not None and have is not None and have < want:
        sizes = (pick(volume, "spec", "capacity", "storage"), pick(claim, "spec", "resources", "requests", "storage"))
        return "capacity", f"it has {sizes[0]}, asked is {sizes[1]}"
    return None


def _matches(labels: Object, expression: Object) -> bool:
    value, operator = labels.get(text(expression, "key")), text(expression, "operator")
    if operator in ("Exists", "DoesNotExist"):
        return (value is not None) is (operator == "Exists")
    return (value in strings(expression, "values")) is (operator == "In")
