"""A busy kubelet sends its events before it writes the pod's status. Real objects, whose status is put back to what it
was at that moment, as seen in evaluations on a loaded node."""

from __future__ import annotations

from datetime import timedelta

import pytest

from diagnosis.workloads.fields import Object
from incidents.models import CauseClass
from tests.snapshot_cases import changed, loaded, of_case, only, truth


def creating(item: Object) -> None:
    """The pod as before its containers were reported as running."""
    if item["kind"] != "Pod":
        return
    item["status"]["phase"] = "Pending"
    for status in item["status"].get("containerStatuses") or []:
        status |= {"state": {"waiting": {"reason": "ContainerCreating"}}, "ready": False, "started": False}
        status |= {"restartCount": 0, "lastState": {}}


def test_a_probe_that_failed_is_told_of_a_container_whose_status_is_late() -> None:
    name = "readiness_wrong_path"
    cause = only(of_case(name, changed(name, creating)), CauseClass.WRONG_READINESS_PROBE)
    assert cause.object.container == truth(name)["container"]
    assert cause.facts["suggested"] == truth(name)["facts"]["suggested"]


def test_a_container_that_is_being_created_has_no_failed_probe() -> None:
    name = "readiness_wrong_path"

    def silent(item: Object) -> None:
        creating(item)
        if item["kind"] == "Event" and item["reason"] == "Unhealthy":
            item |= {"reason": "Pulled", "type": "Normal"}

    diagnosis = of_case(name, changed(name, silent))
    assert [cause.cause_class for cause in diagnosis.causes] == [CauseClass.UNKNOWN]


@pytest.mark.parametrize(
    "name",
    [
        "command_working_directory",
        "bad_command_missing",
        "bad_image_tag",
        "registry_rate_limited",
        "missing_config_key",
    ],
)
def test_what_kept_a_container_from_starting_is_told_by_the_event(name: str) -> None:
    cause = only(of_case(name, changed(name, creating)), CauseClass(truth(name)["class"]))
    assert cause.object.container == truth(name)["container"]
    assert cause.facts.items() >= truth(name)["facts"].items()


@pytest.mark.parametrize(("seconds", "listens"), [(6, True), (2, True), (6, False)])
def test_a_refused_probe_is_wrong_at_once_where_the_program_says_that_it_listens_elsewhere(
    seconds: int, listens: bool
) -> None:
    """Transformed: asked about seconds after its start, when a program that says nothing may still be starting."""
    name = "readiness_port_from_log"
    case = loaded(name)
    started = (case.observed_at - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def young(item: Object) -> None:
        for status in (item.get("status") or {}).get("containerStatuses") or [] if item["kind"] == "Pod" else []:
            if "running" in status["state"]:
                status["state"]["running"]["startedAt"] = started

    logs = {} if listens else dict.fromkeys(case.log_keys(), "starting\n")
    classes_found = [cause.cause_class for cause in of_case(name, changed(name, young, logs=logs)).causes]
    sure = listens and seconds == 6
    assert classes_found == [CauseClass.WRONG_READINESS_PROBE if sure else CauseClass.UNKNOWN]


@pytest.mark.parametrize("phase", ["Running", "Failed"])
def test_an_eviction_is_told_before_the_pods_status_turns(phase: str) -> None:
    name = "evicted_volume"
    assert any(item["kind"] == "Event" and item["reason"] == "Evicted" for item in loaded(name).items())

    def running(item: Object) -> None:
        if item["kind"] == "Pod" and item["status"].get("reason") == "Evicted":
            item["status"] = {"phase": phase, "conditions": [], "containerStatuses": []}

    cause = only(of_case(name, changed(name, running)), CauseClass.EVICTED)
    assert cause.object.name == truth(name)["object"]["name"]
    assert cause.facts["resource"]
