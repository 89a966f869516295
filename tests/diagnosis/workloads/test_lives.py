"""A leak by the lives of a container, where nothing was measured: a captured OOM kill, its times made up (`lived`)."""

from __future__ import annotations

import copy
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from diagnosis.workloads.diagnose import diagnose
from diagnosis.workloads.fields import Object
from diagnosis.workloads.load import load_snapshot
from diagnosis.workloads.snapshot import Snapshot
from incidents.models import Cause, CauseClass

CAPTURED = Path(__file__).parents[2] / "fixtures" / "snapshots" / "oom_killed"
MINUTE = timedelta(minutes=1)


@cache
def captured() -> Snapshot:
    return load_snapshot(CAPTURED)


def at(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def killed(ended: datetime, minutes: float) -> Object:
    times = {"startedAt": at(ended - minutes * MINUTE), "finishedAt": at(ended)}
    return {"terminated": {"exitCode": 137, "reason": "OOMKilled", **times}}


def lived(
    pod: Object, *minutes: float, ended: float = 1, restarts: float = 1, age: float = 0, running: float | None = None
) -> Object:
    """The pod (copied) with its second container killed after these lives (newest first), the last of them `ended`
    minutes ago; `age` minutes old at that time, running again for `running` minutes where given."""
    pod, now = copy.deepcopy(pod), captured().observed_at
    name = pod["spec"]["containers"][1]["name"]
    (status,) = (one for one in pod["status"]["containerStatuses"] if one["name"] == name)
    ends = now - ended * MINUTE
    states = [killed(ends, minutes[0])]
    if len(minutes) == 2:
        states.append(killed(ends - (minutes[0] + 2) * MINUTE, minutes[1]))
    if len(states) == 2:
        status["state"], status["lastState"] = states
    elif running is not None:
        status["state"] = {"running": {"startedAt": at(now - running * MINUTE)}}
        status["lastState"] = states[0]
    else:
        status["state"], status["lastState"] = {"waiting": {"reason": "CrashLoopBackOff"}}, states[0]
    status["restartCount"], status["ready"] = restarts, False
    pod["status"]["startTime"] = at(ends - age * MINUTE)
    return pod


def told(*pods: Object) -> Cause:
    items = [item for item in captured().items() if item["kind"] not in ("Pod", "Event")]
    found = diagnose(Snapshot([*items, *pods], observed_at=captured().observed_at, complete=captured().complete))
    assert found.causes[0].cause_class is CauseClass.OOM_KILLED
    return found.causes[0]


def pod(number: int = 0) -> Object:
    item = copy.deepcopy(captured().all("Pod")[0])
    item["metadata"]["name"] += f"-{number}" if number else ""
    item["metadata"]["uid"] += f"-{number}"
    return item


def test_lives_that_are_long_and_alike_are_a_leak_and_no_higher_limit_is_offered() -> None:
    cause = told(lived(pod(), 131, 128, restarts=6, age=6.9 * 135))
    assert (cause.facts["oom_of"], cause.facts["lives"]) == ("leak", "alike")
    assert cause.facts["leak_seen_in"] == "lifetimes"
    assert "suggested_memory_limit" not in cause.facts
    assert "as a leak does" in cause.summary


def test_replicas_that_live_alike_and_end_at_other_times_are_a_leak() -> None:
    replicas = [lived(pod(n), 200 + 9 * n, ended=1 + 17 * n, running=17 * n, restarts=1) for n in range(3)]
    assert told(*replicas).facts["oom_of"] == "leak"


def test_what_may_be_chance_a_clock_or_a_peak_of_load_is_no_leak() -> None:
    """Each differs in one thing from the leaks above."""
    regular = {"restarts": 6, "age": 6.9 * 135}
    innocent = {
        "short lives": [lived(pod(), 12, 12, restarts=6, age=7 * 13)],
        "one life": [lived(pod(), 131)],
        "one life and a mean": [lived(pod(), 131, **regular)],
        "lives of all lengths": [lived(pod(), 131, 95, **regular)],
        "at the same minute of each hour": [lived(pod(), 117, 116, restarts=6, age=7 * 119)],
        "replicas killed at once": [lived(pod(n), 200 + 3 * n, running=1, restarts=1) for n in range(3)],
        "it lives on": [
            *(lived(pod(n), 60 + n, ended=5 + 17 * n, running=17 * n) for n in range(2)),
            lived(pod(2), 60, ended=58 + 40, running=98),
        ],
    }
    assert {name: told(*pods).facts["oom_of"] for name, pods in innocent.items()} == dict.fromkeys(innocent, "limit")


def test_a_replica_under_another_limit_is_not_compared() -> None:
    replicas = [lived(pod(n), 200 + 9 * n, ended=1 + 17 * n, running=17 * n) for n in range(3)]
    replicas[2]["spec"]["containers"][1]["resources"]["limits"]["memory"] = "1Gi"
    assert told(*replicas).facts["oom_of"] == "limit"


def test_lives_that_get_shorter_or_longer_are_told_and_change_no_offer() -> None:
    shorter = told(lived(pod(), 40, restarts=4, age=5 * 120))
    assert (shorter.facts["oom_of"], shorter.facts["lives"]) == ("limit", "shorter")
    assert shorter.facts["suggested_memory_limit"]
    assert told(lived(pod(), 300, 60, restarts=1)).facts["lives"] == "longer"
