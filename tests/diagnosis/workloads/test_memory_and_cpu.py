"""Memory and CPU by measurement: a leak, a limit that is too low, a node without memory, and throttling.

The objects are real captured ones; the measurements are made up, as are changes of the objects (`changed`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import pytest

from diagnosis.workloads.diagnose import diagnose
from diagnosis.workloads.fields import Object, pick
from diagnosis.workloads.load import load_snapshot
from diagnosis.workloads.metrics import Series
from diagnosis.workloads.snapshot import Snapshot
from incidents.models import Cause, CauseClass

SNAPSHOTS = Path(__file__).parents[2] / "fixtures" / "snapshots"


@cache
def loaded(name: str) -> Snapshot:
    return load_snapshot(SNAPSHOTS / name)


MEBI = 1 << 20


def place_of(snapshot: Snapshot) -> tuple[Object, str]:
    """The pod at fault and its container at fault (the second one)."""
    pod = snapshot.all("Pod")[0]
    return pod, str(pick(pod, "spec", "containers", 1, "name"))


def series(snapshot: Snapshot, name: str, values: Iterable[float], step: int = 60) -> Series:
    pod, container = place_of(snapshot)
    labels = {"namespace": pod["metadata"]["namespace"], "pod": pod["metadata"]["name"], "container": container}
    numbers = list(values)
    start: datetime = snapshot.observed_at - timedelta(seconds=step * len(numbers))
    points = [(start + timedelta(seconds=step * index), value) for index, value in enumerate(numbers)]
    return Series(name, labels, points, "metrics/made-up.json")


def changed(name: str, change: Callable[[Object], None] = lambda item: None) -> Snapshot:
    """A captured snapshot after `change` of each object: transformed, not captured so."""
    original = loaded(name)
    items = copy.deepcopy(original.items())
    for item in items:
        change(item)
    return Snapshot(items, observed_at=original.observed_at, complete=original.complete, absent=original.absent)


def measured(snapshot: Snapshot, *found: Series) -> Cause:
    items, complete = snapshot.items(), snapshot.complete
    return diagnose(Snapshot(items, observed_at=snapshot.observed_at, complete=complete, series=found)).causes[0]


def memory(snapshot: Snapshot, values: Iterable[float]) -> Series:
    return series(snapshot, "container_memory_working_set_bytes", [value * MEBI for value in values])


def test_steady_growth_to_the_limit_is_a_leak_and_no_higher_limit_is_offered() -> None:
    snapshot = changed("oom_killed")
    cause = measured(snapshot, memory(snapshot, [4 + 0.33 * minute for minute in range(60)]))
    assert cause.cause_class is CauseClass.OOM_KILLED
    assert cause.facts["oom_of"] == "leak"
    assert 18 < float(str(cause.facts["mebibytes_per_hour"])) < 22
    assert "suggested_memory_limit" not in cause.facts


def test_growth_over_several_lives_is_judged_by_the_last_whole_one() -> None:
    snapshot = changed("oom_killed")
    life = [4 + 0.5 * minute for minute in range(38)]
    cause = measured(snapshot, memory(snapshot, [*life, *life, 4, 4.5]))
    assert cause.facts["oom_of"] == "leak"


@pytest.mark.parametrize(
    "values",
    [
        [20.0] * 50 + [23.9],  # level, then one demand too many
        [5, 22, 6, 21, 5, 23, 7, 20, 6, 22, 5, 23] * 4,  # up and down
        [4, 5],  # too short to tell
    ],
)
def test_other_use_is_a_matter_of_the_limit(values: list[float]) -> None:
    snapshot = changed("oom_killed")
    cause = measured(snapshot, memory(snapshot, values))
    assert cause.facts["oom_of"] == "limit"
    assert cause.facts["suggested_memory_limit"] == "48Mi"


def test_level_use_rules_a_leak_out() -> None:
    snapshot = changed("oom_killed")
    cause = measured(snapshot, memory(snapshot, [20.0] * 50 + [23.9]))
    assert "leak" not in cause.summary


def pressed(item: Object) -> None:
    """A node under memory pressure."""
    if item["kind"] == "Node":
        for condition in item["status"]["conditions"]:
            if condition["type"] == "MemoryPressure":
                condition["status"] = "True"


def unlimited(item: Object) -> None:
    if item["kind"] == "Pod":
        item["spec"]["containers"][1].pop("resources")


def calm(item: Object) -> None:
    """No SystemOOM events; the captured ones are of containers at their own limits (see the analyzer)."""
    if item["kind"] == "Event" and item["reason"] == "SystemOOM":
        item["reason"] = "Gone"


def test_below_its_limit_on_a_full_node_it_is_the_victim_of_its_node() -> None:
    snapshot = changed("oom_killed", pressed)
    found = [memory(snapshot, [9.0] * 30)]
    answer = diagnose(Snapshot(snapshot.items(), observed_at=snapshot.observed_at, series=found))
    assert [cause.cause_class for cause in answer.causes] == [CauseClass.NODE_MEMORY_PRESSURE]
    assert answer.causes[0].object.kind == "Node"
    claims = [finding.claim for finding in answer.findings]
    assert any("was killed for memory (OOMKilled)" in claim for claim in claims)


@pytest.mark.parametrize(("use", "of"), [([23.5] * 30, "limit"), ([9.0] * 3, "limit")])
def test_at_its_limit_or_hardly_measured_it_is_not_the_nodes_fault(use: list[float], of: str) -> None:
    snapshot = changed("oom_killed", pressed)
    answer = diagnose(Snapshot(snapshot.items(), observed_at=snapshot.observed_at, series=[memory(snapshot, use)]))
    assert next(c for c in answer.causes if c.cause_class is CauseClass.OOM_KILLED).facts["oom_of"] == of


def test_the_events_of_a_node_do_not_tell_whose_limit_it_was() -> None:
    """The captured kubelet records SystemOOM for a container that reached its own limit."""
    snapshot = changed("oom_killed")
    assert any(event.reason == "SystemOOM" for event in snapshot.events())
    assert measured(snapshot, memory(snapshot, [9.0] * 30)).facts["oom_of"] == "limit"


def test_without_a_limit_a_kill_of_the_node_is_the_nodes() -> None:
    assert measured(changed("oom_killed", unlimited)).facts["oom_of"] == "node"

    def both(item: Object) -> None:
        unlimited(item)
        calm(item)

    assert "oom_of" not in measured(changed("oom_killed", both)).facts


def slow(item: Object) -> None:
    """A readiness probe that waits in vain, in a container with a CPU limit."""
    if item["kind"] == "Pod":
        item["spec"]["containers"][1]["resources"] = {"limits": {"cpu": "100m"}}
    elif item["kind"] == "Event" and item["reason"] == "Unhealthy":
        item["message"] = (
            'Readiness probe failed: Get "http://10.244.0.9:8080/nope": context deadline exceeded '
            "(Client.Timeout exceeded while awaiting headers)"
        )


def throttling(snapshot: Snapshot, stopped: float) -> list[Series]:
    minutes = range(20)
    return [
        series(snapshot, "container_cpu_cfs_periods_total", [600.0 * minute for minute in minutes]),
        series(snapshot, "container_cpu_cfs_throttled_periods_total", [600.0 * stopped * minute for minute in minutes]),
    ]


def test_a_probe_that_times_out_in_a_throttled_container_is_explained_by_the_limit() -> None:
    snapshot = changed("readiness_wrong_path", slow)
    cause = measured(snapshot, *throttling(snapshot, 0.93))
    assert cause.cause_class is CauseClass.CPU_THROTTLED
    assert cause.object.container == place_of(snapshot)[1]
    assert cause.facts["throttled_percent"] == 93
    assert cause.facts["suggested_cpu_limit"] == "200m"


def test_ordinary_throttling_explains_nothing() -> None:
    snapshot = changed("readiness_wrong_path", slow)
    assert measured(snapshot, *throttling(snapshot, 0.2)).cause_class is not CauseClass.CPU_THROTTLED


def test_a_throttled_container_whose_probe_answers_is_not_slow() -> None:
    snapshot = changed("readiness_wrong_path")
    assert measured(snapshot, *throttling(snapshot, 0.93)).cause_class is CauseClass.WRONG_READINESS_PROBE


def test_a_throttled_container_that_is_well_is_well() -> None:
    snapshot = changed("healthy")
    items, complete = snapshot.items(), snapshot.complete
    found = Snapshot(items, observed_at=snapshot.observed_at, complete=complete, series=throttling(snapshot, 0.93))
    assert diagnose(found).causes == []


def test_without_measurements_nothing_is_called_throttled() -> None:
    assert measured(changed("readiness_wrong_path", slow)).cause_class is not CauseClass.CPU_THROTTLED
