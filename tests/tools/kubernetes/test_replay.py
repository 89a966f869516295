"""A namespace as a real API server showed it, replayed: capture and diagnosis on recorded bytes.

Recorded against the development cluster (Kubernetes 1.20) with a Deployment whose liveness probe asks the wrong port:
`KUBECONFIG=… .venv/bin/pytest --record-mode=rewrite tests/tools/kubernetes/test_replay.py` makes the workload, waits
until its container was killed, records, and removes it again. Addresses of nodes and pods are replaced.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from diagnosis.workloads.diagnose import diagnose
from incidents.models import CauseClass, ObjectRef
from settings import KubernetesSettings
from tools.kubernetes.capture import capture
from tools.kubernetes.client import Cluster

SPACE = "recorded-teal"
TARGET = ObjectRef(kind="Deployment", namespace=SPACE, name="lark")
_CERTIFICATE = re.compile(r"LS0tLS1CRUdJTi[A-Za-z0-9+/=]+")
_ADDRESS = re.compile(r"\b10\.\d{1,3}\.\d{1,3}\.\d{1,3}\b")


def manifest() -> dict[str, Any]:
    serve = ["sh", "-c", "mkdir -p /www && echo ok > /www/index.html && exec httpd -f -p 8080 -h /www"]
    main = {
        "name": "heron",
        "image": "docker.io/local/busybox:1",
        "imagePullPolicy": "IfNotPresent",
        "command": serve,
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 2},
        "livenessProbe": {"httpGet": {"path": "/", "port": 8081}, "periodSeconds": 2, "failureThreshold": 2},
    }
    beside = {**main, "name": "sidecar", "command": ["sleep", "86400"], "ports": []}
    pod = {
        "terminationGracePeriodSeconds": 1,
        "containers": [{key: value for key, value in beside.items() if "Probe" not in key}, main],
    }
    labels = {"bird": "lark"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": TARGET.name, "namespace": SPACE},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }


def kubectl(*arguments: str, text: str | None = None) -> str:
    command = ["kubectl", "--request-timeout=20s", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def kubeconfig(record_mode: str, tmp_path: Path) -> Iterator[Path]:
    """The real cluster's while recording; else one that leads nowhere."""
    if record_mode == "none":
        path = tmp_path / "kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path.write_text(yaml.safe_dump(config))
        yield path
        return
    kubectl("create", "namespace", SPACE)
    try:
        kubectl("apply", "-f", "-", text=json.dumps(manifest()))
        for _ in range(300):
            pods = json.loads(kubectl("get", "pods", "-n", SPACE, "-o", "json"))["items"]
            statuses = [status for pod in pods for status in pod["status"].get("containerStatuses", [])]
            if any(status["restartCount"] >= 2 for status in statuses):
                break
            time.sleep(0.2)
        yield Path(os.environ["KUBECONFIG"])
    finally:
        kubectl("delete", "namespace", SPACE, "--wait=false")


def _scrub(response: dict[str, Any]) -> dict[str, Any]:
    response["headers"] = {name: value for name, value in response["headers"].items() if name.lower() == "content-type"}
    body = response["body"]["string"]
    text = body.decode() if isinstance(body, bytes) else body
    read = json.loads(text) if text.startswith("{") else {}
    if read.get("kind") == "Secret":  # its keys are part of the capture, its values are nobody's business
        text = json.dumps({**read, "data": dict.fromkeys(read.get("data", {}), "")})
    text = _CERTIFICATE.sub("SCRUBBED", _ADDRESS.sub("192.0.2.7", text))  # webhooks of others on the same cluster
    response["body"]["string"] = text.encode()
    return response


def _without_host(request: Any) -> Any:
    request.uri = "http://127.0.0.1:9" + re.sub(r"^https?://[^/]+", "", request.uri)
    return request


@pytest.fixture(scope="module")
def vcr_config() -> dict[str, Any]:
    return {
        "match_on": ["method", "path", "query"],
        "filter_headers": [("authorization", None), ("user-agent", None)],
        "before_record_request": _without_host,
        "before_record_response": _scrub,
    }


@pytest.mark.vcr
async def test_a_recorded_namespace_is_captured_and_diagnosed(kubeconfig: Path) -> None:
    async with await Cluster.connect(KubernetesSettings(kubeconfig=kubeconfig)) as cluster:
        snapshot = await capture(cluster, SPACE, TARGET)
    snapshot.observed_at = snapshot._newest_time() or snapshot.observed_at  # the recording was read then, not now
    found = diagnose(snapshot, target=TARGET, namespace=SPACE)
    cause = found.causes[0]
    assert cause.cause_class is CauseClass.WRONG_LIVENESS_PROBE
    assert cause.object == TARGET.model_copy(update={"container": "heron"})
    assert (cause.facts["observed"], cause.facts["suggested"]) == (8081, 8080)
    known = {item.id for item in found.evidence}
    assert all(set(finding.evidence_ids) <= known for finding in found.findings)
