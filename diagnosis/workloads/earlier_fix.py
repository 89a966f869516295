"""Whether what an earlier fix did would do anything now: compared with the present objects, by rules alone.

A fix that the present state has already, or that rests on something that is gone, does not fit. One whose parts are
all there and not in effect may. Where nothing that was read decides it, that is the answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diagnosis.redaction import redact_object
from diagnosis.workloads.fields import Object, mapping, number, objects, pick, quantity, text
from diagnosis.workloads.references import references_of
from diagnosis.workloads.snapshot import Snapshot
from incidents.actions import (
    AddPullSecret,
    ChangeConfigReference,
    ChangeProbe,
    ChangeResources,
    ChangeScheduling,
    ChangeService,
    ChangeVariable,
    Combined,
    RevertImage,
    RollbackRevision,
    Scale,
)
from incidents.plan import Action, PatchWrite, Plan

_RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"


@dataclass(frozen=True)
class Fit:
    """`ok` is None where nothing that was read decides it. `why` is one sentence."""

    ok: bool | None
    why: str


_NOTHING = Fit(None, "There is nothing in the cluster's objects to check it by.")


def still_fits(plan: Plan, snapshot: Snapshot) -> Fit:
    """Check an earlier plan against the objects as they are now."""
    target = plan.action.target
    if target.kind == "HelmRelease":
        return Fit(None, "The release's revisions were not read: the fixer looks at them.")
    present = snapshot.get(target.kind, target.namespace, target.name)
    if present is None:
        if snapshot.lacks(target.kind, target.namespace, target.name):
            return Fit(False, f"{target} is not there any more.")
        return Fit(None, f"{target} was not read.")
    if isinstance(plan.action, RollbackRevision):
        return _rollback(plan, plan.action, present, snapshot)
    return _of_action(plan.action, present, snapshot)


def _of_action(action: Action, present: Object, snapshot: Snapshot) -> Fit:
    check = _CHECKS.get(type(action))
    return check(action, present, snapshot) if check else _NOTHING


def _rollback(plan: Plan, action: RollbackRevision, present: Object, snapshot: Snapshot) -> Fit:
    """Revision numbers move with every rollback, so revisions are recognised by their template."""
    kind = action.target.kind
    goal, bad = _kept(kind, _goal(plan)), _kept(kind, _preimage(plan))
    now = _plain(mapping(present, "spec", "template"))
    if goal is None:
        return Fit(None, "The template that it went back to is not on record.")
    if goal == now:
        return Fit(False, f"What was revision {action.revision} then is what runs now.")
    same = [revision for revision in snapshot.revisions(action.target) if _plain(revision.template) == goal]
    if not same:
        return Fit(False, f"The template that was revision {action.revision} then is no longer kept.")
    found = same[-1]
    if found.was_ready is False:
        return Fit(False, f"The template is kept as revision {found.number}, but {found.reason}.")
    if bad != now:
        return Fit(
            None, f"The template is kept as revision {found.number}, but what runs now is not what was taken back then."
        )
    return Fit(True, f"The template is kept as revision {found.number}, and what runs now is what was taken back then.")


def _goal(plan: Plan) -> Object | None:
    for write in plan.writes:
        if isinstance(write, PatchWrite):
            for operation in _json(write.body, list):
                if pick(operation, "path") == "/spec/template" and pick(operation, "op") in ("add", "replace"):
                    return mapping(operation, "value")
    return None


def _preimage(plan: Plan) -> Object | None:
    return mapping(_json(plan.preimage, dict), "spec", "template") or None


def _json(document: str, kind: type) -> Any:
    try:
        value = json.loads(document)
    except ValueError:
        return kind()
    return value if isinstance(value, kind) else kind()


def _kept(kind: str, template: Object | None) -> Object | None:
    """A recorded template as a snapshot would have it: without secrets."""
    if not template:
        return None
    return _plain(mapping(redact_object({"kind": kind, "spec": {"template": template}}), "spec", "template"))


def _plain(template: Object) -> Object:
    """Without what controllers and restarts add."""
    metadata = mapping(template, "metadata")
    labels = {key: value for key, value in mapping(metadata, "labels").items() if key != "pod-template-hash"}
    notes = {key: value for key, value in mapping(metadata, "annotations").items() if key != _RESTARTED_AT}
    rest = {key: value for key, value in template.items() if key not in ("metadata", "$patch")}
    return {**rest, "metadata": {"labels": labels, "annotations": notes}}


def _container(present: Object, name: str) -> Object | None:
    spec = mapping(present, "spec", "template", "spec")
    found = [*objects(spec, "containers"), *objects(spec, "initContainers")]
    return next((item for item in found if text(item, "name") == name), None)


def _gone(name: str) -> Fit:
    return Fit(False, f"There is no container {name} now.")


def _resources(action: ChangeResources, present: Object, _snapshot: Snapshot) -> Fit:
    container = _container(present, action.container)
    if container is None:
        return _gone(action.container)
    said, below = [], False
    for section, name in (("limits", "memory"), ("requests", "memory"), ("limits", "cpu"), ("requests", "cpu")):
        then = getattr(action, f"{name}_{section[:-1]}")
        if then is None:
            continue
        now = pick(container, "resources", section, name)
        goal, value = quantity(then), quantity(now)
        lower = goal is not None and value is not None and value < goal
        below = below or lower
        state = "not set" if now is None else f"{now}, {'below' if lower else 'not below'} {then}"
        said.append(f"the {name} {section[:-1]} of {action.container} is {state}")
    return Fit(below, f"Now {' and '.join(said)}.") if said else _NOTHING


def _probe(action: ChangeProbe, present: Object, _snapshot: Snapshot) -> Fit:
    container = _container(present, action.container)
    if container is None:
        return _gone(action.container)
    probe = mapping(container, f"{action.probe.value}Probe")
    if not probe:
        return Fit(False, f"{action.container} has no {action.probe.value} probe now.")
    handler = next((mapping(probe, key) for key in ("httpGet", "tcpSocket", "grpc") if mapping(probe, key)), {})
    pairs = [(action.port, handler.get("port")), (action.path, handler.get("path"))]
    pairs += [(action.scheme, handler.get("scheme"))]
    for name in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "failureThreshold"):
        snake = "".join(f"_{char.lower()}" if char.isupper() else char for char in name)
        pairs.append((getattr(action, snake), number(probe, name)))
    if all(goal is None or str(goal) == str(now) for goal, now in pairs):
        return Fit(False, f"The {action.probe.value} probe of {action.container} is already as it was set then.")
    return Fit(True, f"The {action.probe.value} probe of {action.container} is not as it was set then.")


def _reference(action: ChangeConfigReference, present: Object, snapshot: Snapshot) -> Fit:
    template = mapping(present, "spec", "template")
    refers = any(
        (item.kind, item.name) == (action.kind, action.name) and (action.key is None or item.key == action.key)
        for item in references_of(template)
    )
    if not refers:
        return Fit(False, f"{action.kind} {action.name}{_key(action.key)} is not referred to now.")
    lacks = snapshot.lacks(action.kind, action.target.namespace, action.to_name)
    if lacks is None:
        return Fit(None, f"Whether {action.kind} {action.to_name} exists now was not read.")
    if lacks:
        return Fit(False, f"{action.kind} {action.to_name} does not exist now.")
    found = snapshot.get(action.kind, action.target.namespace, action.to_name) or {}
    keys = {**mapping(found, "data"), **mapping(found, "binaryData")}
    if action.to_key is not None and "data" in found and action.to_key not in keys:
        return Fit(False, f"{action.kind} {action.to_name} has no key {action.to_key} now.")
    return Fit(True, f"{action.name}{_key(action.key)} is referred to again, and {action.to_name} exists.")


def _key(key: str | None) -> str:
    return f" key {key}" if key else ""


def _variable(action: ChangeVariable, present: Object, _snapshot: Snapshot) -> Fit:
    container = _container(present, action.container)
    if container is None:
        return _gone(action.container)
    values = [text(item, "value") for item in objects(container, "env") if text(item, "name") == action.variable]
    if any(action.old in value and action.new not in value for value in values):
        return Fit(True, f"{action.variable} of {action.container} says again what was replaced then.")
    return Fit(False, f"{action.variable} of {action.container} does not say what was replaced then.")


def _pull_secret(action: AddPullSecret, present: Object, snapshot: Snapshot) -> Fit:
    named = {text(item, "name") for item in objects(present, "spec", "template", "spec", "imagePullSecrets")}
    if action.secret in named:
        return Fit(False, f"Secret {action.secret} is named for pulling already.")
    lacks = snapshot.lacks("Secret", action.target.namespace, action.secret)
    if lacks is None:
        return Fit(None, f"Whether Secret {action.secret} exists now was not read.")
    if lacks:
        return Fit(False, f"Secret {action.secret} does not exist now.")
    return Fit(True, f"Secret {action.secret} exists and is not named for pulling.")


def _image(action: RevertImage, present: Object, _snapshot: Snapshot) -> Fit:
    container = _container(present, action.container)
    if container is None:
        return _gone(action.container)
    if text(container, "image") == action.image:
        return Fit(False, f"{action.container} has the image {action.image} already.")
    return Fit(None, f"{action.container} has another image now; whether {action.image} can still be had was not read.")


def _scheduling(action: ChangeScheduling, present: Object, _snapshot: Snapshot) -> Fit:
    spec = mapping(present, "spec", "template", "spec")
    wanted = action.toleration
    if wanted is not None:
        same = [item for item in objects(spec, "tolerations") if text(item, "key") == wanted.key]
        if any(text(item, "effect") in ("", wanted.effect) for item in same):
            return Fit(False, f"The taint {wanted.key} is tolerated already.")
        return Fit(True, f"The taint {wanted.key} is not tolerated now.")
    selector = mapping(spec, "nodeSelector")
    if all(selector.get(key) == value for key, value in (action.node_selector or {}).items()):
        return Fit(False, "The node selector is already as it was set then.")
    return Fit(True, "The node selector is not as it was set then.")


def _service(action: ChangeService, present: Object, _snapshot: Snapshot) -> Fit:
    spec = mapping(present, "spec")
    port = next((item for item in objects(spec, "ports") if number(item, "port") == action.port), None)
    if action.port is not None and port is None:
        return Fit(False, f"The Service has no port {action.port} now.")
    pairs: list[tuple[object, object]] = [(action.selector, mapping(spec, "selector"))]
    pairs += [(action.target_port, pick(port, "targetPort")), (action.protocol, pick(port, "protocol"))]
    if all(goal is None or goal == now or str(goal) == str(now) for goal, now in pairs):
        return Fit(False, "The Service is already as it was set then.")
    return Fit(True, "The Service is not as it was set then.")


def _scale(action: Scale, present: Object, _snapshot: Snapshot) -> Fit:
    now = number(present, "spec", "replicas")
    fewer = now is not None and now < action.replicas
    return Fit(
        fewer, f"It has {now} replicas now, {'fewer than' if fewer else 'not fewer than'} the {action.replicas}."
    )


def _combined(action: Combined, present: Object, snapshot: Snapshot) -> Fit:
    parts = [_of_action(part, present, snapshot) for part in action.parts]
    verdicts = {part.ok for part in parts}
    ok = False if False in verdicts else None if None in verdicts else True
    return Fit(ok, " ".join(part.why for part in parts))


_CHECKS: dict[type, Callable[[Any, Object, Snapshot], Fit]] = {
    ChangeResources: _resources,
    ChangeProbe: _probe,
    ChangeConfigReference: _reference,
    ChangeVariable: _variable,
    AddPullSecret: _pull_secret,
    RevertImage: _image,
    ChangeScheduling: _scheduling,
    ChangeService: _service,
    Scale: _scale,
    Combined: _combined,
}
