"""Pods that crash again and again, and the watch that counts them."""

from __future__ import annotations

import copy
from datetime import datetime, timedelta
from typing import Any

from graph.storms import StormWatch
from incidents.collected import CollectedCore, Completeness, Origin
from incidents.core_jobs import CoreJobStore, ToldCore
from incidents.models import Diagnosis, DiagnosisStatus, Incident, ObjectRef
from settings import PolicySettings, Settings
from tests.graph.conftest import SPACE, Service
from tests.standins.kube_api import Object

CART = ObjectRef(kind="Deployment", namespace=SPACE, name="cart")


def watch(service: Service, **policy: Any) -> StormWatch:
    settings = PolicySettings(**({"mode": "propose", "threshold": 3} | policy))
    jobs = CoreJobStore(service.database, now=lambda: service.clock)
    return StormWatch(
        service.storms,
        service.incidents,
        jobs,
        service.runner,
        service.cluster,
        Settings().instances,
        settings,
        now=lambda: service.clock,
    )


def pods(service: Service, name: str = "cart") -> list[str]:
    return sorted(key[3] for key, pod in service.api.objects.items() if key[1] == "Pod" and key[3].startswith(name))


def crash(service: Service, pod: str, at: datetime, **state: Any) -> None:
    """The container `main` of the pod ended at `at`, and runs again."""

    def change(item: Object) -> None:
        status = item["status"]["containerStatuses"][1]
        status["restartCount"] += 1
        ended = {"exitCode": 139, "reason": "Error", "finishedAt": at.strftime("%Y-%m-%dT%H:%M:%SZ")} | state
        status["lastState"] = {"terminated": ended}

    service.controllers.asleep = True
    service.api.edit("Pod", SPACE, pod, change)
    service.controllers.asleep = False


async def storm(service: Service, watching: StormWatch, number: int, **state: Any) -> None:
    """So many crashes, one after the other, each seen twice."""
    pod = pods(service)[0]
    for _ in range(number):
        service.clock += timedelta(seconds=20)
        crash(service, pod, service.clock, **state)
        await watching.sweep()
        await watching.sweep()


async def all_of(service: Service) -> list[Incident]:
    return await service.incidents.recent(namespace=SPACE)


def unknown(service: Service) -> None:
    service.researcher.diagnosis = Diagnosis(status=DiagnosisStatus.UNKNOWN)


async def collect(service: Service, number: int, at: datetime, node: str = "n1", **changes: Any) -> None:
    """A node agent tells of a core of the first pod, dumped at `at`."""
    record = CollectedCore(
        id=f"core_{number}",
        completeness=Completeness.COMPLETE,
        dumped_at=at,
        collected_at=service.clock,
        node=node,
        origin=Origin(namespace=SPACE, pod=pods(service)[0], container="main", owner=CART),
        signature="store::put | serve",
    ).model_copy(update=changes)
    document = copy.deepcopy(record.model_dump(mode="json"))
    jobs = CoreJobStore(service.database, now=lambda: service.clock)
    await jobs.add([ToldCore(f"job_{number}", "t", "s", record.id, document)], "api:agent")
