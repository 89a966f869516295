"""A ConfigMap or Secret, or a key in one, that a pod needs and that is not there.

The kubelet says so in the waiting message or in `FailedMount` events. Where those are gone, references are compared
with the objects that were read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from diagnosis.workloads.containers import Container
from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_absence, of_event, of_object
from diagnosis.workloads.fields import Object, mapping, text
from diagnosis.workloads.near_miss import alike, closest
from diagnosis.workloads.references import Reference, references_of
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Evidence, Fact, ObjectRef

NAME = "missing_config"
READS = ("Pod", "Event")
RULED_OUT = "configuration references: no container waits for a ConfigMap, a Secret or a key"
CAUSES = {
    CauseClass.MISSING_CONFIG_MAP: Documented(
        "The pod needs a ConfigMap that does not exist.",
        "The kubelet's words (CreateContainerConfigError or FailedMount), or the reference compared with "
        "the ConfigMaps that were read.",
        "A reference to a ConfigMap that exists, where one is evidently meant; its content only a person knows.",
    ),
    CauseClass.MISSING_CONFIG_KEY: Documented(
        "The pod needs a key that its ConfigMap or Secret does not have.",
        "The kubelet's words, and the keys that are there.",
        "A reference to a key that exists, where one is evidently meant.",
    ),
    CauseClass.MISSING_SECRET: Documented(
        "The pod needs a Secret that does not exist.",
        "The kubelet's words, or the reference compared with the Secrets that were read.",
        "A reference to a Secret that exists, where one is evidently meant; the content is never made up.",
    ),
}

# the kubelet's words: pkg/kubelet/kubelet_pods.go and pkg/volume/{configmap,secret,projected}
_OBJECT = re.compile(r'\b(configmap|secret)s? "?([^"\s]+)"? not found', re.IGNORECASE)
_KEY = re.compile(r"couldn'?t find key (\S+) in (ConfigMap|Secret) (?:([^\s/]+)/)?(\S+)", re.IGNORECASE)
_MOUNT_KEY = re.compile(r"references non-existent (config|secret) key: (\S+)", re.IGNORECASE)
_A_SLIP = 0.85
"""Similarity from which a name is taken for a slip of another; lower, and it may be another program's."""
_KINDS = {"configmap": "ConfigMap", "secret": "Secret", "config": "ConfigMap"}


@dataclass(frozen=True)
class _Missing:
    kind: str
    name: str
    key: str | None


def find(scope: Scope) -> Iterable[Found]:
    seen: set[tuple[str, str | None, _Missing]] = set()
    for container in scope.troubled:
        for missing, evidence, said in _of_container(scope, container):
            mark = (container.pod_name, container.name if said.container else None, missing)
            if mark not in seen:
                seen.add(mark)
                yield _found(scope, container, missing, evidence, said)


@dataclass(frozen=True)
class _Said:
    """Who said so, and whether it concerns one container or the pod's volumes."""

    text: str
    container: bool
    confidence: float


def _of_container(scope: Scope, container: Container) -> Iterator[tuple[_Missing, list[Evidence], _Said]]:
    now = scope.snapshot.observed_at
    message = container.waiting_message
    if container.waiting in ("CreateContainerConfigError", "CreateContainerError"):
        for missing in _parse(message, None):
            evidence = of_object(container.pod, f"{container.status_at}/state/waiting/message", now)
            yield missing, [evidence], _Said(message, True, 0.97)
    if container.waiting != "ContainerCreating":
        return
    for event in reversed(scope.failed_meanwhile(container)):
        for missing in _parse(event.message, None):
            yield missing, [of_event(event, now)], _Said(event.message, True, 0.95)
    for event in reversed(scope.pod_events(container.pod)):
        if event.reason == "FailedMount":
            for missing in _parse(event.message, container.pod):
                yield missing, [of_event(event, now)], _Said(event.message, False, 0.95)
    for reference in references_of(container.pod):
        mine = reference.container in (None, container.name) and not reference.pull_secret
        if not mine or reference.optional or reference.kind not in ("ConfigMap", "Secret"):
            continue
        if scope.snapshot.lacks(reference.kind, container.namespace, reference.name):
            evidence = of_object(container.pod, reference.at, now)
            said = _Said("", reference.container is not None, 0.8)
            yield _Missing(reference.kind, reference.name, None), [evidence], said


def _parse(message: str, pod: Object | None) -> Iterator[_Missing]:
    if match := _KEY.search(message):
        yield _Missing(_KINDS[match[2].lower()], match[4].strip("\"'"), match[1].strip("\"'"))
    elif match := _MOUNT_KEY.search(message):
        kind, key = _KINDS[match[1].lower()], match[2].strip("\"'")
        name = next((r.name for r in references_of(pod or {}) if r.kind == kind and r.key == key), "")
        yield _Missing(kind, name, key)
    else:
        for match in _OBJECT.finditer(message):
            yield _Missing(_KINDS[match[1].lower()], match[2].rpartition("/")[2], None)


def _found(scope: Scope, container: Container, missing: _Missing, evidence: list[Evidence], said: _Said) -> Found:
    now, namespace = scope.snapshot.observed_at, container.namespace
    owner = scope.snapshot.workload_of(container.pod)
    about: ObjectRef = scope.owner(container) if said.container else owner
    where = f"container {container.name} of pod {container.pod_name}" if said.container else f"pod {container.pod_name}"
    what = f"key {missing.key} of {missing.kind} {missing.name}" if missing.key else f"{missing.kind} {missing.name}"
    words = f": {quoted(_telling(said.text))}" if said.text else ""
    claims = [Claim(f"{where[0].upper()}{where[1:]} cannot start{words}", evidence)]
    facts: dict[str, Fact] = {
        "reference_kind": missing.kind,
        "reference_name": missing.name,
        "reference_namespace": namespace,
        "key": missing.key,
    }
    claims += [
        Claim(f"The pod refers to {what}", [of_object(container.pod, reference.at, now)])
        for reference in _references(container, missing)[:1]
    ]
    item = scope.snapshot.get(missing.kind, namespace, missing.name)
    if missing.key and item is not None:
        keys = sorted({*mapping(item, "data"), *mapping(item, "binaryData")})
        facts["existing_keys"] = keys[:50]
        facts |= _suggested("suggested_key", missing.key, keys)
        present = ", ".join(keys) or "nothing"
        shown = of_object({**item, "keys": present}, "/keys", now)
        claims.append(Claim(f"{missing.kind} {missing.name} has only the keys {present[:300]}", [shown]))
    elif not missing.key and scope.snapshot.lacks(missing.kind, namespace, missing.name):
        here = [text(other, "metadata", "name") for other in scope.snapshot.all(missing.kind, namespace)]
        free = [other for other in here if other not in _of_others(scope, container, missing.kind)]
        facts |= _suggested("suggested_name", missing.name, free)
        absence = of_absence(missing.kind, namespace, missing.name, here, now)
        claims.append(Claim(f"There is no {missing.kind} {missing.name} in namespace {namespace}", [absence]))
    if missing.key:
        cause = CauseClass.MISSING_CONFIG_KEY
    else:
        cause = CauseClass.MISSING_SECRET if missing.kind == "Secret" else CauseClass.MISSING_CONFIG_MAP
    return Found(
        cause,
        about,
        said.confidence,
        f"{about} needs {what}, which does not exist.",
        claims,
        facts=facts,
        place=container.pod_name,
        subject=f"{missing.kind}/{missing.name}/{missing.key}",
        next_steps=[_step(missing, namespace)],
    )


def _suggested(fact: str, name: str, there: list[str]) -> dict[str, Fact]:
    """What the name is a slip of, when one that exists is clearly the closest, and close."""
    meant = closest(name, there)
    if meant is None or alike(name, meant) < _A_SLIP:
        return {}
    return {fact: meant, "suggested_from": "the nearest of what there is"}


def _of_others(scope: Scope, container: Container, kind: str) -> set[str]:
    """What pods of other workloads refer to: theirs is not meant, however alike the names are."""
    owner = scope.snapshot.workload_of(container.pod)
    return {
        reference.name
        for pod in scope.snapshot.all("Pod", container.namespace)
        if scope.snapshot.workload_of(pod) != owner
        for reference in references_of(pod)
        if reference.kind == kind
    }


def _telling(message: str) -> str:
    """From the volume's own words on: the kubelet puts the mount's name before."""
    match = _OBJECT.search(message) or _MOUNT_KEY.search(message)
    return message[match.start() :] if match and len(message) > 200 else message


def _references(container: Container, missing: _Missing) -> list[Reference]:
    return [
        reference
        for reference in references_of(container.pod)
        if reference.kind == missing.kind
        and reference.name == missing.name
        and (missing.key is None or reference.key == missing.key)
        and reference.container in (None, container.name)
        and not reference.pull_secret
    ]


def _step(missing: _Missing, namespace: str) -> str:
    if missing.key:
        return f"Add key {missing.key} to {missing.kind} {namespace}/{missing.name}, or correct the reference"
    return f"Create {missing.kind} {missing.name} in namespace {namespace}, or correct the reference"
