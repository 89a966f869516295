"""From what analyzers found to ranked causes: one cause for one fault, symptoms and victims under what explains it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from diagnosis.workloads.chains import Chains
from diagnosis.workloads.consequences import ONE_FOR_ALL, WEAK, explained_by
from diagnosis.workloads.contract import Claim, Found
from diagnosis.workloads.fields import text
from diagnosis.workloads.rollout import revision_facts
from diagnosis.workloads.snapshot import Snapshot, bare
from diagnosis.workloads.symptom import Mentions
from diagnosis.workloads.trouble import Trouble
from incidents.models import Cause, CauseClass, Evidence, Fact, Finding, ObjectRef

_PLACES_CITED = 3  # pods whose evidence is kept for one cause; the others are counted
_PLACES_NAMED = 10
_VICTIMS_CITED = 4
_VICTIMS_NAMED = 20
HINTED = 0.1  # how much a cause of the kind that the symptom speaks of is lifted in the order (not in its confidence)


@dataclass
class Ranked:
    """The parts of a diagnosis that come from causes."""

    causes: list[Cause] = field(default_factory=list)
    findings: dict[str, Finding] = field(default_factory=dict)
    evidence: dict[str, Evidence] = field(default_factory=dict)
    next_steps: list[str] = field(default_factory=list)


@dataclass(eq=False)
class _Group:
    """The same cause seen in one or many places, and what fails only because of it."""

    found: list[tuple[str, Found]]
    victims: list[_Group] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.found.sort(key=lambda entry: (-entry[1].confidence, str(entry[1].object)))
        self.best = self.found[0][1]
        self.objects = list(dict.fromkeys(bare(item.object) for _, item in self.found))
        self.cause_class = self.best.cause_class

    @property
    def others(self) -> list[ObjectRef]:
        """What else suffers from it: its victims, and the objects that its findings explain."""
        refs = [*self.objects[1:], *(ref for victim in self.victims for ref in victim.objects)]
        refs += [bare(ref) for _, item in self.found for ref in item.explains]
        return [ref for ref in dict.fromkeys(refs) if ref != self.objects[0]]


def rank(
    found: Iterable[tuple[str, Found]],
    snapshot: Snapshot,
    trouble: Sequence[Trouble] = (),
    mentions: Mentions | None = None,
) -> Ranked:
    """Causes in rank order. `found` are (analyzer name, what it found), `trouble` how things show that they suffer,
    `mentions` what the caller named."""
    ranked, mentions = Ranked(), mentions or Mentions()
    grouped: dict[tuple[object, ...], list[tuple[str, Found]]] = defaultdict(list)
    for name, item in _without_symptoms(list(found)):
        grouped[_key(item)].append((name, item))
    groups = [_Group(entries) for entries in grouped.values()]
    direct = _roots(groups)
    absorbed = _absorb(groups, direct)
    roots = [group for group in groups if group not in absorbed]
    links = [(victim.objects[0], root.objects[0]) for victim, root in direct.items()]
    chains = _chains(groups, links, trouble, mentions)
    scored = []
    for group in roots:
        cause = _chained(_cause(group, snapshot, ranked), group, chains, mentions, ranked)
        named = group.cause_class is not CauseClass.UNKNOWN and _is_about(group, mentions)
        score = cause.confidence + (HINTED if group.cause_class in mentions.classes else 0.0)
        scored.append(((not named, -score, str(cause.object), cause.cause_class.value), cause, group))
    scored.sort(key=lambda entry: entry[0])
    for _, cause, group in scored:
        ranked.causes.append(cause)
        ranked.next_steps += group.best.next_steps
    ranked.next_steps = list(dict.fromkeys(ranked.next_steps))[:12]
    return ranked


def _key(item: Found) -> tuple[object, ...]:
    if item.cause_class in ONE_FOR_ALL and item.subject:
        return item.cause_class, item.object.namespace, item.subject
    return item.cause_class, item.object, item.subject


def _without_symptoms(found: list[tuple[str, Found]]) -> list[tuple[str, Found]]:
    classes: dict[ObjectRef, dict[CauseClass, list[Found]]] = defaultdict(lambda: defaultdict(list))
    for _, item in found:
        classes[bare(item.object)][item.cause_class].append(item)
    return [
        (name, item)
        for name, item in found
        if not any(
            _explains(other, item)
            for cause, others in classes[bare(item.object)].items()
            if item.cause_class in explained_by(cause) or cause is CauseClass.STATEFUL_SET_BLOCKED
            for other in others
        )
    ]


def _explains(other: Found, item: Found) -> bool:
    if item.facts.get("template_corrected") is True:
        return False
    if other.facts.get("template_corrected") is True and other.facts.get("pod") == item.place:
        return True  # what ails a pod of a template that is corrected already needs no other repair
    if other is item or item.cause_class not in explained_by(other.cause_class):
        return False
    if item.place is None or other.place is None:  # about the template, so about every pod of it
        return item.object.container in (None, other.object.container) or other.object.container is None
    return item.place == other.place and item.object.container in (None, other.object.container)


def _roots(groups: list[_Group]) -> dict[_Group, _Group]:
    """For each group that is only a consequence, the group that it follows from directly."""
    by_object: dict[ObjectRef, list[_Group]] = defaultdict(list)
    explaining: dict[ObjectRef, list[_Group]] = defaultdict(list)
    for group in groups:
        if group.cause_class is CauseClass.UNKNOWN:
            continue
        for ref in group.objects:
            by_object[ref].append(group)
        for ref in dict.fromkeys(bare(ref) for _, item in group.found for ref in item.explains):
            explaining[ref].append(group)
    direct = {}
    for group in groups:
        own = group.objects[0]
        candidates = [root for _, item in group.found for ref in item.leads_to for root in by_object.get(bare(ref), [])]
        candidates += [
            root
            for root in explaining.get(own, [])
            if group.cause_class in WEAK or group.cause_class in explained_by(root.cause_class)
        ]
        candidates = [root for root in candidates if root is not group and root.objects[0] != own]
        if candidates:
            direct[group] = min(candidates, key=_strength)
    return direct


def _strength(group: _Group) -> tuple[bool, float, str, str]:
    return group.cause_class in WEAK, -group.best.confidence, str(group.best.object), group.cause_class.value


def _absorb(groups: list[_Group], direct: dict[_Group, _Group]) -> set[_Group]:
    """Give each consequence to the root at the end of its chain; the consequences."""
    absorbed = set()
    for group in groups:
        path = [group]
        while (following := direct.get(path[-1])) is not None and following not in path:
            path.append(following)
        # where they depend on each other, one of them stands for all
        root = path[-1] if following is None else min(path[path.index(following) :], key=_strength)
        if root is not group:
            root.victims.append(group)
            absorbed.add(group)
    return absorbed


def _chains(
    groups: list[_Group],
    links: list[tuple[ObjectRef, ObjectRef]],
    trouble: Sequence[Trouble],
    mentions: Mentions,
) -> Chains:
    said: dict[ObjectRef, Claim] = {}
    for item in trouble:
        said.setdefault(bare(item.object), item.claim)
    for group in groups:
        for _, one in group.found:
            if one.claims:
                said.setdefault(bare(one.object), one.claims[0])
            links += [(bare(ref), bare(one.object)) for ref in one.explains]
    links += [(item.object, ref) for item in trouble for ref in item.because]
    links += mentions.links
    for ref, claim in mentions.near.items():
        if claim is not None:
            said.setdefault(ref, claim)
    return Chains(links, said)


def _chained(cause: Cause, group: _Group, chains: Chains, mentions: Mentions, ranked: Ranked) -> Cause:
    """The cause with its way from the symptom, each sentence of which is a finding with its evidence."""
    ids, chain = list(cause.finding_ids), []
    for ref, claim in chains.claims(group.objects[0], mentions.refs):
        if claim.text == group.best.summary:
            continue
        finding = claim.finding("health", ref)
        if finding.claim not in {ranked.findings[known].claim for known in ids}:
            ranked.findings[finding.id] = finding
            ranked.evidence.update({evidence.id: evidence for evidence in claim.evidence})
            ids.append(finding.id)
        chain.append(claim.text)
    return cause.model_copy(update={"chain": [*chain, group.best.summary], "finding_ids": list(dict.fromkeys(ids))})


def _is_about(group: _Group, mentions: Mentions) -> bool:
    """Whether a cause concerns what the caller named."""
    if not mentions.near:
        return False
    if any(ref in mentions.near for ref in (*group.objects, *group.others)):
        return True
    return bool(group.best.subject) and group.best.subject.lower() in mentions.words


def _cause(group: _Group, snapshot: Snapshot, ranked: Ranked) -> Cause:
    best = group.best
    ids: list[str] = []

    def cite(name: str, item: Found, claims: list[Claim]) -> None:
        for claim in claims:
            finding = claim.finding(name, item.object)
            ranked.findings[finding.id] = finding
            ranked.evidence.update({evidence.id: evidence for evidence in claim.evidence})
            ids.append(finding.id)

    for name, item in group.found[:_PLACES_CITED]:
        cite(name, item, item.claims)
    for victim in group.victims[:_VICTIMS_CITED]:
        cite(victim.found[0][0], victim.best, victim.best.claims[:2])
    facts: dict[str, Fact] = dict(best.facts)
    places = sorted({item.place for _, item in group.found if item.place})
    if places:
        facts |= {"pods": places[:_PLACES_NAMED], "pod_count": len(places)}
    others = group.others
    if others:
        facts |= {"explains": [str(ref) for ref in others[:_VICTIMS_NAMED]], "explained_count": len(others)}
    facts |= revision_facts(snapshot, best.object)
    facts |= _helm(snapshot, best.object)
    more = f" (seen in {len(places)} pods)" if len(places) > 1 else ""
    return Cause(
        cause_class=best.cause_class,
        object=best.object,
        confidence=best.confidence,
        summary=_and_so(best.summary + more, others),
        finding_ids=list(dict.fromkeys(ids)),
        facts=facts,
    )


def _and_so(summary: str, others: list[ObjectRef]) -> str:
    if not others:
        return summary
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return f"{summary.rstrip('. ')}; it is the root cause of what fails in {others[0]}{more}."


def _helm(snapshot: Snapshot, ref: ObjectRef) -> dict[str, Fact]:
    """Helm writes its release into annotations of every object that it owns."""
    item = snapshot.get(ref.kind, ref.namespace, ref.name)
    release = text(item, "metadata", "annotations", "meta.helm.sh/release-name")
    if not release or text(item, "metadata", "labels", "app.kubernetes.io/managed-by") != "Helm":
        return {}
    namespace = text(item, "metadata", "annotations", "meta.helm.sh/release-namespace") or ref.namespace
    return {"helm_release": release, "helm_namespace": namespace}
