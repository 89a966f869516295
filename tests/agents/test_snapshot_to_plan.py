"""From captured objects to a previewed plan: what the rules suggest, the gate takes.

The objects are real captured ones on a stand-in of the API server; the measurements are made up.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import pytest

from actions.gate import Gate
from agents.k8s_fixer import K8sFixer
from diagnosis.workloads.diagnose import diagnose
from diagnosis.workloads.load import load_snapshot
from diagnosis.workloads.metrics import Series
from diagnosis.workloads.snapshot import Snapshot
from incidents.database import Database
from incidents.models import Via
from incidents.plan import Plan
from incidents.store import IncidentStore
from settings import GateSettings, KubernetesSettings
from tests.standins.kube_api import KubeApi
from tests.standins.rollout import Controllers
from tools.kubernetes.client import Cluster

SNAPSHOTS = Path(__file__).parents[1] / "fixtures" / "snapshots"
MEBI = 1 << 20


def measured(snapshot: Snapshot, metric: str, values: Iterable[float]) -> Series:
    """Of an earlier pod, once a minute, for the container that asks for something."""
    item = snapshot.all("ReplicaSet")[0]
    container = next(c for c in item["spec"]["template"]["spec"]["containers"] if c.get("resources"))
    labels = {"namespace": item["metadata"]["namespace"], "pod": f"{item['metadata']['name']}-x7k2p"}
    start = snapshot.observed_at - timedelta(hours=2)
    points = [(start + timedelta(minutes=index), value) for index, value in enumerate(values)]
    return Series(metric, labels | {"container": container["name"]}, points, "metrics/made-up.json")


CASES: list[tuple[str, str, list[float], str]] = [
    ("sched_memory", "container_memory_working_set_bytes", [120.0 * MEBI] * 30, "memory: 150Mi"),
    ("quota_cpu", "container_cpu_usage_seconds_total", [index * 3.0 for index in range(30)], "cpu: 63m"),
    ("stale_credentials", "", [], "restartedAt"),
    ("stale_config", "", [], "restartedAt"),
]


@pytest.mark.parametrize(("name", "metric", "values", "shown"), CASES)
async def test_what_is_suggested_is_previewed(
    name: str,
    metric: str,
    values: list[float],
    shown: str,
    database: Database,
    incidents: IncidentStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
    saved = load_snapshot(SNAPSHOTS / name)
    series = [measured(saved, metric, values)] if metric else []
    logs = {key: saved.log(*key) or "" for key in saved.log_keys()}
    items = [copy.deepcopy(item) for item in saved.items()]
    found = diagnose(Snapshot(items, logs=logs, observed_at=saved.observed_at, complete=saved.complete, series=series))
    async with KubeApi() as api:
        api.controller = Controllers(api)
        for item in saved.items():
            if item["kind"] in ("Deployment", "Node", "ResourceQuota", "Secret", "ConfigMap"):
                api.put(copy.deepcopy(item))
        kube = KubernetesSettings(kubeconfig=api.kubeconfig(tmp_path), request_timeout=60.0)
        async with await Cluster.connect(kube) as cluster:
            target = found.causes[0].object.model_copy(update={"container": None})
            incident = await incidents.create(target, "x", requested_by="local", via=Via.CLI)
            fixer = K8sFixer(incidents, Gate(database, GateSettings(), cluster, None), None)
            offer = await fixer.run(incident, found)
    assert isinstance(offer.plan, Plan), offer.proposals
    assert shown in offer.plan.diff
    assert len(offer.plan.writes) == 1
