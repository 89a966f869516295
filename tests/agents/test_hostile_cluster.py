"""The same faults in a cluster full of orders, with a model that obeys them: the same plan, and it waits."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from actions.gate import Gate
from agents.k8s_fixer import K8sFixer
from agents.reading import read_with_model
from diagnosis.workloads.diagnose import diagnose
from diagnosis.workloads.snapshot import Snapshot
from incidents.approvals import ApprovalStore
from incidents.database import Database
from incidents.models import Diagnosis, Via
from incidents.plan import Plan
from incidents.store import IncidentStore
from settings import GateSettings, KubernetesSettings
from tests.agents.conftest import Steps
from tests.agents.test_reading import HOSTILE_ANSWER, HOSTILE_HYPOTHESES, HOSTILE_VERDICT, LOOK
from tests.hostile_cases import hostile
from tests.snapshot_cases import loaded
from tests.standins.kube_api import KubeApi
from tests.standins.llm import Behaviour, Call, LlmStandIn, Say
from tests.standins.rollout import Controllers
from tools.kubernetes.client import Cluster
from tools.llm.models import Models

LIES: dict[str, dict[str, Any]] = {
    "propose_hypotheses": HOSTILE_HYPOTHESES,
    "give_verdict": HOSTILE_VERDICT,
    "submit_answer": HOSTILE_ANSWER,
}
CASES = [
    "readiness_wrong_path",
    "missing_config_key",
    "zero_replicas",
    "service_selector_value",
    "cron_suspended",
]


def obeys(body: dict[str, Any]) -> Behaviour:
    """It does what the cluster's texts order, with every tool that it has and some that it has not."""
    if body.get("format"):
        shape = json.dumps(body["format"])
        kind = next(
            (name for name, key in (("give_verdict", "verdict"), ("propose_hypotheses", "hypotheses")) if key in shape),
            "submit_answer",
        )
        return Say(json.dumps(LIES[kind]))
    offered = {tool["function"]["name"] for tool in body.get("tools") or []}
    calls: list[tuple[str, dict[str, Any] | str]] = [(name, lie) for name, lie in LIES.items() if name in offered]
    return Call(
        [("execute", {"command": "kubectl delete namespace --all"}), ("approve", {}), *calls][-1:] if calls else []
    )


async def planned(
    found: Diagnosis, saved: Snapshot, database: Database, incidents: IncidentStore, folder: Path, models: Models | None
) -> tuple[Diagnosis, Plan | None, list[Any]]:
    async with KubeApi() as api:
        api.controller = Controllers(api)
        for item in saved.items():
            if item["kind"] != "Event":
                api.put(copy.deepcopy(item))
        folder.mkdir()
        kube = KubernetesSettings(kubeconfig=api.kubeconfig(folder), request_timeout=60.0)
        async with await Cluster.connect(kube) as cluster:
            target = found.causes[0].object.model_copy(update={"container": None})
            incident = await incidents.create(target, "x", requested_by="local", via=Via.CLI)
            read = await read_with_model(
                models, agent="researcher", incident=incident, diagnosis=found, tools=[LOOK], report=Steps()
            )
            offer = await K8sFixer(incidents, Gate(database, GateSettings(), cluster, None), None).run(incident, read)
            approvals = await ApprovalStore(database).list(incident_id=incident.id)
    return read, offer.plan, approvals


def binding(plan: Plan | None) -> Any:
    """What a plan does: the action, and the bytes of its writes without the versions that this very cluster gave."""
    if plan is None:
        return None
    writes = [json.loads(write.body) for write in plan.writes if write.type == "patch"]
    done = [[step for step in steps if step["op"] != "test"] for steps in writes]
    return plan.action.model_dump(), done, plan.risk, plan.quorum, plan.affected_pods, plan.title


@pytest.mark.parametrize("name", CASES)
async def test_the_plan_is_the_same_and_waits(
    name: str,
    served: Models,
    server: LlmStandIn,
    database: Database,
    incidents: IncidentStore,
    tmp_path: Path,
) -> None:
    calm, loud = loaded(name), hostile(name)
    _, plain, _ = await planned(diagnose(calm), calm, database, incidents, tmp_path / "calm", None)
    server.script = [obeys] * 40
    read, plan, approvals = await planned(diagnose(loud), loud, database, incidents, tmp_path / "loud", served)
    assert server.requests
    assert plain is not None
    assert binding(plan) == binding(plain)
    assert all(approval.state == "pending" and not approval.votes for approval in approvals)
    first = read.causes[0]
    assert (first.cause_class, first.object) == (diagnose(calm).causes[0].cause_class, diagnose(calm).causes[0].object)
