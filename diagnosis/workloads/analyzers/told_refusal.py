"""A refusal that only the caller tells of: what `kubectl apply` or a pipeline was answered stands in no object.

The text is what the caller says, so it is believed modestly, and less than that where the present objects speak against
it: a quota that is gone or has room again, a webhook that nobody configures any more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from diagnosis.redaction import redact
from diagnosis.workloads.analyzers import admission, limit_range_violated, quota_exceeded
from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import objects, pick, quantity
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.snapshot import bare
from incidents.models import CauseClass, Evidence, EvidenceKind, Fact, ObjectRef

NAME = "told_refusal"
READS = ()
RULED_OUT = "told refusals: the caller tells of no refusal by the API server"
CAUSES: dict[CauseClass, Documented] = {
    cause: module.CAUSES[cause]
    for module in (quota_exceeded, limit_range_violated, admission)
    for cause in module.CAUSES
}

_CHARS = 4000
_REFUSED = re.compile(
    r"\b(?P<kind>[a-z]{3,40})(?:\.[a-z0-9.]{1,80})? \"(?P<name>[a-z0-9][a-z0-9.-]{0,252})\" is forbidden"
)
_KINDS = {
    "pods": "Pod", "deployments": "Deployment", "replicasets": "ReplicaSet", "statefulsets": "StatefulSet",
    "daemonsets": "DaemonSet", "jobs": "Job", "cronjobs": "CronJob", "services": "Service",
    "persistentvolumeclaims": "PersistentVolumeClaim", "configmaps": "ConfigMap", "secrets": "Secret",
}  # fmt: skip
_CONFIGURATIONS = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")


@dataclass(frozen=True)
class _Told:
    """What a text says: the class, in words, and what it tells by name."""

    cause: CauseClass
    why: str
    facts: dict[str, Fact]
    subject: str = ""


def find(scope: Scope) -> Iterable[Found]:
    namespace = _namespace(scope)
    if not scope.symptom or namespace is None:
        return
    said = redact(" ".join(scope.symptom[:_CHARS].split()))
    told = _read(said)
    if told is None or _seen_by_itself(scope, said) or _over(scope, namespace, told):
        return
    about = _about(scope, said, namespace)
    evidence = Evidence.of(EvidenceKind.REPORT, "what the caller says", said, scope.snapshot.observed_at)
    claims = [Claim(f"The caller was refused, as they say: {quoted(said, 600)}", [evidence])]
    confidence = 0.6
    quota = scope.snapshot.get("ResourceQuota", namespace, told.subject) if told.subject else None
    if quota is not None:
        shown = of_object(quota, "/status", scope.snapshot.observed_at)
        claims.append(Claim(f"Quota {told.subject} has no room for it now either", [shown]))
        confidence = 0.75
    yield Found(
        told.cause,
        about,
        confidence,
        f"{about.kind} {about.name}: the API server refuses what the caller wants to make: {told.why}.",
        claims,
        facts=told.facts,
        subject=told.subject,
        next_steps=["Send it once more, and give the whole answer, if it is refused again"],
    )


def _namespace(scope: Scope) -> str | None:
    """The one that is asked about; none for what a scope depends on."""
    if scope.target is not None:
        return scope.target.namespace
    return next(iter(scope.namespaces)) if scope.namespaces and len(scope.namespaces) == 1 else None


def _read(said: str) -> _Told | None:
    if parsed := quota_exceeded.parse(said):
        facts, why = parsed
        return _Told(CauseClass.QUOTA_EXCEEDED, why, facts, str(facts["quota"]))
    if bounds := limit_range_violated.parse(said):
        why = f"a LimitRange sets a {bounds['bound']} for {bounds['resource']} of {bounds['limit']}"
        return _Told(CauseClass.LIMIT_RANGE_VIOLATED, why, bounds)
    if match := admission.ACCOUNT.search(said):
        why = f"service account {match['name']} does not exist"
        return _Told(CauseClass.MISSING_SERVICE_ACCOUNT, why, {"service_account": match["name"]})
    for pattern, cause, words in (
        (admission.OUTAGE, CauseClass.WEBHOOK_UNAVAILABLE, "does not answer"),
        (admission.DENIED, CauseClass.WEBHOOK_DENIED, "refuses it"),
    ):
        match = pattern.search(said)
        if match and not (pattern is admission.DENIED and admission.by_pod_security(match)):
            webhook = match["webhook"]
            return _Told(cause, f"admission webhook {webhook} {words}", {"webhook": webhook}, webhook)
    if match := admission.SECURITY.search(said):
        rule = next((match[name] for name in ("rule", "policy", "other") if match[name]), "").strip()
        return _Told(CauseClass.POD_SECURITY_DENIED, f"pod security forbids it: {rule[:250]}", {"rule": rule[:400]})
    return None


def _seen_by_itself(scope: Scope, said: str) -> bool:
    """Whether the text is an event's that was read: then the objects tell it better."""
    return any(len(event.message) > 40 and " ".join(event.message.split())[:200] in said
               for event in scope.snapshot.events())  # fmt: skip


def _over(scope: Scope, namespace: str, told: _Told) -> bool:
    """Whether the present objects speak against it."""
    snapshot = scope.snapshot
    if told.cause is CauseClass.QUOTA_EXCEEDED:
        quota = snapshot.get("ResourceQuota", namespace, told.subject)
        if quota is None:
            return snapshot.lacks("ResourceQuota", namespace, told.subject) is True
        wanted = quota_exceeded.amounts(str(told.facts.get("requested", "")))
        hard, used = (pick(quota, "status", part) for part in ("hard", "used"))
        return bool(wanted) and all(
            (quantity(pick(used, key)) or 0.0) + more <= (quantity(pick(hard, key)) or float("inf"))
            for key, more in wanted.items()
        )
    if told.cause is CauseClass.MISSING_SERVICE_ACCOUNT:
        return snapshot.lacks("ServiceAccount", namespace, str(told.facts["service_account"])) is False
    if told.cause is CauseClass.LIMIT_RANGE_VIOLATED:
        return ("LimitRange", namespace) in snapshot.complete and not snapshot.all("LimitRange", namespace)
    if told.cause in (CauseClass.WEBHOOK_DENIED, CauseClass.WEBHOOK_UNAVAILABLE):
        known = [
            entry for kind in _CONFIGURATIONS for item in snapshot.all(kind) for entry in objects(item, "webhooks")
        ]
        read = all((kind, "") in snapshot.complete for kind in _CONFIGURATIONS)
        return read and not any(entry.get("name") == told.subject for entry in known)
    return False


def _about(scope: Scope, said: str, namespace: str) -> ObjectRef:
    """The object that was refused, as far as the text names it; else the target, else the namespace."""
    match = _REFUSED.search(said)
    if match and match["kind"] in _KINDS:
        return ObjectRef(kind=_KINDS[match["kind"]], namespace=namespace, name=match["name"])
    return bare(scope.target) if scope.target is not None else ObjectRef(kind="Namespace", name=namespace)
