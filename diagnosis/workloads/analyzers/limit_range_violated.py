"""Pods or claims that a LimitRange forbids: above its maximum, below its minimum, or limits too far above requests."""

from __future__ import annotations

import re
from collections.abc import Iterable

from diagnosis.workloads.contract import Claim, Documented, Found
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import Object, objects, pick, quantity, text
from diagnosis.workloads.refusals import Refusal, refusals
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Fact

NAME = "limit_range_violated"
READS = ("Event", "ReplicaSet")
RULED_OUT = "limit ranges: no controller was refused a pod by one"
CAUSES = {
    CauseClass.LIMIT_RANGE_VIOLATED: Documented(
        "A LimitRange of the namespace forbids the pod's size: more than its maximum, less than its minimum, or a "
        "limit too many times the request.",
        "The API server's refusal in a FailedCreate event or a ReplicaFailure condition; the LimitRange itself.",
        "Change the container's requests and limits to lie within the range that the facts name.",
    )
}

# kubernetes/plugin/pkg/admission/limitranger/admission.go
_BOUND = re.compile(
    r"(?P<bound>maximum|minimum) (?P<resource>\S+) usage per (?P<per>\w+) is (?P<limit>[\w.]*\w)\s*[,.]\s*"
    r"(?:but (?P<what>limit|request) is (?P<observed>[\w.]*\w)|No (?P<unsaid>limit|request) is specified)"
)
_RATIO = re.compile(
    r"(?P<resource>\S+) max limit to request ratio per (?P<per>\w+) is (?P<limit>[\w.]*\w)\s*[,.]\s*"
    r"(?:but provided ratio is (?P<observed>[\w.]*\w))?"
)


def find(scope: Scope) -> Iterable[Found]:
    for told in refusals(scope):
        parsed = next(((refusal, facts) for refusal in told if (facts := parse(refusal.message))), None)
        if parsed is not None:
            yield _found(scope, *parsed)


def parse(message: str) -> dict[str, Fact] | None:
    """`bound` (maximum, minimum, ratio), `resource`, `per`, `limit`, `observed` (None: not stated) of a refusal."""
    if match := _BOUND.search(message):
        facts: dict[str, Fact] = {key: match[key] for key in ("bound", "resource", "per", "limit")}
        return facts | {"observed": match["observed"], "field": match["what"] or match["unsaid"]}
    if match := _RATIO.search(message):
        facts = {"bound": "ratio", "resource": match["resource"], "per": match["per"], "limit": match["limit"]}
        return facts | {"observed": match["observed"]}
    return None


def _found(scope: Scope, refusal: Refusal, facts: dict[str, Fact]) -> Found:
    owner, claims = refusal.owner, [refusal.claim]
    for item in scope.snapshot.all("LimitRange", owner.namespace):
        if _says(item, facts):
            facts["limit_range"] = text(item, "metadata", "name")
            shown = of_object(item, "/spec/limits", scope.snapshot.observed_at)
            claims.append(Claim(f"LimitRange {facts['limit_range']} sets this bound", [shown]))
            break
    bound = "limit to request ratio" if facts["bound"] == "ratio" else facts["bound"]
    has = f"it has {facts['observed']}" if facts["observed"] else f"it states no {facts.get('field') or 'ratio'}"
    return Found(
        CauseClass.LIMIT_RANGE_VIOLATED,
        owner,
        0.97,
        f"{owner.kind} {owner.name} may not make its pods: the {bound} of {facts['resource']} per {facts['per']} is "
        f"{facts['limit']}, {has}.",
        claims,
        facts=facts,
        next_steps=[f"Bring the {facts['resource']} of {owner.kind} {owner.name} within the limit range, or change it"],
    )


def _says(item: Object, facts: dict[str, Fact]) -> bool:
    field = {"maximum": "max", "minimum": "min", "ratio": "maxLimitRequestRatio"}[str(facts["bound"])]
    return any(
        entry.get("type") == facts["per"]
        and quantity(pick(entry, field, str(facts["resource"]))) == quantity(facts["limit"])
        for entry in objects(item, "spec", "limits")
    )
