"""What a fixer needs beside the cause: requests by measured use, and why new pods would do better; to the action.

The objects are real captured ones; the measurements are made up, as are changes of the objects.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest

from agents.remedies import remedies
from diagnosis.workloads.diagnose import diagnose
from diagnosis.workloads.fields import Object
from diagnosis.workloads.load import load_snapshot
from diagnosis.workloads.metrics import Series
from diagnosis.workloads.snapshot import Snapshot
from incidents.actions import ChangeResources, Restart
from incidents.models import Cause, CauseClass, Diagnosis

SNAPSHOTS = Path(__file__).parents[2] / "fixtures" / "snapshots"
MEMORY, CPU = "container_memory_working_set_bytes", "container_cpu_usage_seconds_total"
MEBI = 1 << 20


@cache
def loaded(name: str) -> Snapshot:
    return load_snapshot(SNAPSHOTS / name)


def changed(
    name: str, change: Callable[[Object], None] = lambda item: None, series: Iterable[Series] = (), *more: Object
) -> Diagnosis:
    """The diagnosis of a captured case after `change` of each object, with `more` objects and measurements."""
    original = loaded(name)
    items = copy.deepcopy(original.items())
    for item in items:
        change(item)
    logs = {key: original.log(*key) or "" for key in original.log_keys()}
    complete, absent = original.complete, original.absent
    return diagnose(
        Snapshot([*items, *more], logs=logs, observed_at=original.observed_at, complete=complete, absent=absent,
                 series=series)
    )  # fmt: skip


def template_of(name: str, kind: str) -> tuple[Object, Object]:
    """(the object that makes pods, the container of it that asks for something or the last)."""
    item = loaded(name).all(kind)[0]
    containers = item["spec"]["template"]["spec"]["containers"]
    return item, next((c for c in containers if c.get("resources")), containers[-1])


def used(name: str, metric: str, values: Iterable[float], kind: str = "ReplicaSet", pod: str = "") -> Series:
    """Measured once a minute of an earlier pod of the workload."""
    item, container = template_of(name, kind)
    pod = pod or f"{item['metadata']['name']}-{'0' if kind == 'StatefulSet' else 'x7k2p'}"
    labels = {"namespace": item["metadata"]["namespace"], "pod": pod, "container": container["name"]}
    start = loaded(name).observed_at - timedelta(hours=2)
    points = [(start + timedelta(minutes=index), value) for index, value in enumerate(values)]
    return Series(metric, labels, points, "metrics/made-up.json")


LEVEL = [100.0 * MEBI, 120.0 * MEBI] * 15
BUSY = [index * 60 * 0.2 for index in range(30)]  # a fifth of a core


def action_of(found: Diagnosis) -> object:
    return remedies(found, {})[0].action


@pytest.mark.parametrize(
    ("name", "metric", "values", "change"),
    [
        ("sched_memory", MEMORY, LEVEL, {"memory_request": "150Mi"}),
        ("unschedulable_cpu", CPU, BUSY, {"cpu_request": "250m"}),
    ],
)
def test_a_request_far_above_the_use_is_lowered_to_it(
    name: str, metric: str, values: list[float], change: dict[str, str]
) -> None:
    found = changed(name, series=[used(name, metric, values)])
    cause, container = found.causes[0], template_of(name, "ReplicaSet")[1]["name"]
    assert cause.cause_class is CauseClass.INSUFFICIENT_RESOURCES
    assert cause.object.container == container
    assert "measured" in str(cause.facts["suggested_from"])
    bare = cause.object.model_copy(update={"container": None})
    assert action_of(found) == ChangeResources.model_validate({"target": bare, "container": container, **change})
    cited = {evidence.id for evidence in found.evidence if evidence.source.startswith("metrics/")}
    assert any(cited & set(finding.evidence_ids) for finding in found.findings if finding.id in cause.finding_ids)


@pytest.mark.parametrize(
    "series",
    [
        [],
        [used("sched_memory", MEMORY, LEVEL, pod="somebody-else-x7k2p")],
        [used("sched_memory", MEMORY, LEVEL[:9])],  # nine minutes
        [used("sched_memory", MEMORY, [850 * 1024.0 * MEBI] * 30)],  # it needs what it asks for
        [used("sched_memory", MEMORY, [0.0] * 30)],
        [used("sched_memory", CPU, BUSY)],
    ],
)
def test_without_enough_measurements_it_is_asked(series: list[Series]) -> None:
    found = changed("sched_memory", series=series)
    assert not {name for name in found.causes[0].facts if name.startswith("suggested")}
    assert found.causes[0].object.container is None
    only = remedies(found, {})[0]
    assert only.action is None
    assert "900Gi" in only.title or "921600Mi" in only.title


def test_a_limit_range_bounds_the_request_from_below() -> None:
    namespace = loaded("sched_memory").all("ReplicaSet")[0]["metadata"]["namespace"]
    least: Object = {"kind": "LimitRange", "apiVersion": "v1", "metadata": {"name": "l", "namespace": namespace}}
    least["spec"] = {"limits": [{"type": "Container", "min": {"memory": "1Gi"}}]}
    found = changed("sched_memory", lambda item: None, [used("sched_memory", MEMORY, LEVEL)], least)
    assert found.causes[0].facts["suggested_memory_request"] == "1024Mi"


def test_a_request_is_made_to_fit_into_a_quota() -> None:
    slow = [index * 60 * 0.05 for index in range(30)]
    found = changed("quota_cpu", series=[used("quota_cpu", CPU, slow)])
    cause = found.causes[0]
    assert (cause.cause_class, cause.facts["suggested_cpu_request"]) == (CauseClass.QUOTA_EXCEEDED, "63m")
    assert isinstance(action_of(found), ChangeResources)


def test_what_would_not_fit_into_the_quota_is_not_suggested() -> None:
    found = changed("quota_cpu", series=[used("quota_cpu", CPU, BUSY)])  # 250m; allowed are 100m
    assert "suggested_cpu_request" not in found.causes[0].facts
    assert action_of(found) is None


def stated(item: Object) -> None:
    """All containers but the last state a limit."""
    if item["kind"] == "StatefulSet":
        for container in item["spec"]["template"]["spec"]["containers"][:-1]:
            container["resources"] = {"limits": {"memory": "32Mi"}}


def test_a_quota_that_several_containers_break_is_for_people() -> None:
    name = "quota_memory_unstated"
    assert action_of(changed(name, series=[used(name, MEMORY, LEVEL, "StatefulSet")])) is None


def test_what_a_quota_wants_stated_is_stated_by_use() -> None:
    name = "quota_memory_unstated"
    item = template_of(name, "StatefulSet")[0]
    last = item["spec"]["template"]["spec"]["containers"][-1]["name"]
    series = used(name, MEMORY, LEVEL, "StatefulSet")
    series.labels["container"] = last
    found = changed(name, stated, [series])
    cause = found.causes[0]
    assert cause.facts["must_specify"] == "limits.memory"
    assert cause.facts["suggested_memory_limit"] == "240Mi"
    assert isinstance(action_of(found), ChangeResources)


# values from before


def stale(found: Diagnosis) -> Cause:
    cause = found.causes[0]
    assert "after the container started" in str(cause.facts["restart_because"])
    assert isinstance(action_of(found), Restart)
    return cause


@pytest.mark.parametrize(
    ("name", "cause"),
    [("stale_credentials", CauseClass.WRONG_CREDENTIALS), ("stale_config", CauseClass.BAD_CHANGE)],
)
def test_pods_with_values_from_before_a_correction_are_restarted(name: str, cause: CauseClass) -> None:
    assert stale(changed(name)).cause_class is cause


def restarted(item: Object) -> None:
    """The container started again since: it has the new values."""
    if item["kind"] == "Pod":
        for status in item["status"]["containerStatuses"]:
            status["state"]["running"]["startedAt"] = "2099-01-01T00:00:00Z"


def unwritten(item: Object) -> None:
    if item["kind"] in ("Secret", "ConfigMap"):
        item["metadata"].pop("managedFields", None)


def mounted(item: Object) -> None:
    """A volume instead of a variable: it follows by itself."""
    for holder in (item, item.get("spec", {}).get("template") or {}):
        for container in holder.get("spec", {}).get("containers") or []:
            for variable in container.pop("env", []):
                source = variable["valueFrom"]
                if "secretKeyRef" in source:
                    volume: Object = {"secret": {"secretName": source["secretKeyRef"]["name"]}}
                else:
                    volume = {"configMap": {"name": source["configMapKeyRef"]["name"]}}
                holder["spec"].setdefault("volumes", []).append({"name": "values", **volume})
                container["volumeMounts"] = [{"name": "values", "mountPath": "/values"}]


@pytest.mark.parametrize("change", [restarted, unwritten, mounted])
@pytest.mark.parametrize("name", ["stale_credentials", "stale_config"])
def test_without_old_values_there_is_no_reason_to_restart(name: str, change: Callable[[Object], None]) -> None:
    for cause in changed(name, change).causes:
        assert "restart_because" not in cause.facts
        assert cause.cause_class is not CauseClass.BAD_CHANGE


def test_a_sub_path_does_not_follow() -> None:
    def single(item: Object) -> None:
        mounted(item)
        for holder in (item, item.get("spec", {}).get("template") or {}):
            for container in holder.get("spec", {}).get("containers") or []:
                for mount in container.get("volumeMounts") or []:
                    mount["subPath"] = "mode"

    stale(changed("stale_config", single))


def test_a_write_that_broke_it_is_no_correction() -> None:
    def late(item: Object) -> None:
        if item["kind"] == "Pod":
            for condition in item["status"]["conditions"]:
                condition["lastTransitionTime"] = "2099-01-01T00:00:00Z"

    assert all("restart_because" not in cause.facts for cause in changed("stale_config", late).causes)
