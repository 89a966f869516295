"""What the caller's own words mean: the objects that they name, and the kinds of trouble that they speak of.

Words only order and focus an answer; they are outside text and decide nothing. English and Chinese are read.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from diagnosis.workloads import consequences as groups
from diagnosis.workloads.contract import Claim
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import Object, text
from diagnosis.workloads.references import references_of
from diagnosis.workloads.routes import ROUTES, services_behind
from diagnosis.workloads.scope import selected_pods
from diagnosis.workloads.snapshot import WORKLOAD_KINDS, Snapshot, ref_of
from incidents.models import CauseClass, ObjectRef, Severity

_C = CauseClass
_READ = 4000  # characters of a symptom
_MENTIONED = 20
_EVENT_CHARS = 20  # a shorter text is a part of too many event messages

_NAMED_KINDS = (
    *WORKLOAD_KINDS, "Service", *ROUTES, "PersistentVolumeClaim", "Node", "HorizontalPodAutoscaler",
    "ConfigMap", "Secret", "Namespace", "ResourceQuota", "NetworkPolicy", "ServiceAccount", "PodDisruptionBudget",
)  # fmt: skip
_KIND_WORDS = {
    "Pod": "pods? 容器组 实例",
    "Service": "services? svc 服务",
    "Deployment": "deployments? deploy 部署 工作负载 应用",
    "StatefulSet": "statefulsets? sts 有状态",
    "DaemonSet": "daemonsets? ds 守护",
    "CronJob": "cronjobs? 定时任务",
    "Job": "jobs? 任务",
    "Ingress": "ingress(?:es)? 入口",
    "PersistentVolumeClaim": "pvcs? persistentvolumeclaims? claims? volumes? 存储卷 持久卷 卷",
    "Node": "nodes? 节点",
    "HorizontalPodAutoscaler": "hpas? horizontalpodautoscalers? autoscalers? 自动扩缩容 弹性伸缩",
    "ConfigMap": "configmaps? 配置",
    "Secret": "secrets? 密钥",
    "Namespace": "namespaces? ns 命名空间",
}
_KIND_HINTS = {
    kind: re.compile(
        "|".join(rf"(?<![a-z0-9-]){word}(?![a-z0-9-])" if word.isascii() else word for word in words.split())
    )
    for kind, words in _KIND_WORDS.items()
}
_TROUBLE_HINTS: tuple[tuple[str, set[CauseClass]], ...] = (
    (r"pending|unschedul|schedul|挂起|调度|排不上", groups.SCHEDULING | groups.VOLUMES | {_C.SCHEDULER_DOWN}),
    (r"imagepull|errimage|pull|image|镜像|拉取", {_C.BAD_IMAGE, _C.MISSING_PULL_SECRET, _C.REGISTRY_UNREACHABLE}),
    (
        r"unreachable|not reach|timed? ?out|refused|50[234]|no endpoints?|connect"
        r"|访问不|不通|连不上|无法访问|超时|连接",
        groups.SERVICE_PATH | {_C.SERVICE_WITHOUT_ENDPOINTS, _C.DEPENDENCY_UNAVAILABLE},
    ),
    (r"oom|out of memory|exit(?: code)? 137|内存", {_C.OOM_KILLED, _C.NODE_MEMORY_PRESSURE}),
    (
        r"crash|restart|segfault|core dump|崩溃|重启|闪退",
        {_C.NATIVE_CRASH, _C.OOM_KILLED, _C.APPLICATION_ERROR, *groups.PROBES},
    ),
    (r"no space|disk|磁盘|存储空间|写满", {_C.DISK_FULL, _C.NODE_DISK_PRESSURE}),
    (r"\bdns\b|resolve|no such host|解析|域名", {_C.CLUSTER_DNS_DOWN, _C.WRONG_DEPENDENCY_ADDRESS}),
    (r"probe|unhealthy|探针|健康检查", groups.PROBES),
    (r"quota|forbidden|exceeded|配额|限额", groups.ADMISSION),
    (r"volume|mount|pvc|挂载|存储卷", groups.VOLUMES | {_C.MOUNT_FAILED}),
    (r"rollout|deploy(?:ed|ing)|upgrade|release|发布|上线|升级", {_C.BAD_ROLLOUT, _C.BAD_CHANGE, _C.ROLLOUT_STUCK}),
    (
        r"password|authenticat|login|permission|denied|密码|认证|权限",
        {_C.WRONG_CREDENTIALS, _C.PERMISSION_DENIED, _C.RBAC_DENIED},
    ),
)  # fmt: skip
_HINTS = tuple((re.compile(pattern, re.IGNORECASE), classes) for pattern, classes in _TROUBLE_HINTS)
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,251}[a-z0-9])?")
_POD_SUFFIX = re.compile(r"^(?:[a-z0-9]{1,12}-)?[a-z0-9]{1,8}$")


@dataclass
class Mentions:
    """What a symptom names. `refs` are the objects; `near` those and what they lead to, each with the sentence of its
    first step; `links` are all steps; `classes` the kinds of trouble that it speaks of; `words` its words."""

    refs: list[ObjectRef] = field(default_factory=list)
    near: dict[ObjectRef, Claim | None] = field(default_factory=dict)
    links: list[tuple[ObjectRef, ObjectRef]] = field(default_factory=list)
    classes: set[CauseClass] = field(default_factory=set)
    words: set[str] = field(default_factory=set)


def read_symptom(symptom: str, snapshot: Snapshot, namespace: str | None, target: ObjectRef | None = None) -> Mentions:
    """What `symptom` names among the objects of a namespace (of all, with None); a target counts as named."""
    found = Mentions()
    if target is not None:
        found.refs.append(target.model_copy(update={"container": None}))
    lowered = symptom[:_READ].lower()
    if lowered.strip():
        found.classes = {cause for pattern, classes in _HINTS if pattern.search(lowered) for cause in classes}
        found.words = set(_NAME.findall(lowered))
        found.refs += [*_named(lowered, found.words, snapshot, namespace), *_of_event(symptom[:_READ], snapshot)]
    found.refs = list(dict.fromkeys(found.refs))[:_MENTIONED]
    for ref in found.refs:
        found.near.setdefault(ref, None)
        _follow(ref, snapshot, found)
    return found


def _named(lowered: str, words: set[str], snapshot: Snapshot, namespace: str | None) -> Iterator[ObjectRef]:
    hinted = {kind for kind, pattern in _KIND_HINTS.items() if pattern.search(lowered)}
    wanted: dict[str, None] = {}
    for word in sorted(words, key=lowered.find):
        if len(word) > 1 and not any(pattern.fullmatch(word) for pattern in _KIND_HINTS.values()):
            wanted |= {word: None, word.split(".", 1)[0]: None}
    by_name: dict[str, list[ObjectRef]] = defaultdict(list)
    workloads: list[ObjectRef] = []
    for kind in _NAMED_KINDS:
        cluster_wide = kind in ("Node", "Namespace")
        for item in snapshot.all(kind, None if cluster_wide else namespace):
            name = text(item, "metadata", "name")
            if name in wanted:
                by_name[name].append(ref_of(item))
            if kind in WORKLOAD_KINDS and kind != "Pod":
                workloads.append(ref_of(item))
    for word in wanted:
        refs = by_name.get(word) or _gone_pod(word, workloads)
        yield from [ref for ref in refs if ref.kind in hinted] or refs


def _gone_pod(word: str, workloads: Iterable[ObjectRef]) -> list[ObjectRef]:
    """The workload of a pod that is no longer there, by its name's beginning: the longest that fits."""
    fitting = [
        ref for ref in workloads if word.startswith(f"{ref.name}-") and _POD_SUFFIX.match(word[len(ref.name) + 1 :])
    ]
    longest = max((len(ref.name) for ref in fitting), default=0)
    return [ref for ref in fitting if len(ref.name) == longest]


def _of_event(symptom: str, snapshot: Snapshot) -> Iterator[ObjectRef]:
    """The objects of events whose message the symptom is, or holds."""
    words = " ".join(symptom.split())
    if len(words) < _EVENT_CHARS:
        return
    for event in snapshot.events():
        said = " ".join(event.message.split())
        if said and ((len(said) >= _EVENT_CHARS and said[:300] in words) or words in said):
            yield ObjectRef(kind=event.kind or "Pod", namespace=event.namespace or None, name=event.name)


def _follow(ref: ObjectRef, snapshot: Snapshot, found: Mentions, depth: int = 0) -> None:
    """What an object leads to: an Ingress to its Services, a Service to the workloads of its pods, a pod to its own."""
    item = snapshot.get(ref.kind, ref.namespace, ref.name)
    if item is None or depth > 4:
        return
    for other, pointer, sentence in _led_to(item, snapshot):
        if other == ref:
            continue
        found.links.append((ref, other))
        if found.near.get(ref) is None:
            evidence = of_object(item, pointer, snapshot.observed_at)
            found.near[ref] = Claim(sentence, [evidence], Severity.INFO)
        if other not in found.near:
            found.near[other] = None
            _follow(other, snapshot, found, depth + 1)


def _led_to(item: Object, snapshot: Snapshot) -> Iterator[tuple[ObjectRef, str, str]]:
    kind, namespace, name = text(item, "kind"), text(item, "metadata", "namespace"), text(item, "metadata", "name")
    if kind in ROUTES:
        for place, service in services_behind(item, snapshot.all("HTTPRoute")):
            other = ObjectRef(kind="Service", namespace=place, name=service)
            yield other, "/spec", f"{kind} {name} sends its requests to Service {service}"
    elif kind == "Service":
        for other in dict.fromkeys(snapshot.workload_of(pod) for pod in selected_pods(snapshot, item)):
            yield other, "/spec/selector", f"Service {name} sends its requests to the pods of {other.kind} {other.name}"
    elif kind in WORKLOAD_KINDS:
        other = snapshot.workload_of(item)
        yield other, "/metadata/ownerReferences", f"{kind} {name} belongs to {other.kind} {other.name}"
    elif kind == "HorizontalPodAutoscaler":
        scaled, target = text(item, "spec", "scaleTargetRef", "kind"), text(item, "spec", "scaleTargetRef", "name")
        other = ObjectRef(kind=scaled or "Deployment", namespace=namespace, name=target)
        yield other, "/spec/scaleTargetRef", f"HorizontalPodAutoscaler {name} scales {scaled} {target}"
    elif kind in ("ConfigMap", "Secret", "PersistentVolumeClaim"):
        for pod in snapshot.all("Pod", namespace):
            if any((reference.kind, reference.name) == (kind, name) for reference in references_of(pod)):
                other = snapshot.workload_of(pod)
                yield other, "/metadata/name", f"{kind} {name} is used by {other.kind} {other.name}"
