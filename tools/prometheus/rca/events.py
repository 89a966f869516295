"""What measurements say happened meanwhile: restarts and their reason, rollouts, new pods, targets that went silent."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from diagnosis.metrics.series import plain
from incidents.models import Evidence, EvidenceKind, Moment, MomentKind, ObjectRef
from tools.prometheus.client import Prometheus
from tools.prometheus.rca.catalogue import CONTAINER, PROGRAM, Matcher
from tools.prometheus.rca.discover import Found, times_of, vector
from tools.prometheus.rca.windows import Windows, written
from tools.prometheus.selectors import quoted, selector

MAX_MOMENTS = 200
_MAX_ROWS = 100


async def happened(
    server: Prometheus, namespace: str | None, spans: Windows, found: Found
) -> tuple[list[Moment], list[Evidence]]:
    """Moments in the order of time and the evidence that they cite. Raises ToolFailed."""
    asking = _Asking(server, namespace, spans, found)
    await asking.restarts()
    await asking.rollouts()
    await asking.starts()
    await asking.silences()
    # changes before what merely happened, and of each the newest: what precedes an onset is what is looked for
    told = sorted(asking.moments, key=lambda item: (item.kind is MomentKind.ROLLOUT, item.at, item.text))
    if len(told) > MAX_MOMENTS:
        found.unseen.append(f"{len(told) - MAX_MOMENTS} older events of {len(told)} are not among those compared")
    moments = sorted(told[-MAX_MOMENTS:], key=lambda item: (item.at, item.text))
    cited = {evidence_id for moment in moments for evidence_id in moment.evidence_ids}
    return moments, [item for item in asking.evidence.values() if item.id in cited]


class _Asking:
    def __init__(self, server: Prometheus, namespace: str | None, spans: Windows, found: Found) -> None:
        self.moments: list[Moment] = []
        self.evidence: dict[str, Evidence] = {}
        self._server, self._spans, self._found = server, spans, found
        self._scope: list[Matcher] = [("namespace", "=", quoted(namespace))] if namespace else []
        self._length = written(spans.length.total_seconds())

    async def restarts(self) -> None:
        """Of containers, with the reason that the kubelet gave for the last end."""
        metric = "kube_pod_container_status_restarts_total"
        query = f"max by ({', '.join(CONTAINER)}) (changes({self._at(metric)}[{self._two(metric)}])) > 0"
        rows = await self._times(query)
        if not rows:
            return
        reasons = {}
        told = "kube_pod_container_status_last_terminated_reason"
        for labels, _ in await self._now(f"max by ({', '.join(CONTAINER)}, reason) ({self._at(told)}) == 1"):
            reasons[tuple(labels.get(key, "") for key in CONTAINER)] = labels.get("reason", "")
        for labels, times in rows:
            reason = reasons.get(tuple(labels.get(key, "") for key in CONTAINER), "")
            why = f", last ended with {reason}" if reason else ""
            for at in times:
                text = f"Container {labels.get('container', '')} of pod {labels.get('pod', '')} restarted{why}"
                self._add(at, MomentKind.RESTART, _pod(labels), text, query)

    async def rollouts(self) -> None:
        """A Deployment's generation changes with its specification; a new ReplicaSet is a new pod template."""
        metric = "kube_deployment_metadata_generation"
        query = f"max by (namespace, deployment) (changes({self._at(metric)}[{self._two(metric)}])) > 0"
        for labels, times in await self._times(query):
            ref = ObjectRef(kind="Deployment", namespace=labels.get("namespace"), name=labels.get("deployment", ""))
            for at in times:
                self._add(at, MomentKind.ROLLOUT, ref, f"Deployment {ref.name} was changed", query)
        query = f"max by (namespace, replicaset) ({self._lasting('kube_replicaset_created')})"
        for labels, at in await self._since(query):
            ref = ObjectRef(kind="ReplicaSet", namespace=labels.get("namespace"), name=labels.get("replicaset", ""))
            name = ref.name.rpartition("-")[0] or ref.name
            owner = ObjectRef(kind="Deployment", namespace=ref.namespace, name=name)
            self._add(at, MomentKind.ROLLOUT, owner, f"ReplicaSet {ref.name} was created: a new pod template", query)

    async def starts(self) -> None:
        """Pods that were made, and processes that began."""
        query = f"max by (namespace, pod) ({self._lasting('kube_pod_created')})"
        for labels, at in await self._since(query):
            self._add(at, MomentKind.EVENT, _pod(labels), f"Pod {labels.get('pod', '')} was created", query)
        query = f"max by ({', '.join(PROGRAM)}) ({self._lasting('process_start_time_seconds')})"
        for labels, at in await self._since(query):
            text = f"The process of {_target(labels)} started"
            self._add(at, MomentKind.RESTART, _pod(labels), text, query)

    async def silences(self) -> None:
        """Targets that could not be scraped. Of each run of failures the first."""
        query = f"max by ({', '.join(PROGRAM)}) ({self._at('up')}) == 0"
        for labels, times in await self._times(query):
            for at in times:
                self._add(at, MomentKind.EVENT, _pod(labels), f"{_target(labels)} could not be scraped", query)

    def _at(self, metric: str) -> str:
        return selector(metric, *self._scope)

    def _lasting(self, metric: str) -> str:
        return f"last_over_time({self._at(metric)}[{self._length}])"

    def _two(self, metric: str) -> str:
        """The range that holds two samples, and is no shorter than the step."""
        return written(max(2.2 * self._found.interval(metric), self._spans.step.total_seconds()))

    async def _now(self, query: str) -> list[tuple[dict[str, str], float]]:
        return vector(await self._server.instant(query, self._spans.end))

    async def _since(self, query: str) -> list[tuple[dict[str, str], datetime]]:
        """Results whose value is a time (seconds since 1970) within the range."""
        first, last = self._spans.first.timestamp(), self._spans.end.timestamp()
        rows = await self._now(f"topk({_MAX_ROWS}, ({query}) >= {first:.0f} <= {last:.0f})")
        return [(labels, datetime.fromtimestamp(value, UTC)) for labels, value in rows if first <= value <= last]

    async def _times(self, query: str) -> list[tuple[dict[str, str], list[datetime]]]:
        """When the condition began to hold, each time. Only what it holds for is sent by the server."""
        spans = self._spans
        step = written(spans.step.total_seconds())
        counted = await self._now(f"count(count_over_time(({query})[{self._length}:{step}]))")
        if not counted:
            return []
        if counted[0][1] > _MAX_ROWS:
            self._found.unseen.append(f"{counted[0][1]:.0f} series have events of one kind; {_MAX_ROWS} are told")
            query = f"topk({_MAX_ROWS}, {query})"
        answer = await self._server.range(query, spans.first, spans.end, spans.step)
        found = []
        first, last = spans.first.timestamp(), spans.end.timestamp()
        for result in answer["data"]["result"]:
            times = [at for at in times_of(result) if first - 1 <= at <= last + 1]  # sent in milliseconds
            gap = spans.step.total_seconds() * 1.5
            begins = [
                datetime.fromtimestamp(at, UTC)
                for index, at in enumerate(times)
                if index == 0 or at - times[index - 1] > gap
            ]
            found.append(({str(key): str(text) for key, text in result["metric"].items()}, begins[-10:]))
        return found

    def _add(self, at: datetime, kind: MomentKind, about: ObjectRef | None, text: str, query: str) -> None:
        said = plain(text)
        shown = f"{at:%Y-%m-%dT%H:%M:%SZ} {said}"
        evidence = Evidence.of(EvidenceKind.METRIC, f"Prometheus query {query}"[:1500], shown, self._spans.end)
        self.evidence[evidence.id] = evidence
        self.moments.append(Moment(at=at, kind=kind, object=about, text=said, evidence_ids=[evidence.id]))


def _target(labels: dict[str, str]) -> str:
    return _first(labels, ("pod", "deployment", "workload", "service", "app", "job", "instance")) or "a target"


def _pod(labels: dict[str, str]) -> ObjectRef | None:
    """What it happened to: the pod, else what the scrape's labels call it."""
    namespace = labels.get("namespace") or None
    if labels.get("pod"):
        return ObjectRef(kind="Pod", namespace=namespace, name=labels["pod"])
    name = _first(labels, ("deployment", "workload", "service", "app", "job"))
    return ObjectRef(kind="Workload", namespace=namespace, name=name.rpartition("/")[2]) if name else None


def _first(labels: dict[str, str], keys: Iterable[str]) -> str:
    return next((labels[key] for key in keys if labels.get(key)), "")
