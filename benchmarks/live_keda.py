"""KEDA itself scales a Deployment by the forecast: up before the load comes, down when it is over, and to the fallback
when the service is gone.

    eval "$(deploy/dev-cluster/keda DIR)"
    python -m benchmarks.live_keda

KEDA's operator and metrics adapter run as processes beside the native development cluster, with its own definitions,
and the ScaledObject of docs/forecast.md. The load is an exporter's, scraped by a Prometheus that knows six days of it,
with a surge at the same time each day, the next one some minutes from now. It takes ten minutes. Exit status 1 when a
step was not seen. What it puts into the cluster is taken away again; it starts nothing where KEDA is installed already.
"""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.e2e.harness import ROOT, NotInTime, run, until
from tests.e2e.harness import name as random_name
from tests.e2e.kube import Kube
from tests.e2e.manifests import companions, deployment, labels, template
from tests.e2e.service import REQUESTER, Service
from tests.standins.prometheus_server import free_port

Object = dict[str, Any]
CALM, SURGE, EACH, LEAD = 60.0, 450.0, 100.0, 60.0
"""Loads, what an instance bears, and seconds until it serves."""
BEFORE, LONG, STEP = 300, 240, 60
"""Seconds until the surge, of the surge, and between loads of the table."""
NEEDED = 5
_GROUP = "external.metrics.k8s.io"


def main() -> int:
    folder = os.environ.get("PARAMEDIC_KEDA")
    if not folder:
        print("not run: PARAMEDIC_KEDA names no folder with KEDA's programs; deploy/dev-cluster/keda makes one")
        return 0
    kube = Kube.connect()
    with tempfile.TemporaryDirectory(prefix="paramedic-keda-") as made, ExitStack() as stack:
        stack.callback(kube.close)
        return _measure(kube, Path(folder), Path(made), stack)


def _measure(kube: Kube, programs: Path, made: Path, stack: ExitStack) -> int:
    surge = time.time() // STEP * STEP + BEFORE
    namespace, workload = random_name(), random_name()
    served = {"name": "shop", "query": "max(offered_load)", "per_instance": EACH, "lead_seconds": LEAD}
    prometheus = {"url": stack.enter_context(_loaded(made, surge))}
    service = Service(made / "service", {"forecast": {"step_seconds": float(STEP)}, "prometheus": prometheus})
    stack.callback(service.close)
    service.start(PARAMEDIC_FORECAST__SERVICES=json.dumps([served]))
    stack.enter_context(_cluster(kube, programs, namespace))
    chosen = labels()
    pods = deployment(workload, template(chosen, companions(1)))
    kube.create(namespace, pods, _key(service.keys[REQUESTER]))
    kube.wait_ready("Deployment", namespace, workload)
    processes = stack.enter_context(_keda(kube, programs, made, namespace))
    base = f"apis/keda.sh/v1alpha1/namespaces/{namespace}"
    kube.call("POST", f"{base}/triggerauthentications", json=_authentication(namespace))
    kube.call("POST", f"{base}/scaledobjects", json=_scaled(namespace, workload, service.url))

    def seen(what: str, check: Callable[[int], bool], until: float) -> float:
        """When the Deployment had come to it."""
        last = -1
        while time.time() < until:
            replicas = int(kube.get("Deployment", namespace, workload)["spec"]["replicas"])
            if replicas != last:
                print(f"{datetime.now(UTC):%H:%M:%S}  {replicas} instances")
                last = replicas
            if check(replicas):
                return time.time()
            for process in processes:
                if process.poll() is not None:
                    raise NotInTime(f"{process.args!r} ended with {process.returncode}")
            time.sleep(1)
        raise NotInTime(f"{what}; {last} instances. {_conditions(kube, base)}")

    try:
        up = seen(f"{NEEDED} instances", lambda replicas: replicas >= NEEDED, surge + LONG)
        print(f"{NEEDED} instances {surge - up:.0f} s before the load of {SURGE:g} comes")
        print(f"{_GROUP} says {_metric(kube, namespace)}")
        down = seen("1 instance", lambda replicas: replicas == 1, surge + LONG + 300)
        print(f"1 instance {down - surge - LONG:.0f} s after it is over")
        service.kill()
        gone = time.time()
        seen("the fallback", lambda replicas: replicas == 6, gone + 300)
        print(f"the fallback of 6 instances {time.time() - gone:.0f} s after the service was killed")
    except NotInTime as error:
        print(f"not seen: {error}")
        return 1
    return 0 if up < surge and down > surge + LONG else 1


def _load(at: float, surge: float) -> float:
    return (SURGE if (at - surge) % 86_400 < LONG else CALM) * random.uniform(0.97, 1.0)


@contextmanager
def _loaded(made: Path, surge: float) -> Iterator[str]:
    """The URL of a Prometheus that has six days of the load and scrapes it on."""

    class Exporter(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"offered_load {_load(time.time(), surge):.2f}\n".encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    now = time.time() // STEP * STEP
    times = [now - index * STEP for index in range(6 * 86_400 // STEP, 0, -1)]
    lines = [
        "# TYPE offered_load gauge",
        *(f"offered_load {_load(at, surge):.2f} {at:.0f}" for at in times),
        "# EOF",
        "",
    ]
    (made / "history.txt").write_text("\n".join(lines))
    run("promtool", "tsdb", "create-blocks-from", "openmetrics", made / "history.txt", made / "tsdb")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        exporter = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Exporter))
        threading.Thread(target=exporter.serve_forever, daemon=True).start()
        stack.callback(exporter.shutdown)
        job = {"job_name": "load", "static_configs": [{"targets": [f"127.0.0.1:{exporter.server_port}"]}]}
        config = {"global": {"scrape_interval": "5s"}, "scrape_configs": [job]}
        (made / "prometheus.yml").write_text(json.dumps(config))
        command = ["prometheus", f"--config.file={made}/prometheus.yml", f"--storage.tsdb.path={made}/tsdb",
                   f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]  # fmt: skip
        stack.callback(_ended, subprocess.Popen(command))
        until(lambda: _answers(f"{url}/-/ready"), 60, "Prometheus answers")
        yield url


@contextmanager
def _cluster(kube: Kube, programs: Path, namespace: str) -> Iterator[None]:
    """The namespace, KEDA's definitions, the Service that stands for the adapter, and who may read its metrics."""
    with ExitStack() as stack:

        def put(path: str, item: Object) -> None:
            kube.call("POST", path, json=item)
            stack.callback(kube.call, "DELETE", f"{path}/{item['metadata']['name']}")

        for path in sorted((programs / "crds").glob("*.yaml")):
            put("apis/apiextensions.k8s.io/v1/customresourcedefinitions", yaml.safe_load(path.read_text()))
        put("api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        rules = [{"apiGroups": [_GROUP], "resources": ["*"], "verbs": ["get", "list"]},
                 {"nonResourceURLs": [f"/apis/{_GROUP}", f"/apis/{_GROUP}/*"], "verbs": ["get"]}]  # fmt: skip
        rbac = "apis/rbac.authorization.k8s.io/v1"
        put(f"{rbac}/clusterroles", {"metadata": {"name": namespace}, "rules": rules})
        readers = [{"kind": "ServiceAccount", "name": "horizontal-pod-autoscaler", "namespace": "kube-system"},
                   # the development cluster's API server forwards requests without saying whose they are
                   {"kind": "User", "name": "system:anonymous", "apiGroup": "rbac.authorization.k8s.io"}]  # fmt: skip
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": namespace}
        put(f"{rbac}/clusterrolebindings", {"metadata": {"name": namespace}, "roleRef": role, "subjects": readers})
        yield


@contextmanager
def _keda(kube: Kube, programs: Path, made: Path, namespace: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Operator and adapter, and the adapter registered with the API server."""
    kubeconfig, port = str(kube.kubeconfig), free_port()
    commands = [
        [str(programs / "keda"), f"--metrics-bind-address=127.0.0.1:{free_port()}",
         f"--health-probe-bind-address=127.0.0.1:{free_port()}"],
        [str(programs / "keda-adapter"), f"--secure-port={port}", f"--cert-dir={made / 'certificates'}",
         f"--lister-kubeconfig={kubeconfig}", f"--authentication-kubeconfig={kubeconfig}",
         f"--authorization-kubeconfig={kubeconfig}", "--authentication-skip-lookup", f"--metrics-port={free_port()}",
         "--logtostderr=true"],
    ]  # fmt: skip
    environment = {**os.environ, "KUBECONFIG": kubeconfig, "WATCH_NAMESPACE": namespace}
    (node,) = kube.call("GET", "api/v1/nodes")["items"]
    address = next(each["address"] for each in node["status"]["addresses"] if each["type"] == "InternalIP")
    name = "keda-metrics-apiserver"
    meta = {"metadata": {"name": name}}
    kube.call("POST", f"api/v1/namespaces/{namespace}/services", json={**meta, "spec": {"ports": [{"port": 443}]}})
    subsets = [{"addresses": [{"ip": address}], "ports": [{"port": port}]}]
    kube.call("POST", f"api/v1/namespaces/{namespace}/endpoints", json={**meta, "subsets": subsets})
    registered = f"v1beta1.{_GROUP}"
    spec = {"service": {"name": name, "namespace": namespace}, "group": _GROUP, "version": "v1beta1",
            "insecureSkipTLSVerify": True, "groupPriorityMinimum": 100, "versionPriority": 100}  # fmt: skip
    apis = "apis/apiregistration.k8s.io/v1/apiservices"
    processes: list[subprocess.Popen[bytes]] = []
    with ExitStack() as stack:
        stack.callback(_unscaled, kube, namespace)
        for command in commands:
            with Path(made / f"{Path(command[0]).name}.log").open("wb") as log:
                processes.append(subprocess.Popen(command, cwd=made, env=environment, stdout=log, stderr=log))
            stack.callback(_ended, processes[-1])
        until(lambda: _answers(f"https://127.0.0.1:{port}/healthz"), 60, "KEDA's adapter answers")
        # only while it answers: an API that does not would keep every namespace of the cluster from being deleted
        kube.call("POST", apis, json={"metadata": {"name": registered}, "spec": spec})
        stack.callback(kube.call, "DELETE", f"{apis}/{registered}")
        yield processes


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:  # KEDA's adapter leaves one of its threads waiting
        process.kill()
        process.wait(5)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, verify=False, trust_env=False).status_code < 500  # KEDA's certificate is made by itself
    except httpx.HTTPError:
        return False


def _unscaled(kube: Kube, namespace: str) -> None:
    """Without the operator nobody would remove the mark that keeps a ScaledObject from being deleted."""
    base = f"apis/keda.sh/v1alpha1/namespaces/{namespace}/scaledobjects"
    headers = {"Content-Type": "application/merge-patch+json"}
    for item in kube.call("GET", base)["items"]:
        path = f"{base}/{item['metadata']['name']}"
        kube.call("PATCH", path, json={"metadata": {"finalizers": None}}, headers=headers)
        kube.call("DELETE", path)


def _key(key: str) -> Object:
    data = {"token": base64.b64encode(key.encode()).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "paramedic-key"}, "data": data}


def _authentication(namespace: str) -> Object:
    refs = [{"parameter": "token", "name": "paramedic-key", "key": "token"}]
    meta = {"name": "paramedic-key", "namespace": namespace}
    return {"apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication", "metadata": meta,
            "spec": {"secretTargetRef": refs}}  # fmt: skip


def _scaled(namespace: str, workload: str, url: str) -> Object:
    """That of the documentation, about another Deployment and asked elsewhere; and down without a wait of minutes."""
    text = (ROOT / "docs" / "forecast.md").read_text()
    item: Object = yaml.safe_load(text.partition("```yaml")[2].partition("```")[0])
    item["metadata"] = {"name": workload, "namespace": namespace}
    spec = item["spec"]
    spec["scaleTargetRef"]["name"] = workload
    asked = spec["triggers"][0]["metadata"]
    asked["url"] = f"{url}/{asked['url'].partition('//')[2].partition('/')[2]}"
    down = {"scaleDown": {"stabilizationWindowSeconds": 0}}
    spec["advanced"] = {"horizontalPodAutoscalerConfig": {"behavior": down}}
    spec["pollingInterval"] = 10
    return item


def _metric(kube: Kube, namespace: str) -> str:
    (scaler,) = kube.call("GET", f"apis/autoscaling/v2beta2/namespaces/{namespace}/horizontalpodautoscalers")["items"]
    name = scaler["spec"]["metrics"][0]["external"]["metric"]["name"]
    scaled = scaler["spec"]["scaleTargetRef"]["name"]
    path = f"/apis/{_GROUP}/v1beta1/namespaces/{namespace}/{name}?labelSelector=scaledobject.keda.sh%2Fname%3D{scaled}"
    return run("kubectl", f"--kubeconfig={kube.kubeconfig}", "get", "--raw", path).strip()


def _conditions(kube: Kube, base: str) -> str:
    found = kube.call("GET", f"{base}/scaledobjects")["items"]
    told = [each.get("message", "") for item in found for each in (item.get("status") or {}).get("conditions", [])]
    return "; ".join(told)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what is in the cluster is taken away then, too
    sys.exit(main())
