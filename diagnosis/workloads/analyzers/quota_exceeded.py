"""Pods, claims or Services that are not even made: a quota is used up, or asks for what is not stated."""

from __future__ import annotations

import re
from collections.abc import Iterable

from diagnosis.workloads.contract import Claim, Documented, Found
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import mapping, quantity
from diagnosis.workloads.observed_use import Advice, smaller_request, stated_amounts
from diagnosis.workloads.refusals import Refusal, refusals
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Fact

NAME = "quota_exceeded"
READS = ("Event", "ReplicaSet")
RULED_OUT = "quotas: no controller was refused a pod"
CAUSES = {
    CauseClass.QUOTA_EXCEEDED: Documented(
        "A ResourceQuota of the namespace leaves no room for what a controller wants to make (cpu, memory, pods, "
        "storage, Services, any counted object), or asks that containers state requests or limits that they do not.",
        "The API server's refusal in a FailedCreate event or a ReplicaFailure condition; the quota's own figures.",
        "Where the container's use was measured: a request that fits, or the amounts that the quota wants stated. Else "
        "a person decides who gets the room: raise the quota, ask for less, or remove what uses it up.",
    )
}

# k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go; one refusal may name several quotas
_EXCEEDED = re.compile(
    r"exceeded quota: (?P<quota>[^,]+), requested: (?P<requested>.+?), used: (?P<used>.+?), limited: "
    r"(?P<limited>[^\s,]+=[^\s,]+(?:,[^\s,]+=[^\s,]+)*)"
)
_AMOUNT = re.compile(r"\b(requests|limits)\.(cpu|memory)\b")
_MUST_SPECIFY = re.compile(r"failed quota: (?P<quota>[^:]+): must specify (?P<what>[\w./,-]+)")


def find(scope: Scope) -> Iterable[Found]:
    for told in refusals(scope):
        parsed = next(((refusal, found) for refusal in told if (found := parse(refusal.message))), None)
        if parsed is not None:
            yield _found(scope, parsed[0], *parsed[1])


def _found(scope: Scope, refusal: Refusal, facts: dict[str, Fact], why: str) -> Found:
    owner, claims = refusal.owner, [refusal.claim]
    quota = scope.snapshot.get("ResourceQuota", owner.namespace, str(facts["quota"]))
    if quota is not None:
        shown = of_object(quota, "/status", scope.snapshot.observed_at)
        claims.append(Claim(f"Quota {facts['quota']} is used up or asks for more", [shown]))
    advice = _advice(scope, refusal, facts)
    if advice is not None:
        facts, claims = {**facts, **advice.facts}, [*claims, *advice.claims]
    return Found(
        CauseClass.QUOTA_EXCEEDED,
        owner.model_copy(update={"container": advice.container}) if advice else owner,
        0.97,
        f"{owner.kind} {owner.name} may not make its pods: {why}.",
        claims,
        facts=facts,
        next_steps=["Raise the quota, ask for less, or remove what uses it up"],
    )


def _advice(scope: Scope, refusal: Refusal, facts: dict[str, Fact]) -> Advice | None:
    """Amounts from measured use: the one that the quota wants stated, or a smaller one that fits into what is left."""
    pod = mapping(refusal.item, "spec", "template")
    if "must_specify" in facts:
        demanded = _AMOUNT.findall(refusal.message.partition("must specify")[2])
        return stated_amounts(scope, refusal.owner, pod, demanded) if demanded else None
    limited, used = (amounts(str(facts[name])) for name in ("limited", "used"))
    for key in str(facts["requested"]).split(","):
        name = key.partition("=")[0].strip()
        resource = name.removeprefix("requests.")
        room = limited.get(name, 0.0) - used.get(name, 0.0)
        if resource in ("cpu", "memory") and room > 0:
            return smaller_request(scope, refusal.owner, pod, resource, room)
    return None


def amounts(listed: str) -> dict[str, float]:
    pairs = (part.strip().partition("=") for part in listed.split(","))
    return {name: amount for name, _, value in pairs if (amount := quantity(value)) is not None}


def parse(message: str) -> tuple[dict[str, Fact], str] | None:
    if match := _EXCEEDED.search(message):
        facts: dict[str, Fact] = {key: value.strip(" .") for key, value in match.groupdict().items()}
        facts["resources"] = [part.partition("=")[0] for part in match["requested"].split(",")]
        why = f"quota {facts['quota']} allows {facts['limited']}, used are {facts['used']}, asked {facts['requested']}"
        return facts, why
    if match := _MUST_SPECIFY.search(message):
        facts = {"quota": match["quota"].strip(), "must_specify": match["what"].strip(" .,")}
        return facts, f"quota {facts['quota']} asks that containers specify {facts['must_specify']}"
    return None
