"""Controllers: what the fixtures do not show, above all what is no fault, on real objects that are transformed here."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from diagnosis.workloads.diagnose import diagnose
from diagnosis.workloads.fields import Object
from diagnosis.workloads.load import load_snapshot
from diagnosis.workloads.metrics import Alert
from diagnosis.workloads.schedule import Schedule
from diagnosis.workloads.snapshot import Snapshot
from incidents.models import CauseClass, Diagnosis, DiagnosisStatus, ObjectRef

SNAPSHOTS = Path(__file__).parents[2] / "fixtures" / "snapshots"


def truth_of(name: str) -> Object:
    return json.loads((SNAPSHOTS / f"{name}.truth.json").read_text())  # type: ignore[no-any-return]


def transformed(name: str, change: Callable[[Object], Object | None], *, later: int = 0) -> Diagnosis:
    """The diagnosis of a captured case after `change` of each of its objects (None drops it), `later` seconds on."""
    original = load_snapshot(SNAPSHOTS / name)
    items = [kept for item in copy.deepcopy(original.items()) if (kept := change(item)) is not None]
    logs = {key: original.log(*key) or "" for key in original.log_keys()}
    snapshot = Snapshot(items, logs=logs, observed_at=original.observed_at + timedelta(seconds=later),
                        complete=original.complete)  # fmt: skip
    return diagnose(snapshot, namespace=truth_of(name)["namespace"])


def classes(found: Diagnosis) -> set[CauseClass]:
    return {cause.cause_class for cause in found.causes}


def test_a_pause_with_nothing_waiting_is_no_fault() -> None:
    def change(item: Object) -> Object:
        if item["kind"] == "Deployment":
            item["spec"]["template"]["spec"]["containers"][1].pop("env")
        return item

    found = transformed("rollout_paused", change)
    assert found.status is DiagnosisStatus.HEALTHY
    assert any("is paused, with no change waiting" in finding.claim for finding in found.findings)


def test_a_rollout_that_gave_up_without_a_fault_of_its_pods() -> None:
    def change(item: Object) -> Object | None:
        if item["kind"] == "Deployment":
            item["status"]["updatedReplicas"] = 0
        return None if item["kind"] == "Pod" and item["status"]["phase"] == "Pending" else item

    cause = transformed("rollout_explained", change).causes[0]
    assert (cause.cause_class, cause.facts["why"]) == (CauseClass.ROLLOUT_STUCK, "deadline")


@pytest.mark.parametrize("name", ["rollout_explained", "job_explained"])
def test_a_controller_is_explained_by_its_pods(name: str) -> None:
    found = transformed(name, lambda item: item)
    assert classes(found).isdisjoint({CauseClass.ROLLOUT_STUCK, CauseClass.JOB_BACKOFF})


def test_a_job_that_a_later_one_got_over_is_history() -> None:
    owner = {"kind": "CronJob", "name": "nightly", "uid": "u-1", "controller": True, "apiVersion": "batch/v1"}
    original = load_snapshot(SNAPSHOTS / "job_backoff")
    namespace = truth_of("job_backoff")["namespace"]
    items = copy.deepcopy(original.items())
    job = next(item for item in items if item["kind"] == "Job")
    job["metadata"]["ownerReferences"] = [owner]
    later = copy.deepcopy(job)
    later["metadata"] |= {"name": "later", "uid": "u-2", "creationTimestamp": "2030-01-01T00:00:00Z"}
    later["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    cron = {"kind": "CronJob", "metadata": {"name": "nightly", "namespace": namespace, "uid": "u-1"}, "spec": {}}
    target = ObjectRef(kind="CronJob", namespace=namespace, name="nightly")

    def told(*more: Object) -> set[CauseClass]:
        return classes(diagnose(Snapshot([*items, cron, *more], observed_at=original.observed_at), target=target))

    assert CauseClass.JOB_BACKOFF in told()
    assert CauseClass.JOB_BACKOFF not in told(later)


def test_a_suspended_cron_job_that_misses_nothing_yet_is_no_fault() -> None:
    def change(item: Object) -> Object:
        if item["kind"] == "CronJob":
            item["spec"]["schedule"] = "0 0 1 1 *"
        return item

    assert transformed("cron_suspended", change).status is not DiagnosisStatus.DIAGNOSED


def test_a_cron_job_made_suspended_is_told_as_such() -> None:
    found = transformed("healthy_cron_suspended", lambda item: item)
    assert any("is suspended, as its author wants it" in finding.claim for finding in found.findings)


def test_a_cron_job_that_may_run_beside_itself_is_not_forbidden() -> None:
    def change(item: Object) -> Object:
        if item["kind"] == "CronJob":
            item["spec"]["concurrencyPolicy"] = "Allow"
        return item

    assert CauseClass.CRON_JOB_NEVER_SCHEDULED not in classes(transformed("cron_forbid", change))


@pytest.mark.parametrize(
    ("expression", "after", "due"),
    [
        ("*/15 2-4,6 * * *", "2026-01-31 04:50", "2026-01-31 06:00"),
        ("0 0 29 2 *", "2026-01-01 00:00", "2028-02-29 00:00"),
        ("5 4 13 * fri", "2026-11-01 00:00", "2026-11-06 04:05"),  # both days given: either
        ("0 12 * jan mon-wed/2", "2026-01-31 00:00", "2027-01-04 12:00"),
        ("@weekly", "2026-11-21 08:00", "2026-11-22 00:00"),
        ("30 1 * * 7", "2026-11-21 08:00", "2026-11-22 01:30"),
        ("0 0 31 2 *", "2026-01-01 00:00", None),
    ],
)
def test_when_a_schedule_is_due(expression: str, after: str, due: str | None) -> None:
    schedule = Schedule.read(expression)
    assert schedule is not None
    found = schedule.next_after(datetime.fromisoformat(after).replace(tzinfo=UTC))
    assert (f"{found:%Y-%m-%d %H:%M}" if found else None) == due


@pytest.mark.parametrize(
    "expression", ["", "* * * *", "@every 5m", "61 * * * *", "a b c d e", "5-1 * * * *", "*/0 * * * *"]
)
def test_what_is_no_schedule(expression: str) -> None:
    assert Schedule.read(expression) is None


def test_a_stateful_set_whose_pods_come_up_waits_for_nobody() -> None:
    def change(item: Object) -> Object:
        if item["kind"] == "Pod":
            for entry in item["status"]["conditions"]:
                entry["status"] = "True"
            for status in item["status"]["containerStatuses"]:
                status["ready"] = True
        return item

    assert CauseClass.STATEFUL_SET_BLOCKED not in classes(transformed("stateful_set_blocked", change))


def test_a_daemon_set_kept_off_by_taints() -> None:
    def change(item: Object) -> Object:
        if item["kind"] == "DaemonSet":
            item["spec"]["template"]["spec"].pop("nodeSelector")
        elif item["kind"] == "Node":
            item["spec"]["taints"] = [{"key": "dedicated", "value": "batch", "effect": "NoSchedule"}]
        return item

    cause = transformed("daemon_set_skips", change).causes[0]
    assert (cause.cause_class, cause.facts["why"]) == (CauseClass.DAEMON_SET_SKIPS_NODES, "taints")


def test_a_budget_that_allows_nothing_is_no_fault_while_nothing_is_drained() -> None:
    def change(item: Object) -> Object:
        if item["kind"] == "Node":
            item["spec"].pop("unschedulable", None)
        return item

    assert CauseClass.DISRUPTION_BUDGET_BLOCKS not in classes(transformed("budget_blocks_drain", change))


def test_an_autoscaler_without_requests() -> None:
    said = "the HPA was unable to compute the replica count: missing request for cpu"

    def change(item: Object) -> Object:
        if item["kind"] == "HorizontalPodAutoscaler":
            item["status"]["conditions"][1]["message"] = said
        elif item["kind"] == "Deployment":
            item["spec"]["template"]["spec"]["containers"][1].pop("resources")
        return item

    cause = transformed("autoscaler_no_metrics", change).causes[0]
    assert cause.facts["why"] == "missing_requests"
    assert len(cause.facts["containers_without_requests"]) == 2  # type: ignore[arg-type]


def test_the_conditions_of_an_autoscaler_of_version_1() -> None:
    def change(item: Object) -> Object:
        if item["kind"] == "HorizontalPodAutoscaler":
            kept = item["status"].pop("conditions")
            item["metadata"]["annotations"] = {"autoscaling.alpha.kubernetes.io/conditions": json.dumps(kept)}
        return item

    assert classes(transformed("autoscaler_no_metrics", change)) == {CauseClass.AUTOSCALER_WITHOUT_METRICS}


@pytest.mark.parametrize("finalizers", [["kubernetes.io/pvc-protection"], ["foregroundDeletion"], []])
def test_what_goes_by_itself_is_not_stuck(finalizers: list[str]) -> None:
    def change(item: Object) -> Object:
        if item["kind"] == "ConfigMap" and "deletionTimestamp" in item["metadata"]:
            item["metadata"]["finalizers"] = finalizers
        return item

    assert CauseClass.FINALIZER_STUCK not in classes(transformed("finalizer_stuck", change, later=3600))


def zero(*more: Object, alerts: list[Alert] | None = None, quiet: bool = False, **asked: object) -> Diagnosis:
    """A workload that was scaled to zero by hand minutes ago, with a Service; its caller is taken away."""
    original = load_snapshot(SNAPSHOTS / "zero_replicas")
    items = original.items()
    caller = next(
        item["metadata"]["name"]
        for item in items
        if item["kind"] == "Deployment" and item["metadata"]["name"].startswith("caller-")
    )
    kept = [item for item in items if caller not in json.dumps(item) and not (quiet and item["kind"] == "Event")]
    snapshot = Snapshot(
        [*kept, *more], observed_at=original.observed_at, complete=original.complete, alerts=alerts or []
    )
    return diagnose(snapshot, namespace=truth_of("zero_replicas")["namespace"], **asked)  # type: ignore[arg-type]


def test_zero_that_nothing_misses_is_as_its_owner_wants_it() -> None:
    found = zero()
    assert (found.status, found.causes) == (DiagnosisStatus.HEALTHY, [])
    assert any("no replicas, as its author wants it" in finding.claim for finding in found.findings)


def front_door(service: str) -> Object:
    backend = {"service": {"name": service}}
    place = {"name": "door", "namespace": truth_of("zero_replicas")["namespace"]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": place,
        "spec": {"defaultBackend": backend},
    }


def test_zero_just_now_is_a_fault_where_it_is_missed_or_asked_about() -> None:
    truth = truth_of("zero_replicas")
    service, name, namespace = truth["facts"]["service"], truth["object"]["name"], truth["namespace"]
    alert = Alert("CartDown", {"alertname": "CartDown", "namespace": namespace, "deployment": name})
    target = ObjectRef(kind="Deployment", namespace=namespace, name=name)
    for found in (
        zero(front_door(service)),
        zero(alerts=[alert]),
        zero(symptom=f"service {service} 访问不通"),
        zero(target=target),
    ):
        cause = found.causes[0]
        assert (cause.cause_class, cause.facts["suggested_replicas"]) == (CauseClass.ZERO_REPLICAS, 1)
        assert cause.confidence == 0.6
    for found in (
        zero(front_door("another")),
        zero(alerts=[replace(alert, state="suppressed")]),
        zero(alerts=[replace(alert, labels={**alert.labels, "namespace": "another"})]),
        zero(symptom="service another 访问不通"),
        zero(front_door(service), quiet=True),  # long ago
    ):
        assert CauseClass.ZERO_REPLICAS not in classes(found)


def test_one_rollback_is_no_quarrel() -> None:
    def change(item: Object) -> Object:
        history = "deployment.kubernetes.io/revision-history"
        annotations = item["metadata"].get("annotations") or {}
        if item["kind"] == "ReplicaSet" and history in annotations:
            annotations[history] = annotations[history].split(",")[0]
        return item

    assert CauseClass.CHANGE_UNDONE not in classes(transformed("change_undone", change))


def test_a_change_long_before_the_pod_is_not_blamed() -> None:
    def change(item: Object) -> Object:
        if item["kind"] == "ConfigMap":
            item["metadata"].pop("managedFields", None)
            item["metadata"]["resourceVersion"] = "1"
        return item

    assert classes(transformed("bad_change", change)) == {CauseClass.APPLICATION_ERROR}


def test_where_managed_fields_are_silent_the_order_of_writing_tells() -> None:
    def change(item: Object) -> Object:
        if item["kind"] == "ConfigMap":
            item["metadata"].pop("managedFields", None)
        return item

    cause = transformed("bad_change", change).causes[0]
    assert (cause.cause_class, cause.confidence) == (CauseClass.BAD_CHANGE, 0.75)
    assert "changed_after" in cause.facts and "changed_at" not in cause.facts


def test_a_program_that_failed_before_the_change_is_not_its_victim() -> None:
    def change(item: Object) -> Object:
        if item["kind"] == "Event" and item["reason"] == "BackOff":
            item["firstTimestamp"] = "2020-01-01T00:00:00Z"
        return item

    assert CauseClass.BAD_CHANGE not in classes(transformed("bad_change", change))


def test_a_changed_secret_is_told_like_a_config_map() -> None:
    def change(item: Object) -> Object:
        name = truth_of("bad_change")["object"]["name"]
        if item["kind"] == "ConfigMap" and item["metadata"]["name"] == name:
            item["kind"] = "Secret"
        elif item["kind"] == "Pod":
            for volume in item["spec"]["volumes"]:
                if volume.get("configMap", {}).get("name") == name:
                    volume["secret"] = {"secretName": volume.pop("configMap")["name"]}
        return item

    cause = transformed("bad_change", change).causes[0]
    assert (cause.cause_class, cause.object.kind) == (CauseClass.BAD_CHANGE, "Secret")
