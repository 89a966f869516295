"""What counts as a crash in a storm, for which instance, and when."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from errors import ToolFailed
from incidents.collected import Completeness
from incidents.models import ObjectRef
from tests.graph.conftest import SPACE, Service
from tests.graph.storming import all_of, collect, crash, pods, storm, unknown, watch
from tests.standins.kube_api import Object


def _mark(service: Service, name: str, **metadata: Any) -> None:
    service.controllers.asleep = True
    service.api.edit("Deployment", SPACE, name, lambda item: item["metadata"].update(metadata))
    service.controllers.asleep = False


@pytest.mark.parametrize(
    "state",
    [
        {"exitCode": 0, "reason": "Completed"},
        {"exitCode": 143},
        {"exitCode": 137},  # killed, nobody says by whom
        {"exitCode": 127},
        {"exitCode": 255, "reason": "ContainerStatusUnknown"},
    ],
)
async def test_what_is_no_crash_is_not_counted(service: Service, state: Object) -> None:
    watching = watch(service)
    await storm(service, watching, 6, **state)
    assert await service.storms.counts(service.clock - timedelta(days=1)) == {}


@pytest.mark.parametrize("code", [0, 1, 137, 143])
async def test_a_probe_kill_is_not_counted_whatever_the_exit_code(service: Service, code: int) -> None:
    pod = pods(service)[0]
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "kill", "namespace": SPACE},
        "involvedObject": {
            "kind": "Pod",
            "name": pod,
            "namespace": SPACE,
            "uid": service.api.objects["v1", "Pod", SPACE, pod]["metadata"]["uid"],
            "fieldPath": "spec.containers{main}",
        },
        "reason": "Killing",
        "message": "Container main failed liveness probe, will be restarted",
        "lastTimestamp": service.clock.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "firstTimestamp": service.clock.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    service.api.put(event)
    crash(service, pod, service.clock, exitCode=code)
    await watch(service).sweep()
    assert await service.storms.counts(service.clock - timedelta(days=1)) == {}


async def test_a_program_that_fails_while_it_is_scaled_away_did_not_crash(service: Service) -> None:
    pod = pods(service)[0]

    def leave(item: Object) -> None:
        item["metadata"]["deletionTimestamp"] = service.clock.strftime("%Y-%m-%dT%H:%M:%SZ")
        ended = {"exitCode": 1, "finishedAt": service.clock.strftime("%Y-%m-%dT%H:%M:%SZ")}
        item["status"]["containerStatuses"][1]["state"] = {"terminated": ended}

    service.controllers.asleep = True
    service.api.edit("Pod", SPACE, pod, leave)
    await watch(service).sweep()
    assert await service.storms.counts(service.clock - timedelta(days=1)) == {}


async def test_a_clock_that_is_ahead_or_long_past_makes_no_storm_of_its_own(service: Service) -> None:
    watching = watch(service, threshold=1)
    first, second = pods(service)
    crash(service, first, service.clock + timedelta(days=400))
    crash(service, second, service.clock - timedelta(days=400))
    await watching.sweep()
    await watching.sweep()
    counts = await service.storms.counts(service.clock - timedelta(minutes=1))
    assert sum(counts.values()) == 1
    service.clock += timedelta(hours=2)
    await watching.sweep()
    assert await service.storms.counts(service.clock - timedelta(hours=1)) == {}


async def test_events_that_cannot_be_read_count_nothing(service: Service) -> None:
    """Without them a probe's kill looks like a crash."""
    crash(service, pods(service)[0], service.clock)

    def gone() -> None:
        raise ConnectionResetError

    for _ in range(3):
        service.api.before("GET", gone, match="/events")
    with pytest.raises(ToolFailed):
        await watch(service).sweep()
    assert await service.storms.counts(service.clock - timedelta(days=1)) == {}


async def test_the_instances_pods_count_together_and_the_one_beside_it_apart(service: Service) -> None:
    for name, instance in (("cart", "blue"), ("pay", "blue"), ("mail", "green")):
        marks = {"app.kubernetes.io/name": "milvus", "app.kubernetes.io/instance": instance}
        _mark(service, name, labels=marks)
    unknown(service)
    watching = watch(service)
    for name in ("cart", "pay", "pay", "mail", "mail", "mail"):
        service.clock += timedelta(seconds=5)
        crash(service, pods(service, name)[0], service.clock)
        await watching.sweep()
    assert await all_of(service) == []
    crash(service, pods(service, "pay")[0], service.clock + timedelta(seconds=1))
    await watching.sweep()
    (incident,) = await all_of(service)
    assert incident.target == ObjectRef(kind="Deployment", namespace=SPACE, name="pay"), "it crashed most"
    assert "blue" in incident.event


async def test_cores_count_where_the_pod_shows_its_last_end_alone_and_no_end_counts_twice(service: Service) -> None:
    unknown(service)
    watching = watch(service, threshold=6)
    pod = pods(service)[0]
    for number in range(3):  # seen in the status first, the core is told later
        service.clock += timedelta(seconds=40)
        crash(service, pod, service.clock)
        await watching.sweep()
        await collect(service, number, service.clock - timedelta(seconds=2))
        await watching.sweep()
    for number in range(3, 5):  # told first
        service.clock += timedelta(seconds=40)
        await collect(service, number, service.clock - timedelta(seconds=2), node="n2")
        await watching.sweep()
        crash(service, pod, service.clock)
        await watching.sweep()
    service.clock += timedelta(seconds=40)
    await collect(service, 5, service.clock, node="n2")  # one that no look at the pods has seen
    await collect(service, 90, service.clock, completeness=Completeness.NOT_A_CORE)
    await collect(service, 91, service.clock, origin=None)
    await watching.sweep()
    assert await service.storms.counts(service.clock - timedelta(hours=1)) == {f"{SPACE}/workload/Deployment/cart": 6}
    assert await all_of(service) == [], "six are allowed"
    service.clock += timedelta(seconds=40)
    await collect(service, 6, service.clock, node="n3")
    await collect(service, 7, service.clock + timedelta(seconds=1), node="n3")  # a second after the first
    crash(service, pod, service.clock + timedelta(seconds=1))
    await watching.sweep()
    await watching.sweep()
    (incident,) = await all_of(service)
    assert "8 crashes of" in incident.event and "(8 crash_signal)" in incident.event
    assert incident.event.endswith("; the same crash 8 times on 3 nodes: store::put | serve")


async def test_cores_do_not_count_where_the_policy_leaves_signals_out(service: Service) -> None:
    watching = watch(service, threshold=1, crash_classes=["oom_killed"])
    for number in range(4):
        service.clock += timedelta(seconds=40)
        await collect(service, number, service.clock)
        await watching.sweep()
    assert await service.storms.counts(service.clock - timedelta(hours=1)) == {}


async def test_the_window_slides(service: Service) -> None:
    """Five crashes, never more than three within the hour."""
    watching = watch(service)
    pod = pods(service)[0]
    for _ in range(8):
        service.clock += timedelta(minutes=25)
        crash(service, pod, service.clock)
        await watching.sweep()
    assert await all_of(service) == []
    assert await service.storms.counts(service.clock - timedelta(days=1)) == {f"{SPACE}/workload/Deployment/cart": 8}
