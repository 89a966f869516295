"""What a sentence is about: incidents, workloads, namespaces, evidence and cores that a text names.

Only what is on record or was observed can be meant, so no text can make something up. English and Chinese.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from errors import InvalidInput
from incidents.models import Incident, ObjectRef

KINDS = {
    "deployment": "Deployment",
    "statefulset": "StatefulSet",
    "daemonset": "DaemonSet",
    "job": "Job",
    "pod": "Pod",
}
_SHORT = {"deploy": "deployment", "sts": "statefulset", "ds": "daemonset", "po": "pod"}
_CHINESE = {"部署": "deployment", "有状态集": "statefulset", "守护进程集": "daemonset", "任务": "job", "容器组": "pod"}
_NAME = r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?"
_KIND_WORD = "|".join(
    [
        *(f"{word}s?" for word in sorted([*KINDS, *_SHORT], key=len, reverse=True)),
        *sorted(_CHINESE, key=len, reverse=True),
    ]
)
# "deployment shop/api", "deploy/api", "StatefulSet db", "部署 shop/api", "部署shop/api"
_EXPLICIT = re.compile(
    rf"(?<![\w-])({_KIND_WORD})(\s*/\s*|\s+|(?<=[\u4e00-\u9fff]))(?:({_NAME})/)?({_NAME})(?![\w/-])", re.IGNORECASE
)
_PAIR = re.compile(rf"(?<![\w/.-])({_NAME})/({_NAME})(?![\w/-])", re.IGNORECASE)
_NAMESPACES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?:\bnamespace[\s:=]+|(?<!\w)-n\s+|--namespace[\s=]+|\bns[\s:=/]+|命名空间\s*)({_NAME})",
        rf"(?<![\w-])({_NAME})(?:\s+namespace\b|\s*命名空间)",
    )
)
_INCIDENT = re.compile(r"\binc_[0-9a-f]{4,32}(?![0-9a-z])")
_EVIDENCE = re.compile(r"\bev_[0-9a-f]{6,16}(?![0-9a-z])")
_APPROVAL = re.compile(r"\bap[a-z]{0,4}_[0-9a-f]{4,32}(?![0-9a-z])")
_UPLOAD = re.compile(r"\bupl_[0-9a-f]{32}(?![0-9a-z])")
_WORD = re.compile(rf"(?<![\w./-]){_NAME}(?![\w/-])", re.IGNORECASE)
_STOP = frozenset(
    re.findall(
        r"\S+",
        "a an the in of on for is it its that this what why where when who how which was did do does you your with and "
        "or to at by be are there my our me i s namespace crash crashed crashing failing failed failure broken "
        "incident pod pods job deployment run running code evidence status happened",
    )
)
"""Words that are also legal object names; alone they name nothing."""
_MAX_TEXT = 8000


@dataclass(frozen=True)
class Mentions:
    """What was named. `workloads` and `incidents` hold candidates: one each when it is clear."""

    incidents: list[Incident] = field(default_factory=list)
    workloads: list[ObjectRef] = field(default_factory=list)
    unknown: str | None = None
    """A workload, incident or namespace that was named clearly but is not known."""
    namespace: str | None = None
    evidence_ids: list[str] = field(default_factory=list)
    approval_ids: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)

    @property
    def named_something(self) -> bool:
        return bool(self.incidents or self.workloads or self.unknown)


def workload_named(text: str, namespace: str) -> ObjectRef:
    """The workload of "Kind/name", "kind/name" or kubectl's short kinds. Raises InvalidInput."""
    kind_word, slash, name = text.partition("/")
    word = kind_word.strip().lower()
    kind = KINDS.get(_SHORT.get(word, word))
    if not slash or kind is None:
        raise InvalidInput(f"must be Kind/name, where Kind is one of {', '.join(KINDS.values())}")
    if not re.fullmatch(_NAME, name):
        raise InvalidInput("the name after the slash is not a Kubernetes object name")
    return ObjectRef(kind=kind, namespace=namespace, name=name)


def find_mentions(text: str, *, incidents: Sequence[Incident], workloads: Iterable[ObjectRef]) -> Mentions:
    """Match `text` against incidents on record (newest first) and workloads observed in the cluster."""
    text = text[:_MAX_TEXT]
    observed = list(dict.fromkeys(workloads))
    spaces = {ref.namespace for ref in observed} | {incident.target.namespace for incident in incidents}
    namespace = _namespace(text, spaces)
    found_incidents, unknown = _incidents(text, incidents)
    refs, unknown_ref = _workloads(text, observed, incidents, namespace)
    return Mentions(
        incidents=found_incidents,
        workloads=refs,
        unknown=unknown or unknown_ref,
        namespace=namespace,
        evidence_ids=list(dict.fromkeys(_EVIDENCE.findall(text))),
        approval_ids=list(dict.fromkeys(_APPROVAL.findall(text))),
        uploads=list(dict.fromkeys(_UPLOAD.findall(text))),
    )


def about(incidents: Sequence[Incident], ref: ObjectRef) -> list[Incident]:
    """The incidents about this object, newest first."""
    return [item for item in incidents if _same(item.target, ref)]


def _same(target: ObjectRef, ref: ObjectRef) -> bool:
    return (target.kind, target.namespace, target.name) == (ref.kind, ref.namespace, ref.name)


def _incidents(text: str, incidents: Sequence[Incident]) -> tuple[list[Incident], str | None]:
    found: list[Incident] = []
    for prefix in dict.fromkeys(_INCIDENT.findall(text)):
        matches = [item for item in incidents if item.id.startswith(prefix)]
        if not matches:
            return [], prefix
        found.extend(item for item in matches if item not in found)
    return found, None


def _namespace(text: str, spaces: set[str | None]) -> str | None:
    """Said as "namespace shop" or "the shop namespace"; only one that is known can be meant."""
    names = (str(name).lower() for pattern in _NAMESPACES for name in pattern.findall(text))
    return next((name for name in names if name in spaces), None)


def _workloads(
    text: str, observed: list[ObjectRef], incidents: Sequence[Incident], namespace: str | None
) -> tuple[list[ObjectRef], str | None]:
    targets = [item.target.model_copy(update={"container": None}) for item in incidents]
    known = list(dict.fromkeys([*observed, *targets]))
    named: list[ObjectRef] = []
    for word, separator, space, name in _EXPLICIT.findall(text):
        kind, wanted = _kind(word), space.lower() or namespace
        hits = [ref for ref in known if (ref.kind, ref.name) == (kind, name.lower())]
        hits = [ref for ref in hits if wanted in (None, ref.namespace)]
        if not hits and (space or "/" in separator):  # clearly a name; "deployment is broken" is not
            return [], f"{kind} {f'{wanted}/' if wanted else ''}{name.lower()}"
        named.extend(hits)
    if named:
        return list(dict.fromkeys(named)), None
    for space, name in _PAIR.findall(text):
        hits = [ref for ref in known if (ref.namespace, ref.name) == (space.lower(), name.lower())]
        named.extend(hits)
    if named:
        return list(dict.fromkeys(named)), None
    words = {word.lower() for word in _WORD.findall(text)} - _STOP
    # programs are named as their files are: server-v2.1, a.out, Capitals
    exact = set(re.findall(r"[^\s,;:?!\"'`，。？！；：、「」]+", text))
    for ref in known:
        by_name = ref.name in words or (ref.kind == "Process" and ref.name in exact)
        if by_name and namespace in (None, ref.namespace):
            named.append(ref)
    return list(dict.fromkeys(named)), None


def _kind(word: str) -> str:
    low = word.lower()
    for candidate in (low, low.removesuffix("s")):
        base = _CHINESE.get(candidate) or _SHORT.get(candidate) or candidate
        if base in KINDS:
            return KINDS[base]
    raise AssertionError(word)  # the pattern matches nothing else
