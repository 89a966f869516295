"""The workload diagnosis: every analyzer over one scope, merged into ranked causes."""

from __future__ import annotations

from collections.abc import Iterable

from diagnosis.closure import with_closure
from diagnosis.workloads.analyzers import ANALYZERS
from diagnosis.workloads.containers import Container
from diagnosis.workloads.contract import Analyzer, Claim, Found
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import Object, pick
from diagnosis.workloads.health import troubles
from diagnosis.workloads.last_words import said_by
from diagnosis.workloads.ranking import rank
from diagnosis.workloads.recovered import recovered
from diagnosis.workloads.scope import Scope, scope_of
from diagnosis.workloads.snapshot import Snapshot, bare, ref_of
from diagnosis.workloads.symptom import read_symptom
from diagnosis.workloads.timeline.build import timeline
from diagnosis.workloads.trouble import Trouble
from errors import NotFound
from incidents.models import Cause, CauseClass, Diagnosis, DiagnosisStatus, Evidence, Finding, ObjectRef, Severity

_LOOKED_AT_IN_HEALTH = 5  # workloads that a healthy answer cites by name
_TROUBLES_CITED = 3
_CAUSES_TIMED = 3  # of a namespace with more faults than that, the timeline is of the likeliest
_OVER = "Nothing to do now: what failed in the last hour is over; if it comes back, ask again while it fails"


def diagnose(
    snapshot: Snapshot, *, target: ObjectRef | None = None, namespace: str | None = None, symptom: str = ""
) -> Diagnosis:
    """Diagnose a target (a workload, a pod, a service), a namespace, or all of a snapshot.

    `symptom` is the caller's own words: it orders causes that name what it mentions. Only a refusal of the API server
    that it quotes is taken as a report, where the objects do not speak against it.
    Raises NotFound when the target is not in the snapshot.
    """
    if target is None and namespace is None:
        namespace = snapshot.focus
    _require(snapshot, target, namespace)
    scope = scope_of(snapshot, target, namespace, symptom)
    found = _run(ANALYZERS, scope)
    if target is not None:
        found += _seen_from_around(scope, target, found)
    found += _run(ANALYZERS, _dependencies(scope, found))
    trouble = list(troubles(scope))
    explained = {bare(ref) for _, item in found for ref in (item.object, *item.explains)}
    explained |= {ObjectRef(kind="Node", name=str(item.facts["node"])) for _, item in found if item.facts.get("node")}
    found += [("health", item) for item in _unexplained(scope, trouble, explained)]
    ranked = rank(found, snapshot, trouble, read_symptom(symptom, snapshot, namespace, target))
    concerned = _concerned(scope, ranked.causes, found)
    suffering = {bare(item.object) for item in trouble} | {bare(cause.object) for cause in ranked.causes}
    moments, seen = timeline(snapshot, concerned, suffering)
    ranked.evidence |= {evidence.id: evidence for evidence in seen}
    named = [cause for cause in ranked.causes if cause.cause_class is not CauseClass.UNKNOWN]
    unseen = [*snapshot.unseen, *_unread(snapshot, namespace or (target.namespace if target else None))]
    if named:
        status = DiagnosisStatus.DIAGNOSED
    elif trouble or not _anything_seen(snapshot, scope):
        status = DiagnosisStatus.UNKNOWN
    else:
        status = DiagnosisStatus.HEALTHY
        for finding, evidence in _well(scope):
            ranked.findings[finding.id], ranked.evidence[evidence.id] = finding, evidence
        over = recovered(scope)
        for about, claim in over:
            finding = claim.finding("recovered", about)
            ranked.findings[finding.id] = finding
            ranked.evidence |= {evidence.id: evidence for evidence in claim.evidence}
        if over:
            ranked.next_steps = [_OVER]
    answer = Diagnosis(
        status=status,
        causes=ranked.causes,
        findings=list(ranked.findings.values()),
        evidence=list(ranked.evidence.values()),
        ruled_out=_ruled_out(scope, found) if trouble else [],
        unseen=list(dict.fromkeys(unseen)),
        next_steps=ranked.next_steps or _next_steps(status),
        timeline=moments,
    )
    return with_closure(answer)


def _require(snapshot: Snapshot, target: ObjectRef | None, namespace: str | None) -> None:
    if target is not None:
        if snapshot.get(target.kind, target.namespace, target.name) is None and not snapshot.pods_of(target):
            where = f" in namespace {target.namespace}" if target.namespace else ""
            raise NotFound(f"there is no {target.kind} {target.name}{where} in what was read")
    elif namespace is not None and namespace not in snapshot.namespaces():
        known = ", ".join(snapshot.namespaces()[:10]) or "none"
        if ("Pod", namespace) not in snapshot.complete:
            raise NotFound(f"nothing of namespace {namespace} is in what was read (namespaces there: {known})")


def _run(analyzers: Iterable[Analyzer], scope: Scope) -> list[tuple[str, Found]]:
    return [(analyzer.NAME, item) for analyzer in analyzers for item in analyzer.find(scope)]


def _seen_from_around(scope: Scope, target: ObjectRef, found: list[tuple[str, Found]]) -> list[tuple[str, Found]]:
    """What the neighbours show of a target: a database that its clients find read-only, a Service that misleads it."""
    asked = {bare(target), *scope.workloads}
    known = {(item.cause_class, item.object, item.subject, item.place) for _, item in found}
    around = (
        _run(ANALYZERS, scope_of(scope.snapshot, None, target.namespace, scope.symptom)) if target.namespace else []
    )
    return [
        (name, item)
        for name, item in around
        if (item.cause_class, item.object, item.subject, item.place) not in known
        and (bare(item.object) in asked or any(bare(ref) in asked for ref in item.explains))
    ]


def _dependencies(scope: Scope, found: list[tuple[str, Found]]) -> Scope:
    """What the scope depends on and does not contain: a victim is explained by what it waits for."""
    inside = set(scope.workloads)
    outside = dict.fromkeys(ref for _, item in found for ref in item.leads_to if ref not in inside)
    pods = [pod for ref in outside for pod in scope.snapshot.pods_of(ref)]
    return Scope(scope.snapshot, pods, list(outside), scope.symptom)


def _concerned(scope: Scope, causes: list[Cause], found: list[tuple[str, Found]]) -> Scope:
    """What a timeline is about: the target, or the likeliest causes' objects; and what they explain or depend on."""
    refs = [] if scope.target is None else list(scope.workloads)
    for cause in causes[:_CAUSES_TIMED]:
        about = bare(cause.object)
        refs.append(about)
        for _, item in found:
            if bare(item.object) == about:
                refs += [bare(ref) for ref in (*item.explains, *item.leads_to)]
    inside = dict.fromkeys(refs)
    pods = [] if scope.target is None else list(scope.pods)
    known = {id(pod) for pod in pods}
    for pod in scope.snapshot.all("Pod") if causes else ():
        if id(pod) not in known and (scope.snapshot.workload_of(pod) in inside or ref_of(pod) in inside):
            pods.append(pod)
    return Scope(scope.snapshot, pods, list(inside), scope.symptom, target=scope.target)


def _unexplained(scope: Scope, trouble: list[Trouble], explained: set[ObjectRef]) -> list[Found]:
    """Trouble of objects in which no analyzer found a cause, one entry for an object.

    What only says that something else fails is left out: that one is explained, or an entry of its own.
    """
    by_workload: dict[ObjectRef, list[Trouble]] = {}
    suffering = explained | {bare(item.object) for item in trouble}
    for item in trouble:
        about = bare(item.object)
        if about not in explained and not any(ref in suffering for ref in item.because):
            by_workload.setdefault(about, []).append(item)
    result = []
    for ref, items in by_workload.items():
        claims = list({item.claim.text: item.claim for item in items}.values())[:_TROUBLES_CITED]
        containers = {item.object.container for item in items if item.object.container}
        about = ref.model_copy(update={"container": containers.pop()}) if len(containers) == 1 else ref
        claims += _last_words(scope, ref)
        result.append(
            Found(
                CauseClass.UNKNOWN,
                about,
                0.0,
                f"{claims[0].text}; nothing observed says why",
                claims,
                next_steps=[f"Read the logs and events of {ref}: what was observed does not name a cause"],
            )
        )
    return result


def _last_words(scope: Scope, ref: ObjectRef) -> list[Claim]:
    """What the logs of a workload's failing containers say."""
    found = (said_by(scope, container) for container in _troubled_by_workload(scope).get(ref, [])[:_TROUBLES_CITED])
    return [claim for claim in found if claim is not None]


def _troubled_by_workload(scope: Scope) -> dict[ObjectRef, list[Container]]:
    if "troubled by workload" not in scope.memo:
        by_workload: dict[ObjectRef, list[Container]] = {}
        for container in scope.troubled:
            by_workload.setdefault(scope.snapshot.workload_of(container.pod), []).append(container)
        scope.memo["troubled by workload"] = by_workload
    found: dict[ObjectRef, list[Container]] = scope.memo["troubled by workload"]
    return found


def _anything_seen(snapshot: Snapshot, scope: Scope) -> bool:
    """Healthy needs sight of the pods; a snapshot without them proves nothing."""
    if scope.pods:
        return True
    namespaces = {ref.namespace for ref in scope.workloads if ref.namespace}
    return all(snapshot.looked_at("Pod", namespace) for namespace in namespaces) and snapshot.looked_at("Pod")


def _unread(snapshot: Snapshot, namespace: str | None) -> list[str]:
    """Kinds that analyzers need and nobody read."""
    wanted: dict[str, list[str]] = {}
    for analyzer in ANALYZERS:
        for kind in analyzer.READS:
            wanted.setdefault(kind, []).append(analyzer.NAME)
    sentences = []
    for kind, names in wanted.items():
        if kind == "Event":
            read = bool(snapshot.events()) or any(seen == "Event" for seen, _ in snapshot.complete)
        elif kind in ("Node",):
            read = snapshot.looked_at(kind)
        else:
            read = snapshot.looked_at(kind, namespace)
        if not read:
            sentences.append(f"no {kind} was read: needed for {', '.join(names)}")
    return sentences


def _ruled_out(scope: Scope, found: list[tuple[str, Found]]) -> list[str]:
    hit = {name for name, _ in found}
    return [
        analyzer.RULED_OUT
        for analyzer in ANALYZERS
        if analyzer.NAME not in hit
        and all(
            scope.snapshot.looked_at(kind) or (kind == "Event" and scope.snapshot.events()) for kind in analyzer.READS
        )
    ]


def _well(scope: Scope) -> list[tuple[Finding, Evidence]]:
    """What a healthy answer rests on: for each workload its pods' own word, or that it wants none."""
    result = []
    for ref in scope.workloads[:_LOOKED_AT_IN_HEALTH]:
        item = scope.snapshot.get(ref.kind, ref.namespace, ref.name)
        if item is None:
            continue
        at, said = _rests(item) or ("/status", "is as it should be")
        evidence = of_object(item, at, scope.snapshot.observed_at)
        finding = Claim(f"{ref} {said}", [evidence], Severity.INFO).finding("health", ref)
        result.append((finding, evidence))
    return result


def _rests(item: Object) -> tuple[str, str] | None:
    """Where a workload says itself that it is to do nothing, and in words: no fault, and worth knowing."""
    if pick(item, "spec", "suspend") is True:
        return "/spec/suspend", "is suspended, as its author wants it"
    if pick(item, "spec", "replicas") == 0:
        return "/spec/replicas", "has no replicas, as its author wants it"
    return ("/spec/paused", "is paused, with no change waiting") if pick(item, "spec", "paused") is True else None


def _next_steps(status: DiagnosisStatus) -> list[str]:
    if status is DiagnosisStatus.HEALTHY:
        return ["Nothing to do: everything that was looked at is ready and has not restarted in the last hour"]
    return ["Look at what is listed as unseen, then ask again"]
