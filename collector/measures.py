"""What the node agent measures, as Prometheus metrics. Labels are closed sets: never a namespace, a pod or a path.

An older agent for Milvus had names of its own; dashboards and alerts on those go on with `collector.metrics_aliases`.
Some of its measures are of other programs here and have no alias: analyses are `paramedic_incidents` of the service,
deleting from the store is `paramedic store prune` and the service's, and nothing is ever uninstalled by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from collector.outbox import State
from incidents.collected import CollectedCore, Completeness, StoredObject

PREFIX = "paramedic_collector_"
OLDER = "milvus_coredump_agent_"
ALIASES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "coredumps_discovered_total": ("cores_total", {}),
    "coredumps_processed_total": ("announced_total", {}),
    "coredumps_skipped_total": ("cores_total", {"completeness": "not_a_core"}),
    "coredumps_errors_total": ("errors_total", {"step": "collect"}),
    "value_score_distribution": ("value_score", {}),
    "files_stored_total": ("stored_objects_total", {}),
    "storage_errors_total": ("errors_total", {"step": "ship"}),
    "last_processed_file_timestamp": ("last_core_timestamp_seconds", {}),
    "up": ("up", {}),
}
"""The older name after its prefix: ours after ours, and the labels that are chosen; the sum over all others."""
_KINDS = ("minimal", "full", "executable", "library")
_STEPS = ("collect", "ship", "remove")
_HANDLED = ("ok", "failed")
_SECONDS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0)
_SCORES = tuple(float(score) for score in range(11))


@dataclass(frozen=True)
class Queue:
    """The outbox at one moment. `oldest`: seconds that what is not done has waited for, at most; 0 for nothing."""

    by_state: Mapping[str, int]
    oldest: float
    dead_letters: int
    free_bytes: int


class Measures:
    """Counts since the start of the process; one registry each, so that two agents in a test do not collide."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(PREFIX + name, text, labels, registry=self.registry)

        self._cores = counter("cores", "Files that appeared as cores, by what they are", "completeness")
        self._missing = counter("crashes_without_core", "Crashes by signal that left no core")
        self._errors = counter("errors", "Attempts that failed and are made again, by step", "step")
        self._announced = counter("announced", "Cores, and crashes without one, that the service was told of")
        self._lost = counter("lost", "Cores of which nothing, or less than was to be kept, is stored")
        self._objects = counter("stored_objects", "Objects that the store confirmed", "kind")
        self._bytes = counter("stored_bytes", "Bytes that the store confirmed, as stored", "kind")
        self._handled = counter("handler_runs", "Runs of the team's own program, by how they ended", "result")
        self._seconds = Histogram(
            f"{PREFIX}upload_seconds",
            "Time from the first byte sent to the store's confirmation",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._value = Histogram(
            f"{PREFIX}value_score", "What cores are worth, 0 to 10", buckets=_SCORES, registry=self.registry
        )
        self._last = Gauge(
            f"{PREFIX}last_core_timestamp_seconds", "When the last core was collected", registry=self.registry
        )
        Gauge(f"{PREFIX}up", "Whether the agent runs", registry=self.registry).set(1)
        for completeness in Completeness:
            if completeness is not Completeness.MISSING:
                self._cores.labels(completeness.value)
        for kind in _KINDS:
            self._objects.labels(kind)
            self._bytes.labels(kind)
        for step in _STEPS:
            self._errors.labels(step)
        for result in _HANDLED:
            self._handled.labels(result)

    def collected(self, record: CollectedCore) -> None:
        """A record is in the outbox for good."""
        if record.completeness is Completeness.MISSING:
            self._missing.inc()
            return
        self._cores.labels(record.completeness.value).inc()
        self._last.set(record.collected_at.timestamp())
        if record.value is not None:
            self._value.observe(record.value)

    def failed(self, step: str) -> None:
        """`step`: collect, ship (what comes after it), or remove (a stored core's file, from the node)."""
        self._errors.labels(step).inc()

    def handled(self, *, ok: bool) -> None:
        """The team's own program has ended."""
        self._handled.labels(_HANDLED[0] if ok else _HANDLED[1]).inc()

    def stored(self, stored: StoredObject, seconds: float) -> None:
        self._objects.labels(stored.kind).inc()
        self._bytes.labels(stored.kind).inc(stored.size)
        self._seconds.observe(seconds)

    def announced(self, record: CollectedCore) -> None:
        self._announced.inc()
        if record.lost is not None:
            self._lost.inc()

    def render(self, queue: Queue, *, aliases: bool) -> bytes:
        """The text exposition, with the queue as of now."""
        now = CollectorRegistry(auto_describe=False)
        now.register(_Families(list(_queue(queue))))
        text = generate_latest(self.registry) + generate_latest(now)
        if aliases:
            older = CollectorRegistry(auto_describe=False)
            older.register(_Families(list(_older(self.registry.collect()))))
            text += generate_latest(older)
        return text


class _Families:
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def _queue(queue: Queue) -> Iterator[Metric]:
    states = GaugeMetricFamily(f"{PREFIX}queue", "Cores in the outbox, by how far they have come", labels=["state"])
    for state in State:
        states.add_metric([state.value], queue.by_state.get(state.value, 0))
    yield states
    for name, text, value in (
        ("oldest_waiting_seconds", "How long the longest waiting core has waited to be done with", queue.oldest),
        ("dead_letters", "Events that the service refused for good and that are kept here", queue.dead_letters),
        ("disk_free_bytes", "Free on the disk of the agent's own files", queue.free_bytes),
    ):
        yield GaugeMetricFamily(PREFIX + name, text, value=value)


def _older(families: Iterable[Metric]) -> Iterator[Metric]:
    """Every family that has an older name, under that name."""
    known: dict[str, Metric] = {}
    for family in families:
        known |= {sample.name: family for sample in family.samples} | {family.name: family}
    for old, (name, chosen) in ALIASES.items():
        family = known[PREFIX + name]
        made = Metric(OLDER + old.removesuffix("_total"), f"As {PREFIX}{name}", family.type)
        samples: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        for sample in family.samples:
            if sample.name.endswith("_created") or not chosen.items() <= sample.labels.items():
                continue
            end = sample.name.removeprefix(PREFIX + name)
            key = OLDER + old + end, tuple((k, v) for k, v in sample.labels.items() if k == "le")
            samples[key] = samples.get(key, 0.0) + sample.value
        for (sample_name, labels), value in samples.items():
            made.add_sample(sample_name, dict(labels), value)
        yield made
