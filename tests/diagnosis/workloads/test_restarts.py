"""Restart classes, where the usual rules are wrong. The objects are captured; a test changes only what it is about."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from diagnosis.workloads.containers import containers_of
from diagnosis.workloads.load import load_snapshot
from diagnosis.workloads.restarts import Ending, Restart, restarts_of
from diagnosis.workloads.scope import scope_of
from diagnosis.workloads.snapshot import Snapshot

SNAPSHOTS = Path(__file__).parents[2] / "fixtures" / "snapshots"
Object = dict[str, Any]


def endings(name: str, change: Callable[[Object], None] = lambda item: None) -> list[Restart]:
    """The ended instances in a captured case, after `change` of each of its objects."""
    captured = load_snapshot(SNAPSHOTS / name)
    items = copy.deepcopy(captured.items())
    for item in items:
        change(item)
    snapshot = Snapshot(items, observed_at=captured.observed_at)
    scope = scope_of(snapshot, None, None)
    return [r for pod in scope.pods for c in containers_of(pod) for r in restarts_of(c, scope.pod_events(pod))]


def terminated(item: Object, change: Callable[[Object], None]) -> None:
    for status in (item.get("status") or {}).get("containerStatuses") or [] if item["kind"] == "Pod" else []:
        for state in ("state", "lastState"):
            if status[state].get("terminated"):
                change(status[state]["terminated"])


def without_events(item: Object) -> None:
    if item["kind"] == "Event":
        item["reason"] = "Gone"


@pytest.mark.parametrize(
    ("name", "ending", "code"),
    [
        ("native_crash", Ending.CRASH_SIGNAL, 139),
        ("oom_killed", Ending.OOM_KILLED, 137),
        ("liveness_wrong_port", Ending.LIVENESS_KILL, 137),
        ("liveness_graceful_exit", Ending.LIVENESS_KILL, 0),
        ("liveness_too_early", Ending.LIVENESS_KILL, 137),
        ("startup_wrong_scheme", Ending.STARTUP_KILL, 137),
        ("bad_command_127", Ending.NOT_STARTED, 127),
        ("bad_command_126", Ending.NOT_STARTED, 126),
        ("bad_command_missing", Ending.NOT_STARTED, 128),
        ("application_error", Ending.EXIT_CODE, 3),
        ("healthy_job", Ending.COMPLETED, 0),
    ],
)
def test_captured_endings(name: str, ending: Ending, code: int) -> None:
    found = endings(name)
    assert found
    assert {(restart.ending, restart.exit_code) for restart in found} == {(ending, code)}


def test_a_liveness_kill_of_a_program_that_obeys_sigterm_is_one() -> None:
    found = endings("liveness_wrong_port", lambda item: terminated(item, lambda state: state.update(exitCode=143)))
    assert {restart.ending for restart in found} == {Ending.LIVENESS_KILL}


@pytest.mark.parametrize(("lived", "ending"), [(None, Ending.LIVENESS_KILL), (0.4, Ending.COMPLETED)])
def test_a_later_end_with_0_is_a_kill_too_where_it_lived_as_long_as_the_probe_needs(
    lived: float | None, ending: Ending
) -> None:
    """The kubelet sends few events of a crash loop: the last kill that it told of is older than the last end."""

    def later(item: Object) -> None:
        def change(state: Object) -> None:
            times = {
                key: datetime.fromisoformat(state[key]) + timedelta(minutes=4) for key in ("startedAt", "finishedAt")
            }
            if lived is not None:
                times["startedAt"] = times["finishedAt"] - timedelta(seconds=lived)
            state |= {key: time.isoformat().replace("+00:00", "Z") for key, time in times.items()}

        terminated(item, change)
        if item["kind"] == "Event" and item["reason"] == "Unhealthy":
            item["reason"] = "Gone"

    assert {restart.ending for restart in endings("liveness_graceful_exit", later)} == {ending}


def test_137_without_any_record_is_not_guessed() -> None:
    found = endings("liveness_wrong_port", without_events)
    assert {restart.ending for restart in found} == {Ending.KILLED}


def test_143_without_a_failed_probe_is_an_ordinary_stop() -> None:
    def change(item: Object) -> None:
        without_events(item)
        terminated(item, lambda state: state.update(exitCode=143))

    assert {restart.ending for restart in endings("liveness_wrong_port", change)} == {Ending.STOPPED}


def test_a_probe_kill_of_another_container_is_not_mine() -> None:
    def rename(item: Object) -> None:
        if item["kind"] == "Event" and "{" in (item["involvedObject"].get("fieldPath") or ""):
            item["involvedObject"]["fieldPath"] = "spec.containers{neighbour}"
            item["message"] = "Container neighbour failed liveness probe, will be restarted"

    assert {restart.ending for restart in endings("liveness_wrong_port", rename)} == {Ending.KILLED}


def test_a_crash_long_after_a_probe_kill_is_a_crash() -> None:
    def later(state: Object) -> None:
        ended = datetime.fromisoformat(state["finishedAt"]) + timedelta(hours=2)
        state.update(exitCode=139, startedAt=ended.isoformat(), finishedAt=ended.isoformat())

    found = endings("liveness_wrong_port", lambda item: terminated(item, later))
    assert {restart.ending for restart in found} == {Ending.CRASH_SIGNAL}


def test_oom_of_a_child_is_oom_whatever_the_exit_code() -> None:
    found = endings("oom_killed", lambda item: terminated(item, lambda state: state.update(exitCode=1)))
    assert {restart.ending for restart in found} == {Ending.OOM_KILLED}


def test_the_signal_field_counts_without_the_convention() -> None:
    found = endings("application_error", lambda item: terminated(item, lambda state: state.update(signal=6)))
    assert {(restart.ending, restart.signal_name) for restart in found} == {(Ending.CRASH_SIGNAL, "SIGABRT")}


@pytest.mark.parametrize("code", [1, 2, 3, 42, 129, 141, 255])
def test_codes_that_are_no_core_signal_are_the_programs_own(code: int) -> None:
    found = endings("application_error", lambda item: terminated(item, lambda state: state.update(exitCode=code)))
    wanted = Ending.STOPPED if code == 129 else Ending.EXIT_CODE  # 129 is SIGHUP
    assert {restart.ending for restart in found} == {wanted}


def test_a_container_of_an_evicted_pod_was_evicted() -> None:
    def evict(item: Object) -> None:
        if item["kind"] == "Pod":
            item["status"]["reason"] = "Evicted"

    newest = endings("application_error", evict)[0]
    assert newest.ending is Ending.EVICTED


def test_a_crash_loop_is_told_by_its_ending_not_by_its_name() -> None:
    """No class is called after CrashLoopBackOff, and the waiting reason alone is never one."""
    assert "crash_loop" not in {ending.value for ending in Ending}
