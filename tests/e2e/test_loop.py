"""No blocking call in the event loop: whole incidents in this process, with every blocking call an error."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

from graph.services import Services, open_services
from incidents.models import CoreRef, IncidentStatus, ObjectRef, Via
from settings import CoreSettings, GateSettings, KubernetesSettings, Settings
from tests.e2e.build import Images
from tests.e2e.cores import CoreFolder
from tests.e2e.kube import Kube
from tests.e2e.stage import Stage
from tests.standins.feishu import FeishuStandIn


@pytest.mark.scenario("crash_after_release")
async def test_nothing_blocks_the_event_loop(
    stage: Stage, images: Images, cores: CoreFolder, kube: Kube, tmp_path: Path
) -> None:
    """A crash on the cluster from report to verified rollback, and a core without a cluster, beside a chat."""
    made = await asyncio.to_thread(stage.take, "crash_after_release")
    core = cores.of(made.namespace, made.container)[-1]  # the oldest is surely complete
    with FeishuStandIn() as feishu:
        settings = Settings(
            data_dir=tmp_path / "data",
            kubernetes=KubernetesSettings(kubeconfig=kube.kubeconfig),
            core=CoreSettings(node_dir=cores.here, executable_dirs=[images.executables]),
            gate=GateSettings(verify_seconds=60, verify_stable_seconds=4, approvers={"api:physician": ["approver"]}),
            feishu=feishu.settings(),
        )
        async with open_services(settings) as services:
            stop = asyncio.Event()
            deliveries = asyncio.create_task(services.notifier.run(stop))
            with blockbuster_ctx():
                await services.runner.start()
                fixed = await _see_through(
                    services, ObjectRef(kind="Deployment", namespace=made.namespace, name=made.name)
                )
                read = await services.runner.submit(
                    ObjectRef(kind="Process", name="quotes"),
                    "a core",
                    requested_by="api:pager",
                    via=Via.API,
                    core=CoreRef(path=str(core), executable=str(images.executables / "quotes-2")),
                )
                status = await _ended(services, read.id)
                stop.set()
                await deliveries
            steps = await services.incidents.steps(read.id)
            assert status is IncidentStatus.DIAGNOSED, steps
            assert fixed is IncidentStatus.FIXED
            assert feishu.messages


async def _see_through(services: Services, target: ObjectRef) -> IncidentStatus:
    incident = await services.runner.submit(target, "it crashes", requested_by="api:pager", via=Via.API)
    for _ in range(300):
        if (await services.incidents.get(incident.id)).status is IncidentStatus.AWAITING_APPROVAL:
            break
        await asyncio.sleep(0.2)
    (approval,) = await services.approvals.list(incident_id=incident.id)
    await services.runner.decide(
        approval.id,
        identity="api:physician",
        verdict="approve",
        digest=approval.digest,
        waive_evidence=False,
        channel="api",
        reason=None,
    )
    return await _ended(services, incident.id)


async def _ended(services: Services, incident_id: str) -> IncidentStatus:
    for _ in range(600):
        status = (await services.incidents.get(incident_id)).status
        if status.ended:
            break
        await asyncio.sleep(0.2)
    errors = [step.text for step in await services.incidents.steps(incident_id) if step.type == "error"]
    assert errors == []
    return status
