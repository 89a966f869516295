"""A volume claim that is not there, is not bound, or has lost its volume; and the pods that wait for it.

A claim that waits for its first consumer is as it should be. The storage controller's words are joined with the storage
classes and volumes that were read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.events import Event
from diagnosis.workloads.evidence import of_absence, of_event, of_object
from diagnosis.workloads.fields import Object, pick, text, when
from diagnosis.workloads.references import references_of
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.snapshot import ref_of
from diagnosis.workloads.volume_match import DEFAULT_CLASS, NO_PROVISIONER, difference, mode_of
from incidents.models import CauseClass, Evidence, Fact, ObjectRef

NAME = "unbound_claim"
READS = ("Pod", "PersistentVolumeClaim", "StorageClass", "PersistentVolume")
RULED_OUT = "storage: every volume claim that a pod names is there and bound"
_SEEN = "The claim's phase and events, the pods that name it, the storage classes and volumes that exist."
CAUSES = {
    CauseClass.MISSING_CLAIM: Documented(
        "A pod names a volume claim that does not exist.",
        "The scheduler's words, and the claims that do exist.",
        "Create the claim or correct its name: which data it should hold is a person's decision.",
    ),
    CauseClass.MISSING_STORAGE_CLASS: Documented(
        "A claim names a storage class that does not exist, or names none where there is no default class.",
        _SEEN,
        "A claim's class cannot be changed: a person makes the class, or makes the claim anew.",
    ),
    CauseClass.VOLUME_NOT_PROVISIONED: Documented(
        "Nothing makes a volume for the claim: its provisioner is absent, fails, or has no capacity.",
        _SEEN,
        "Repair the provisioner or make a volume by hand.",
    ),
    CauseClass.VOLUME_MISMATCH: Documented(
        "Volumes are there, and none fits the claim (size, access mode, selector), the one it names is bound to "
        "another claim, or its volume is gone.",
        _SEEN,
        "A person decides: data may lie on either side.",
    ),
}
_PATIENCE = timedelta(seconds=30)  # a provisioner may take this long without a word


def find(scope: Scope) -> Iterable[Found]:
    yield from _missing(scope)
    unbound = [
        item
        for item in _claims(scope)
        if text(item, "status", "phase") in ("Pending", "Lost") and not text(item, "metadata", "deletionTimestamp")
    ]
    if unbound:
        waiting = _waiting(scope)
        for item in unbound:
            pods = waiting.get((text(item, "metadata", "namespace"), text(item, "metadata", "name")), [])
            found = _why(scope, item, pods)
            if found is not None:
                yield found


def _missing(scope: Scope) -> Iterator[Found]:
    for pod in scope.pods:
        namespace = text(pod, "metadata", "namespace")
        if text(pod, "spec", "nodeName") or text(pod, "metadata", "deletionTimestamp"):
            continue
        for reference in references_of(pod):
            name = reference.name
            kind = "PersistentVolumeClaim"
            said = [e for e in scope.pod_events(pod) if f'persistentvolumeclaim "{name}" not found' in e.message]
            if reference.kind != kind or not scope.snapshot.lacks(kind, namespace, name):
                continue
            here = [text(item, "metadata", "name") for item in scope.snapshot.all(kind, namespace)]
            now, owner = scope.snapshot.observed_at, scope.snapshot.workload_of(pod)
            claims = [Claim(f"The pod names claim {name}", [of_object(pod, reference.at, now)])]
            absent = of_absence(kind, namespace, name, here, now)
            claims.append(Claim(f"There is no claim {name} in namespace {namespace}", [absent]))
            if said:
                claims.append(Claim(f"The scheduler says {quoted(said[-1].message)}", [of_event(said[-1], now)]))
            yield Found(
                CauseClass.MISSING_CLAIM,
                owner,
                0.95 if said else 0.9,
                f"The pods of {owner.kind} {owner.name} wait for volume claim {name}, which does not exist.",
                claims,
                facts={"claim": name, "existing_claims": here[:20]},
                place=text(pod, "metadata", "name"),
                subject=name,
                next_steps=[f"Create claim {name}, or correct its name in {owner.kind} {owner.name}"],
            )


def _claims(scope: Scope) -> Iterator[Object]:
    """Claims of namespaces that are asked about as a whole, of pods in the scope, and the target itself."""
    used = {
        (text(pod, "metadata", "namespace"), reference.name)
        for pod in scope.pods
        for reference in references_of(pod)
        if reference.kind == "PersistentVolumeClaim"
    }
    for item in scope.snapshot.all("PersistentVolumeClaim"):
        key = (text(item, "metadata", "namespace"), text(item, "metadata", "name"))
        if key in used or scope.covers(key[0]) or ref_of(item) == scope.target:
            yield item


def _why(scope: Scope, item: Object, pods: list[Object]) -> Found | None:
    now, snapshot = scope.snapshot.observed_at, scope.snapshot
    name, volume = text(item, "metadata", "name"), text(item, "spec", "volumeName")
    space, uid = text(item, "metadata", "namespace"), text(item, "metadata", "uid")
    events = snapshot.events_for("PersistentVolumeClaim", space, name, uid)
    if text(item, "status", "phase") == "Lost":
        shown = [of_object(item, "/status/phase", now), of_object(item, "/spec/volumeName", now)]
        claim = Claim(f"Claim {name} has lost its volume {volume}", shown)
        facts: dict[str, Fact] = {"differs": "lost", "volume": volume}
        return _found(
            scope, item, CauseClass.VOLUME_MISMATCH, f"its volume {volume} is gone", facts, [claim], events, pods
        )
    wanted = pick(item, "spec", "storageClassName")
    kind = snapshot.get("StorageClass", None, wanted) if isinstance(wanted, str) and wanted else None
    if isinstance(wanted, str) and wanted and kind is None and _no_such_class(scope, wanted, events):
        evidence = [of_object(item, "/spec/storageClassName", now)]
        if snapshot.lacks("StorageClass", None, wanted):
            classes = [text(other, "metadata", "name") for other in snapshot.all("StorageClass")]
            evidence.append(of_absence("StorageClass", "", wanted, classes, now))
        claim = Claim(f"Claim {name} asks for storage class {wanted}, which does not exist", evidence)
        if difference_found := difference(snapshot, item):  # classes without an object are used to pair by name
            return _mismatch(scope, item, difference_found, events, pods)
        why = f"its storage class {wanted} does not exist"
        return _found(
            scope, item, CauseClass.MISSING_STORAGE_CLASS, why, {"storage_class": wanted}, [claim], events, pods
        )
    if (found := difference(snapshot, item)) is not None:
        return _mismatch(scope, item, found, events, pods)
    if not wanted:
        return _without_class(scope, item, events, pods)
    return _not_provisioned(scope, item, kind or {}, events, pods)


def _no_such_class(scope: Scope, name: str, events: list[Event]) -> bool:
    told = any(f'storageclass.storage.k8s.io "{name}" not found' in event.message for event in events)
    return told or scope.snapshot.lacks("StorageClass", None, name) is True


def _mismatch(
    scope: Scope, item: Object, found: tuple[str, str, Object | None], events: list[Event], pods: list[Object]
) -> Found:
    now = scope.snapshot.observed_at
    differs, why, volume = found
    shown: list[Evidence] = [of_object(item, "/spec", now)]
    shown += [of_object(volume, "/spec", now)] if volume else []
    claims = [Claim(why[0].upper() + why[1:], shown)]
    facts: dict[str, Fact] = {"differs": differs, "volume": text(volume, "metadata", "name") or None}
    return _found(scope, item, CauseClass.VOLUME_MISMATCH, why, facts, claims, events, pods)


def _without_class(scope: Scope, item: Object, events: list[Event], pods: list[Object]) -> Found | None:
    snapshot, now = scope.snapshot, scope.snapshot.observed_at
    told = any("no storage class is set" in event.message for event in events)
    defaults = [c for c in snapshot.all("StorageClass") if pick(c, "metadata", "annotations", DEFAULT_CLASS) == "true"]
    if defaults or not (told or snapshot.looked_at("StorageClass")):
        return None
    evidence = [of_object(item, "/spec", now)]
    if snapshot.looked_at("StorageClass"):
        classes = [text(other, "metadata", "name") for other in snapshot.all("StorageClass")]
        evidence.append(of_absence("StorageClass", "", "that is the default", classes, now))
    claim = Claim("The claim names no storage class, no volume fits it, and no class is the default", evidence)
    why = "it names no storage class and no class is the default"
    return _found(scope, item, CauseClass.MISSING_STORAGE_CLASS, why, {"storage_class": None}, [claim], events, pods)


def _not_provisioned(scope: Scope, item: Object, kind: Object, events: list[Event], pods: list[Object]) -> Found | None:
    now = scope.snapshot.observed_at
    created = when(item, "metadata", "creationTimestamp")
    failed = [event for event in events if event.reason == "ProvisioningFailed"]
    waiting = [event for event in events if event.reason == "ExternalProvisioning"]
    provisioner = text(kind, "provisioner")
    manual = provisioner == NO_PROVISIONER
    if (
        mode_of(kind) == "WaitForFirstConsumer"
        and not failed
        and not waiting
        and not (manual and _awaited(scope, pods))
    ):
        return None
    if not failed and (created is None or now - created < _PATIENCE) and not waiting:
        return None
    told = [*waiting, *failed][-1:]
    claims = [Claim(f"The storage controller says {quoted(event.message)}", [of_event(event, now)]) for event in told]
    if kind:
        shown = of_object(kind, "/provisioner", now)
        claims.append(Claim(f"Class {text(kind, 'metadata', 'name')} has provisioner {provisioner}", [shown]))
    claims = claims or [Claim("The claim is Pending", [of_object(item, "/status/phase", now)])]
    facts: dict[str, Fact] = {
        "storage_class": text(item, "spec", "storageClassName"),
        "provisioner": provisioner or None,
    }
    why = "its class has no provisioner, and no volume is free" if manual else (
        f"provisioner {provisioner or '(not seen)'} makes no volume")  # fmt: skip
    if failed and not manual:
        why += f": {failed[-1].message[:200]}"
    return _found(scope, item, CauseClass.VOLUME_NOT_PROVISIONED, why, facts, claims, events, pods)


def _awaited(scope: Scope, pods: list[Object]) -> bool:
    """Whether the scheduler found no volume for a pod that names the claim."""
    return any(
        "available persistent volumes to bind" in event.message for pod in pods for event in scope.pod_events(pod)
    )


def _waiting(scope: Scope) -> dict[tuple[str, str], list[Object]]:
    """Pods without a node by the claims that they name."""
    found: dict[tuple[str, str], list[Object]] = {}
    for pod in scope.snapshot.all("Pod"):
        if text(pod, "spec", "nodeName") or text(pod, "metadata", "deletionTimestamp"):
            continue
        for reference in references_of(pod):
            if reference.kind == "PersistentVolumeClaim":
                found.setdefault((text(pod, "metadata", "namespace"), reference.name), []).append(pod)
    return found


def _found(
    scope: Scope,
    item: Object,
    cause: CauseClass,
    why: str,
    facts: dict[str, Fact],
    claims: list[Claim],
    events: list[Event],
    pods: list[Object],
) -> Found:
    now, name = scope.snapshot.observed_at, text(item, "metadata", "name")
    owners: list[ObjectRef] = list(dict.fromkeys(scope.snapshot.workload_of(pod) for pod in pods))
    warned = [event for event in events if event.warning or event.reason == "FailedBinding"]
    if warned and not any(quoted(warned[-1].message) in claim.text for claim in claims):
        claims.append(Claim(f"Its event says {quoted(warned[-1].message)}", [of_event(warned[-1], now)]))
    for pod in pods[:2]:
        shown = of_object(pod, "/spec/volumes", now)
        claims.append(Claim(f"Pod {text(pod, 'metadata', 'name')} waits for claim {name}", [shown]))
    waits = f"; {', '.join(f'{ref.kind} {ref.name}' for ref in owners[:3])} waits for it" if owners else ""
    return Found(
        cause,
        ref_of(item),
        0.93 if warned or cause is not CauseClass.VOLUME_NOT_PROVISIONED else 0.8,
        f"Volume claim {name} cannot be had: {why}{waits}.",
        claims,
        facts={"claim": name, **facts},
        explains=owners,
        next_steps=[f"Look at claim {name}: {why}"],
    )
