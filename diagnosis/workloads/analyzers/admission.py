"""Pods that the API server refuses for other reasons than their size: a service account that is not there, pod
security, an admission webhook that says no, or one that does not answer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from diagnosis.workloads.contract import Claim, Documented, Found
from diagnosis.workloads.evidence import of_absence, of_object
from diagnosis.workloads.fields import Object, condition, objects, text
from diagnosis.workloads.refusals import Refusal, refusals
from diagnosis.workloads.scope import Scope, selected_pods
from diagnosis.workloads.snapshot import ref_of
from incidents.models import CauseClass, Fact, ObjectRef

NAME = "admission"
READS = ("Event", "ReplicaSet")
RULED_OUT = "admission: no controller was refused a pod by an account, pod security or a webhook"
CAUSES = {
    CauseClass.MISSING_SERVICE_ACCOUNT: Documented(
        "The pod template names a ServiceAccount that does not exist, so no pod is made.",
        "The API server's refusal in a FailedCreate event or a ReplicaFailure condition; the accounts that exist.",
        "Create the account, or name one that exists: which rights the program needs is a person's decision.",
    ),
    CauseClass.POD_SECURITY_DENIED: Documented(
        "Pod security (the namespace's level, a PodSecurityPolicy or a security context constraint) forbids the pod.",
        "The API server's refusal in a FailedCreate event or a ReplicaFailure condition, with the rule it names.",
        "Change the security context as the refusal says; lowering the namespace's level needs its owner.",
    ),
    CauseClass.WEBHOOK_DENIED: Documented(
        "An admission webhook looked at the pod and refused it, in its own words.",
        "The API server's refusal naming the webhook, in a FailedCreate event or a ReplicaFailure condition.",
        "Change the template as the webhook asks; its policy belongs to somebody else.",
    ),
    CauseClass.WEBHOOK_UNAVAILABLE: Documented(
        "An admission webhook that must be asked does not answer, so nothing that it covers can be made.",
        "The API server's words in a FailedCreate event or a ReplicaFailure condition; the webhook configuration and "
        "the Service that it names, with the pods behind it.",
        "Repair what is behind the webhook; until then nothing here may be weakened without its owner.",
    ),
}

ACCOUNT = re.compile(r"error looking up service account (?P<namespace>[^/\s]+)/(?P<name>[^:\s]+): .*not found")
SECURITY = re.compile(
    r"violates PodSecurity \"(?P<level>[^\"]+)\": (?P<rule>.+)"
    r"|unable to (?:validate|admit)[^:]*(?:pod security policy|PodSecurityPolicy|security context constraint)[^:]*: ?"
    r"(?P<policy>.*)"
    r"|forbidden: (?P<other>PodSecurityPolicy: .+|seccomp may not be set.*|SecurityContext\.\w+ is forbidden.*)",
    re.IGNORECASE,
)
DENIED = re.compile(r"admission webhook \"(?P<webhook>[^\"]+)\" denied the request(?:: (?P<said>.*)| without)")
OUTAGE = re.compile(r"failed (?:calling|to call) (?:admission )?webhook \"(?P<webhook>[^\"]+)\": (?P<said>.*)")
_CONFIGURATIONS = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")


def find(scope: Scope) -> Iterable[Found]:
    of_webhook = scope.target if scope.target is not None and scope.target.kind in _CONFIGURATIONS else None
    for told in refusals(scope, everywhere=of_webhook is not None):
        found = next((found for refusal in told if (found := _found(scope, refusal)) is not None), None)
        if found is not None and of_webhook in (None, found.object):
            yield found


def _found(scope: Scope, refusal: Refusal) -> Found | None:
    message = refusal.message
    if match := ACCOUNT.search(message):
        return _account(scope, refusal, match["name"])
    if match := OUTAGE.search(message):
        return _outage(scope, refusal, match["webhook"], match["said"].strip())
    denied, security = DENIED.search(message), SECURITY.search(message)
    if denied and not by_pod_security(denied):
        match, said = denied, (denied["said"] or "").strip()
        facts: dict[str, Fact] = {"webhook": match["webhook"], "webhook_says": said[:300] or None}
        why = f"admission webhook {match['webhook']} refuses them{f': {said[:200]}' if said else ''}"
        claims, _ = _configuration(scope, match["webhook"])
        step = "Change the template as it asks"
        return replace(_refused(CauseClass.WEBHOOK_DENIED, refusal, why, facts, step, claims), subject=match["webhook"])
    if match := security:
        rule = next((match[name] for name in ("rule", "policy", "other") if match[name]), "").strip()
        facts = {"level": match["level"], "rule": rule[:400]}
        why = f"pod security forbids them: {rule[:250]}"
        claims = _configuration(scope, denied["webhook"])[0] if denied else []
        step = "Change the security context of its pods as the rule says"
        return _refused(CauseClass.POD_SECURITY_DENIED, refusal, why, facts, step, claims)
    return None


def by_pod_security(denied: re.Match[str]) -> bool:
    """Whether a webhook that refuses is pod security itself, which is one where the API server does not bring it
    (kubernetes/pod-security-admission/webhook): the words are those of the API server's own."""
    said = SECURITY.search(denied["said"] or "")
    return said is not None and bool(said["level"])


def _refused(
    cause: CauseClass, refusal: Refusal, why: str, facts: dict[str, Fact], step: str, claims: list[Claim]
) -> Found:
    owner = refusal.owner
    summary = f"{owner.kind} {owner.name} may not make its pods: {why}."
    return Found(cause, owner, 0.97, summary, [refusal.claim, *claims], facts=facts, next_steps=[step])


def _account(scope: Scope, refusal: Refusal, name: str) -> Found:
    namespace, claims = refusal.owner.namespace, []
    here = [text(item, "metadata", "name") for item in scope.snapshot.all("ServiceAccount", namespace)]
    if scope.snapshot.lacks("ServiceAccount", namespace, name):
        evidence = of_absence("ServiceAccount", namespace or "", name, here, scope.snapshot.observed_at)
        claims = [Claim(f"There is no ServiceAccount {name} in namespace {namespace}", [evidence])]
    facts: dict[str, Fact] = {"service_account": name, "existing_accounts": here[:20]}
    why = f"their service account {name} does not exist"
    step = f"Create ServiceAccount {name}, or name one that exists"
    return _refused(CauseClass.MISSING_SERVICE_ACCOUNT, refusal, why, facts, step, claims)


def _outage(scope: Scope, refusal: Refusal, webhook: str, said: str) -> Found:
    claims, configuration = _configuration(scope, webhook)
    owner = refusal.owner
    facts: dict[str, Fact] = {"webhook": webhook, "api_server_says": said[:300]}
    leads_to: list[ObjectRef] = []
    for entry in objects(configuration, "webhooks"):
        service = entry.get("clientConfig", {}).get("service") if isinstance(entry.get("clientConfig"), dict) else None
        if entry.get("name") == webhook and isinstance(service, dict):
            more, behind = _behind(scope, text(service, "namespace"), text(service, "name"))
            claims += more
            leads_to += behind
            facts |= {"service": text(service, "name"), "service_namespace": text(service, "namespace")}
    about = ref_of(configuration) if configuration else owner
    return Found(
        CauseClass.WEBHOOK_UNAVAILABLE,
        about,
        0.96,
        f"Webhook {webhook} does not answer, so {owner.kind} {owner.name} cannot make its pods: {said[:200]}",
        [refusal.claim, *claims],
        facts=facts,
        leads_to=leads_to,
        subject=webhook,
        explains=[owner] if about != owner else [],
        next_steps=[f"Repair what serves webhook {webhook}"],
    )


def _configuration(scope: Scope, webhook: str) -> tuple[list[Claim], Object]:
    for kind in _CONFIGURATIONS:
        for item in scope.snapshot.all(kind):
            for index, entry in enumerate(objects(item, "webhooks")):
                if entry.get("name") == webhook:
                    shown = of_object(item, f"/webhooks/{index}", scope.snapshot.observed_at)
                    name = text(item, "metadata", "name")
                    return [Claim(f"The webhook is of {kind} {name}", [shown])], item
    return [], {}


def _behind(scope: Scope, namespace: str, name: str) -> tuple[list[Claim], list[ObjectRef]]:
    snapshot, now = scope.snapshot, scope.snapshot.observed_at
    service = snapshot.get("Service", namespace, name)
    if service is None:
        if not snapshot.lacks("Service", namespace, name):
            return [], []
        here = [text(item, "metadata", "name") for item in snapshot.all("Service", namespace)]
        evidence = of_absence("Service", namespace, name, here, now)
        return [Claim(f"There is no Service {name} in namespace {namespace}", [evidence])], []
    pods = selected_pods(snapshot, service)
    ready = [pod for pod in pods if condition(pod, "Ready").get("status") == "True"]
    if ready or not snapshot.looked_at("Pod", namespace):
        return [], list(dict.fromkeys(snapshot.workload_of(pod) for pod in pods))
    shown = of_object(service, "/spec/selector", now)
    claim = Claim(f"None of the {len(pods)} pods behind Service {name} is ready", [shown])
    return [claim], list(dict.fromkeys(snapshot.workload_of(pod) for pod in pods))
