"""Everything that an analysis needs of a Prometheus, fetched within bounds, and sentences about what was not.

A family of series is counted before it is fetched. One that has too many is averaged to workloads by the server; what
is still too much is left out and said. A server that is slow is asked no more after some queries got no answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from diagnosis.metrics.edges import Edge
from diagnosis.metrics.prometheus_json import read_document
from diagnosis.metrics.series import FloatArray, Kind, MetricSeries
from diagnosis.metrics.subject import Owners, subject_of
from diagnosis.metrics.topology import beside_nodes
from errors import InvalidInput, ToolFailed, ToolTimeout
from incidents.models import Evidence, Moment, ObjectRef
from tools.prometheus.client import Prometheus
from tools.prometheus.rca.asked import Given, understood
from tools.prometheus.rca.catalogue import (
    FIXED,
    FORMS,
    NO_KINDS,
    NODE,
    OF_HISTOGRAMS,
    PROGRAM,
    TRACES,
    Wanted,
    names_of,
    of_program,
)
from tools.prometheus.rca.discover import Found, discover, probe, vector
from tools.prometheus.rca.edges import calls
from tools.prometheus.rca.events import happened
from tools.prometheus.rca.kinds import kinds_of, told_kinds
from tools.prometheus.rca.nodes import Nodes, host, nodes_of
from tools.prometheus.rca.owners import owners_of
from tools.prometheus.rca.windows import Windows, windows, written
from tools.prometheus.selectors import quoted

MAX_FAMILY = 500
"""Series of one family (https://prometheus.io/docs/practices/instrumentation/: hundreds, not thousands)."""
MAX_COUNTED = 50_000
"""Series under one aggregation; the server needs all their samples in memory."""
_MAX_PROGRAM_FAMILIES = 60
_CONCURRENT = 4
_COUNT_FROM = 100
_MAX_TIMEOUTS = 3
_AROUND = 4
"""Questions about what is beside the series: `_Work.around`."""
_UNNAMED = "result"
_PLACES = ("source_workload_namespace", "destination_workload_namespace")
_POD = r"(.+?)(?:-[bcdf-hj-np-tv-xz2-9]{6,10})?-(?:[bcdf-hj-np-tv-xz2-9]{5}|[0-9]{1,4})"

Progress = Callable[[str], None]


@dataclass
class Gathered:
    """`cut` counts series that were left out because there were too many."""

    windows: Windows
    series: list[MetricSeries] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    owners: dict[tuple[str, str], ObjectRef] = field(default_factory=dict)
    nodes: Nodes = field(default_factory=Nodes)
    moments: list[Moment] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    cut: int = 0
    unseen: list[str] = field(default_factory=list)


async def gather(
    server: Prometheus,
    start: datetime,
    end: datetime,
    *,
    namespace: str | None = None,
    metrics: list[str] | None = None,
    max_series: int = 5_000,
    progress: Progress = lambda _: None,
) -> Gathered:
    """The series of a range that `windows.checked` gave, with a baseline before it.

    `metrics` are names or PromQL; by default what the server has of the catalogue and of programs. Raises InvalidInput
    for a query that cannot be used and when there is no series at all, ToolFailed when the server does not answer.
    """
    progress("asking Prometheus what it has")
    found, wanted, given = await _chosen(server, start, end, namespace, metrics)
    spans = windows(start, end, found.usual)
    work = _Work(server, spans, namespace, found, progress)
    work.out.unseen += found.unseen
    families = len(wanted) + len(given)
    work.questions = families + _AROUND
    progress(
        f"fetching {families} families of series from {spans.first:%Y-%m-%d %H:%M} by {spans.step.total_seconds():g} s"
    )
    await asyncio.gather(*(work.family(one) for one in wanted), *(work.query(one) for one in given), work.around())
    out = work.out
    out.series = out.nodes.named(out.series, None if metrics else namespace)
    out.series = placed(out.series, out.owners, None if metrics else namespace)
    out.edges += beside_nodes(out.nodes.of_pod, out.owners)
    out.series += joined(out.series, out.owners)
    if not out.series:
        if work.timeouts:
            raise ToolTimeout("Prometheus answered no query in time; ask for a shorter range or fewer metrics")
        where = f" of namespace {namespace}" if namespace else ""
        why = f": {'; '.join(dict.fromkeys(out.unseen))}"[:1000] if out.unseen else ""
        raise InvalidInput(
            f"Prometheus has no series{where} between {start.isoformat()} and {end.isoformat()} to look at{why}"
        )
    if len(out.series) > max_series:
        out.cut += len(out.series) - max_series
        out.unseen.append(f"only the first {max_series} of {len(out.series)} series were looked at")
        del out.series[max_series:]
    return out


def placed(series: list[MetricSeries], owners: Owners, namespace: str | None) -> list[MetricSeries]:
    """The series, those of traces' calls with namespaces: traces know names alone. A name that several namespaces have
    stays as it is. For one namespace, only calls to its workloads are kept, and nodes only beside workloads."""
    known: dict[str, set[str]] = {}
    for one in series:
        subject = subject_of(one.labels, owners)
        if subject.namespace and not subject.callee and (name := subject.workload or subject.service):
            known.setdefault(name, set()).add(subject.namespace)

    kept = []
    for one in series:
        bare = not any(key.endswith("namespace") for key in one.labels)
        traced = bare and all(one.labels.get(label) for label in TRACES)
        if namespace and ((traced and one.labels["server"] not in known) or (bare and not known)):
            continue
        more = {}
        for label, place in zip(TRACES, _PLACES, strict=True):
            spaces = known.get(one.labels.get(label, ""), set())
            if traced and len(spaces) == 1:
                more[place] = next(iter(spaces))
        kept.append(replace(one, labels={**one.labels, **more}) if more else one)
    return kept


def joined(series: list[MetricSeries], owners: Owners) -> list[MetricSeries]:
    """The mean over its pods of each workload whose pods came or went meanwhile: a new pod has no past to be compared
    with, its workload has. All series are of one grid of times."""
    groups: dict[tuple[str, str, str, str], list[MetricSeries]] = {}
    for one in series:
        subject = subject_of(one.labels, owners)
        if subject.pod and subject.workload and not subject.callee:
            groups.setdefault((one.name, subject.namespace, subject.workload, subject.container), []).append(one)
    found = []
    for (_, namespace, workload, container), pods in groups.items():
        first, last = min(one.times[0] for one in pods), max(one.times[-1] for one in pods)
        if all(one.times[0] == first and one.times[-1] == last for one in pods):
            continue
        times, places = np.unique(np.concatenate([one.times for one in pods]), return_inverse=True)
        values = np.concatenate([one.values for one in pods])
        known = ~np.isnan(values)
        counts = np.bincount(places[known], minlength=len(times))
        sums = np.bincount(places[known], weights=values[known], minlength=len(times))
        mean = np.divide(sums, counts, out=np.full(len(times), np.nan), where=counts > 0)
        labels = {"namespace": namespace, "workload": workload, "container": container}
        kept = {key: value for key, value in labels.items() if value}
        found.append(replace(pods[0], labels=kept, times=times, values=mean))
    return found


async def _chosen(
    server: Prometheus, start: datetime, end: datetime, namespace: str | None, metrics: list[str] | None
) -> tuple[Found, list[Wanted], list[Given]]:
    """What to ask for, and what the server has of it."""
    if metrics:
        wanted, given, missing = await understood(server, metrics, namespace, end, MAX_FAMILY)
        found = await discover(server, _scoped(wanted, namespace) or ["up"], [end])
        found.unseen += missing
    else:
        times = [start, start + (end - start) / 2, end]
        found = await discover(server, selectors(namespace), times)
        have = set(found.metrics())
        own = [metric for metric in sorted(have) if of_program(metric, have)]
        kinds = await kinds_of(server, [metric for metric in own if not metric.endswith(OF_HISTOGRAMS)], end)
        programs = [one for metric in own for one in of_program(metric, have, kinds)]
        apart = await by_container(server, namespace, times)
        fixed = [one if one.metric in apart or not one.of_containers else one.of_pods() for one in FIXED]
        wanted, given = [one for one in fixed if one.metric in have] + programs[:_MAX_PROGRAM_FAMILIES], []
        if len(programs) > _MAX_PROGRAM_FAMILIES:
            left = len(programs) - _MAX_PROGRAM_FAMILIES
            found.unseen.append(f"{left} more families of programs' metrics were not looked at; name those that matter")
    await probe(server, found, end)
    return found, wanted, given


async def by_container(server: Prometheus, namespace: str | None, times: list[datetime]) -> set[str]:
    """The metrics of containers that the server has of each container, and not of whole pods alone."""
    some = tuple(one for one in FIXED if one.of_containers)
    chosen = [f"{{__name__=~{names_of(some)},container!~{quoted('|POD')}{_at(namespace, 'namespace')}}}"]
    return set((await discover(server, chosen, times)).metrics())


def selectors(namespace: str | None) -> list[str]:
    """What is counted: the namespace's own series, and those that carry no namespace or another label for it."""
    return _scoped(FIXED, namespace, FORMS)


def _scoped(family: Iterable[Wanted], namespace: str | None, forms: str = "") -> list[str]:
    """One selector for each label that tells the namespace; `forms` are further names, of a program's own metrics."""
    by_label: dict[str, list[Wanted]] = {}
    for wanted in family:
        by_label.setdefault(wanted.inside, []).append(wanted)
    chosen = []
    for label, wanted_there in by_label.items():
        form = forms if label == "namespace" else ""
        chosen.append(f"{{__name__=~{names_of(tuple(wanted_there), form)}{_at(namespace, label)}}}")
    return chosen


def _at(namespace: str | None, label: str) -> str:
    return f",{label}={quoted(namespace)}" if namespace and label else ""


class _Work:
    """One gathering under way."""

    def __init__(
        self, server: Prometheus, spans: Windows, namespace: str | None, found: Found, progress: Progress
    ) -> None:
        self.out = Gathered(spans)
        self.timeouts = 0
        self.questions = 0
        """So many will be asked; `progress` counts them."""
        self._begun = 0
        self._server, self._spans, self._namespace = server, spans, namespace
        self._found, self._progress = found, progress
        self._gate = asyncio.Semaphore(_CONCURRENT)
        self._kinds: asyncio.Future[Mapping[str, Kind]] | None = None

    async def family(self, wanted: Wanted) -> None:
        many = self._found.series(wanted.metric)
        if many > MAX_COUNTED:
            self._leave_out(wanted.name, many)
            return
        interval = self._found.interval(wanted.metric)
        over = self._spans.rate(interval)
        span = max(2 * interval, self._spans.step.total_seconds()) if wanted.form == "value" else over
        expression = wanted.expression(self._namespace, written(span))
        # a rate tells of the middle of its range, a value of a scrape that is half an interval old on the average:
        # without this an onset would be told so much too late
        late = interval / 2 if wanted.form == "value" else over / 2
        kind = Kind.QUANTILE if wanted.form == "quantile" else Kind.GAUGE
        await self._guarded(wanted.name, lambda: self._fetch(wanted, expression, many, kind, late))

    async def query(self, given: Given) -> None:
        """As it came. It was counted when it was understood."""
        if self._kinds is None:
            self._kinds = asyncio.ensure_future(told_kinds(self._server))
        kinds = await self._kinds
        await self._guarded(given.name, lambda: self._range(given.name, given.expression, None, None, kinds=kinds))

    async def around(self) -> None:
        """Owners of pods, the nodes that they ran on, calls between workloads, and what happened meanwhile."""
        out, spans = self.out, self._spans

        async def owners() -> None:
            out.owners = await owners_of(self._server, self._namespace, spans.length, spans.end)

        async def nodes() -> None:
            out.nodes = await nodes_of(self._server, self._namespace, spans.length, spans.end)

        async def edges() -> None:
            out.edges = await calls(self._server, self._namespace, spans.length, spans.end)

        async def events() -> None:
            out.moments, out.evidence = await happened(self._server, self._namespace, spans, self._found)

        await self._guarded("the owners of pods", owners)
        await self._guarded("the nodes of pods", nodes)
        await self._guarded("calls between workloads", edges)
        await self._guarded("restarts and rollouts", events)

    async def _guarded(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        async with self._gate:
            if self.timeouts >= _MAX_TIMEOUTS:
                self.out.unseen.append(f"{what} was not asked for: Prometheus is too slow")
                return
            self._begun += 1
            self._progress(f"{self._begun} of {self.questions}: {what}")
            try:
                await work()
            except ToolTimeout as error:
                self.timeouts += 1
                self.out.unseen.append(f"{what} could not be read: {error}")
            except ToolFailed as error:
                self.out.unseen.append(f"{what} could not be read: {error}")

    async def _fetch(self, wanted: Wanted, expression: str, many: int, kind: Kind, late: float) -> None:
        if many > _COUNT_FROM and (rows := await self._rows(expression)) > MAX_FAMILY:
            by = [label for label in wanted.by if label not in ("pod", "instance")]
            if "pod" not in wanted.by:
                self._leave_out(wanted.name, rows)
                return
            named = f'label_replace({expression}, "workload", "$1", "pod", "{_POD}")'
            expression = f"avg by ({', '.join(dict.fromkeys([*by, 'workload']))}) ({named})"
            fewer = await self._rows(expression)
            if fewer > MAX_FAMILY:
                self._leave_out(wanted.name, rows)
                return
            self.out.cut += rows - fewer
            self.out.unseen.append(f"{wanted.name}: {rows} series of pods were averaged to {fewer} of workloads")
        of_nodes = wanted.by == NODE
        await self._range(wanted.name, expression, kind, wanted.unit, late=late, least=wanted.least, of_nodes=of_nodes)

    async def _rows(self, expression: str) -> int:
        counted = vector(await self._server.instant(f"count({expression})", self._spans.end))
        return int(counted[0][1]) if counted else 0

    def _leave_out(self, name: str, many: int) -> None:
        self.out.cut += many
        self.out.unseen.append(f"{name} has {many} series, too many to look at: it was left out")

    async def _range(
        self,
        name: str,
        expression: str,
        kind: Kind | None,
        unit: str | None,
        *,
        late: float = 0.0,
        least: float = 0.0,
        of_nodes: bool = False,
        kinds: Mapping[str, Kind] = NO_KINDS,
    ) -> None:
        spans = self._spans
        answer = await self._server.range(expression, spans.first, spans.end, spans.step)
        read = await asyncio.to_thread(read_document, answer, _UNNAMED, self.out.unseen)
        step = spans.step.total_seconds()
        source = (
            f"Prometheus query_range {spans.first:%Y-%m-%dT%H:%M:%SZ}/{spans.end:%Y-%m-%dT%H:%M:%SZ} step {step:g}s"
        )
        for one in read[: MAX_FAMILY * 2]:
            times, values = moved(one.times, one.values, late, step, spans.end.timestamp())
            self.out.series.append(
                MetricSeries.of(
                    one.name if kind is None and one.name != _UNNAMED else name,
                    _labels(dict(one.labels), of_nodes=of_nodes),
                    times,
                    np.maximum(values, least) if least else values,
                    kind=kind or kinds.get(one.name),
                    unit=unit,
                    least=least,
                    source=f"{source}: {expression}",
                )
            )


def moved(times: FloatArray, values: FloatArray, late: float, step: float, end: float) -> tuple[FloatArray, FloatArray]:
    """Samples at the times that they tell of, so many seconds earlier. What is measured up to the end keeps its last
    value from there to the end: else a rate over many steps would look as if it had ended before the others."""
    if not len(times) or times[-1] < end - step / 2:
        return times - late, values
    missing = int(late / step)
    more = times[-1] - late + step * np.arange(1, missing + 1)
    return np.concatenate([times - late, more]), np.concatenate([values, np.repeat(values[-1], missing)])


def _labels(labels: dict[str, str], *, of_nodes: bool) -> dict[str, str]:
    """With a name to rank by where only scrape labels tell: the job of a program, the instance of a node."""
    if of_nodes:
        node = labels.get("node") or host(labels.get("instance", ""))
        return {"node": node} if node else {}
    named = ("pod", "deployment", "workload", "service", "destination_workload", "server", "statefulset", "daemonset")
    if not any(labels.get(key) for key in named):
        name = labels.get("app") or labels.get("job")
        if name and set(labels) <= {*PROGRAM, "__name__"}:
            labels["service"] = name.rpartition("/")[2]
    return labels
