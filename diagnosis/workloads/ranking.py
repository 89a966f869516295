"""From what analyzers found to ranked causes: one cause for one fault, symptoms under what explains them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from diagnosis.workloads.contract import Found
from diagnosis.workloads.fields import text
from diagnosis.workloads.rollout import revision_facts
from diagnosis.workloads.snapshot import Snapshot
from incidents.models import Cause, CauseClass, Evidence, Fact, Finding, ObjectRef

_PLACES_CITED = 3  # pods whose evidence is kept for one cause; the others are counted
_PLACES_NAMED = 10
MENTIONED = 0.15  # how much a name in the symptom lifts a cause in the order (not in its confidence)

_PROBES = {CauseClass.WRONG_LIVENESS_PROBE, CauseClass.WRONG_READINESS_PROBE, CauseClass.WRONG_STARTUP_PROBE}
_WEAK = {CauseClass.UNKNOWN, CauseClass.BAD_ROLLOUT, CauseClass.APPLICATION_ERROR, CauseClass.DEPENDENCY_UNAVAILABLE}
_NOT_STARTED = {
    CauseClass.MISSING_PULL_SECRET,
    CauseClass.BAD_IMAGE,
    CauseClass.MISSING_CONFIG_MAP,
    CauseClass.MISSING_CONFIG_KEY,
    CauseClass.MISSING_SECRET,
    CauseClass.BAD_COMMAND,
    CauseClass.UNSCHEDULABLE,
    CauseClass.QUOTA_EXCEEDED,
    CauseClass.LIMIT_RANGE_VIOLATED,
    CauseClass.MISSING_SERVICE_ACCOUNT,
    CauseClass.POD_SECURITY_DENIED,
    CauseClass.WEBHOOK_DENIED,
    CauseClass.WEBHOOK_UNAVAILABLE,
    CauseClass.RBAC_DENIED,
    CauseClass.INSUFFICIENT_RESOURCES,
    CauseClass.NODE_SELECTOR_MISMATCH,
    CauseClass.AFFINITY_UNSATISFIABLE,
    CauseClass.UNTOLERATED_TAINT,
    CauseClass.NODE_CORDONED,
    CauseClass.TOPOLOGY_SPREAD_UNSATISFIABLE,
    CauseClass.VOLUME_ZONE_CONFLICT,
    CauseClass.MISSING_CLAIM,
}
CONSEQUENCES = {CauseClass.UNKNOWN, CauseClass.ROLLOUT_STUCK, CauseClass.JOB_BACKOFF, CauseClass.STATEFUL_SET_BLOCKED}
"""How a controller shows what is wrong elsewhere: never a cause where another one is found in the same workload."""

EXPLAINS: dict[CauseClass, set[CauseClass]] = {
    **dict.fromkeys(_NOT_STARTED, _WEAK | _PROBES),
    CauseClass.MISSING_PULL_SECRET: _WEAK | _PROBES | {CauseClass.BAD_IMAGE},
    CauseClass.OOM_KILLED: _WEAK | _PROBES,
    CauseClass.NATIVE_CRASH: _WEAK | _PROBES,
    CauseClass.EVICTED: _WEAK | _PROBES,
    CauseClass.NODE_LOST: _WEAK | _PROBES,
    **{cause: {CauseClass.UNKNOWN, CauseClass.BAD_ROLLOUT, CauseClass.APPLICATION_ERROR} for cause in _PROBES},
    CauseClass.DEPENDENCY_UNAVAILABLE: {CauseClass.UNKNOWN, CauseClass.APPLICATION_ERROR},
    CauseClass.BAD_ROLLOUT: {CauseClass.UNKNOWN},
    CauseClass.APPLICATION_ERROR: {CauseClass.UNKNOWN},
}
"""Which classes are mere symptoms of which, in the same container of the same pod (or anywhere in the workload for
causes that lie in its template)."""


@dataclass
class Ranked:
    """The parts of a diagnosis that come from causes."""

    causes: list[Cause] = field(default_factory=list)
    findings: dict[str, Finding] = field(default_factory=dict)
    evidence: dict[str, Evidence] = field(default_factory=dict)
    next_steps: list[str] = field(default_factory=list)


def rank(found: Iterable[tuple[str, Found]], snapshot: Snapshot, symptom: str = "") -> Ranked:
    """Causes in rank order. `found` are (analyzer name, what it found)."""
    ranked = Ranked()
    groups: dict[tuple[object, ...], list[tuple[str, Found]]] = defaultdict(list)
    for name, item in _without_symptoms(list(found)):
        groups[item.cause_class, item.object, item.subject].append((name, item))
    merged = [(_cause(group, snapshot, ranked), group) for group in groups.values()]
    failing = {_bare(cause.object) for cause, _ in merged if cause.cause_class is not CauseClass.UNKNOWN}
    scored = []
    for cause, group in merged:
        roots = {_bare(ref) for _, item in group for ref in item.leads_to} & failing - {_bare(cause.object)}
        score = min([cause.confidence, *(_best(merged, root) - 0.05 for root in roots)])
        score += MENTIONED if _mentioned(cause, symptom) and not roots else 0.0
        if roots:
            root = sorted(roots, key=str)[0]
            explained = f"{cause.summary} (the root cause is in {root})"
            cause = cause.model_copy(update={"summary": explained, "confidence": max(0.0, min(score, 1.0))})
        scored.append((score, cause, group))
    scored.sort(key=lambda entry: (-entry[0], str(entry[1].object), entry[1].cause_class.value))
    for _, cause, group in scored:
        ranked.causes.append(cause)
        ranked.next_steps += [step for _, item in group[:1] for step in item.next_steps]
    ranked.next_steps = list(dict.fromkeys(ranked.next_steps))[:12]
    return ranked


def _without_symptoms(found: list[tuple[str, Found]]) -> list[tuple[str, Found]]:
    by_object: dict[ObjectRef, list[Found]] = defaultdict(list)
    for _, item in found:
        by_object[_bare(item.object)].append(item)
    consequences = {ref for _, item in found for ref in item.explains}
    return [
        (name, item)
        for name, item in found
        if not any(_explains(o, item) for o in by_object[_bare(item.object)])
        and not (item.cause_class in CONSEQUENCES and _bare(item.object) in consequences)
    ]


def _explains(other: Found, item: Found) -> bool:
    if other is item or item.cause_class not in EXPLAINS.get(other.cause_class, set()):
        return False
    if item.place is None or other.place is None:  # about the template, so about every pod of it
        return item.object.container in (None, other.object.container) or other.object.container is None
    return item.place == other.place and item.object.container in (None, other.object.container)


def _cause(group: list[tuple[str, Found]], snapshot: Snapshot, ranked: Ranked) -> Cause:
    group.sort(key=lambda entry: -entry[1].confidence)
    best = group[0][1]
    ids: list[str] = []
    for name, item in group[:_PLACES_CITED]:
        for claim in item.claims:
            finding = claim.finding(name, item.object)
            ranked.findings[finding.id] = finding
            ranked.evidence.update({evidence.id: evidence for evidence in claim.evidence})
            ids.append(finding.id)
    facts: dict[str, Fact] = dict(best.facts)
    places = sorted({item.place for _, item in group if item.place})
    if places:
        facts |= {"pods": places[:_PLACES_NAMED], "pod_count": len(places)}
    facts |= revision_facts(snapshot, best.object)
    facts |= _helm(snapshot, best.object)
    more = f" (seen in {len(places)} pods)" if len(places) > 1 else ""
    return Cause(
        cause_class=best.cause_class,
        object=best.object,
        confidence=best.confidence,
        summary=best.summary + more,
        finding_ids=list(dict.fromkeys(ids)),
        facts=facts,
    )


def _helm(snapshot: Snapshot, ref: ObjectRef) -> dict[str, Fact]:
    """Helm writes its release into annotations of every object that it owns."""
    item = snapshot.get(ref.kind, ref.namespace, ref.name)
    release = text(item, "metadata", "annotations", "meta.helm.sh/release-name")
    if not release or text(item, "metadata", "labels", "app.kubernetes.io/managed-by") != "Helm":
        return {}
    namespace = text(item, "metadata", "annotations", "meta.helm.sh/release-namespace") or ref.namespace
    return {"helm_release": release, "helm_namespace": namespace}


def _best(merged: list[tuple[Cause, list[tuple[str, Found]]]], ref: ObjectRef) -> float:
    return max(cause.confidence for cause, _ in merged if _bare(cause.object) == ref)


def _mentioned(cause: Cause, symptom: str) -> bool:
    pods = cause.facts.get("pods")
    names = [cause.object.name, cause.object.container or "", *(pods if isinstance(pods, list) else [])]
    return any(len(name) > 3 and name in symptom for name in names)


def _bare(ref: ObjectRef) -> ObjectRef:
    return ref.model_copy(update={"container": None}) if ref.container else ref
