"""From the node to the incident: pods of every kind, admitted by the real webhook, dump core; each collected once."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import manifests as make
from tests.e2e.build import Images
from tests.e2e.collecting import DUMP, LAYERS, Process, create_pod, jobs_of, opt_in, webhook
from tests.e2e.conftest import Services
from tests.e2e.cores import CoreFolder
from tests.e2e.harness import name as random_name
from tests.e2e.harness import until
from tests.e2e.kube import Kube
from tests.e2e.service import REQUESTER, Service
from tests.e2e.stage import Stage

Object = dict[str, Any]
LABEL = "paramedic-e2e-cores"


@dataclass
class Site:
    """A service, an agent and a webhook around one folder of the node and one store."""

    service: Service
    agent: Process
    webhook: Process
    kube: Kube
    stage: Stage
    cores: CoreFolder
    store: Path

    def namespace(self) -> str:
        found = self.stage.namespace()
        opt_in(self.kube, found, LABEL)
        return found

    def create_pod(self, namespace: str, pod: Object) -> Object:
        return create_pod(self.kube, namespace, pod)

    def incident(self, namespace: str, kind: str, name: str) -> Object | None:
        page = self.service.ask("GET", f"/api/v1/incidents?namespace={namespace}")
        wanted = {"kind": kind, "namespace": namespace, "name": name}
        found = [item for item in page["incidents"] if {key: item["target"][key] for key in wanted} == wanted]
        assert len(found) <= 1, f"one storm is one incident: {found}"
        return found[0] if found else None

    def jobs(self, namespace: str) -> list[Object]:
        return jobs_of(self.service, namespace)


@pytest.fixture(scope="module")
def site(
    kube: Kube,
    images: Images,
    stage: Stage,
    cores: CoreFolder,
    services: Services,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("collecting")
    (folder / "store").mkdir()
    # its own place in the run's folder: what other tests' pods dumped is not to be collected here as well
    cores = CoreFolder(cores.here / folder.name, f"{cores.on_node}/{folder.name}")
    cores.here.mkdir()
    store = {"url": (folder / "store").as_uri()}
    service = services(store=store, core={"executable_dirs": []}).start()
    agent = Process(
        folder / "agent",
        ["collect"],
        {
            "collector": {
                "roots": [str(cores.here)],
                "node_name": kube.call("GET", "api/v1/nodes")["items"][0]["metadata"]["name"],
                "settle_seconds": 5,
                "service_url": f"{service.url}/api/v1/events",
                "service_key": service.keys[REQUESTER],
                "image_layers": LAYERS,
            },
            "store": store,
            "shipping": {"disk_reserve_bytes": 0},
            "kubernetes": {"kubeconfig": str(kube.kubeconfig)},
        },
    ).start()
    with webhook(kube, folder / "webhook", cores.on_node, LABEL) as admission:
        agent.says('"event": "collecting"')
        yield Site(service, agent, admission, kube, stage, cores, folder / "store")
    agent.stop()


def pod_template(images: Images, container: str, **annotations: str) -> Object:
    first, last = make.companions()
    crasher = make.container(container, images.quotes_next, DUMP)
    found = make.template(make.labels(), [first, crasher, last])
    found["metadata"]["annotations"] = {"paramedic.io/inject": "true", **annotations}
    return found


def workloads(images: Images, container: str) -> list[Object]:
    """One of every kind, each with a second container of three that dumps core."""
    made = []
    for kind in ("Deployment", "StatefulSet", "DaemonSet", "Job", "Pod"):
        template = pod_template(images, container, **{"paramedic.io/container": container})
        name = random_name()
        selector = {"matchLabels": template["metadata"]["labels"]}
        if kind == "Pod":
            item = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, **template["metadata"]}}
            item["spec"] = {**template["spec"], "restartPolicy": "Never"}
        elif kind == "Job":
            template["spec"]["restartPolicy"] = "Never"
            item = {"apiVersion": "batch/v1", "kind": kind, "metadata": {"name": name}}
            item["spec"] = {"backoffLimit": 0, "template": template}
        else:
            item = {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}}
            item["spec"] = {"selector": selector, "template": template}
            if kind != "DaemonSet":
                item["spec"]["replicas"] = 1
            if kind == "StatefulSet":
                item["spec"]["serviceName"] = name
        made.append(item)
    return made


def test_every_kind_of_pod_ends_in_one_incident_with_a_verified_core(site: Site, images: Images) -> None:
    namespace, container = site.namespace(), random_name()
    items = workloads(images, container)
    for item in items:
        if item["kind"] == "Pod":
            site.create_pod(namespace, item)
        else:
            site.kube.create(namespace, item)
    for item in items:
        kind, name = item["kind"], item["metadata"]["name"]
        found = until(
            lambda kind=kind, name=name: site.incident(namespace, kind, name),  # type: ignore[misc]
            180,
            f"the incident of {kind} {name}",
            show=lambda: site.agent.log()[-3000:],
        )
        job = until(
            lambda id=found["id"]: next(  # type: ignore[misc]
                (job for job in site.jobs(namespace) if job["incident_id"] == id), None
            ),
            30,
            f"the job of {kind} {name}",
        )
        core = job["core"]
        origin = core["origin"]
        assert (origin["container"], origin["node"]) == (container, core["node"])
        assert origin["owner"] == {"kind": kind, "namespace": namespace, "name": name, "container": None}
        pod = site.kube.find("Pod", namespace, origin["pod"])
        if pod is not None:
            status = next(item for item in pod["status"]["containerStatuses"] if item["name"] == container)
            assert origin["image_digest"] and origin["image_digest"] in status["imageID"]
        assert core["completeness"] == "complete" and core["signal"] == 11 and core["executable"] == "/app/quotes"
        stored = {one["kind"]: one for one in core["stored"]}
        assert "minimal" in stored
        for one in core["stored"]:
            assert hashlib.sha256((site.store / one["key"]).read_bytes()).hexdigest() == one["sha256"]
        assert site.store / stored["minimal"]["key"] in site.store.glob(f"paramedic/{namespace}/*/*/*")
        report = site.service.ask("GET", f"/api/v1/incidents/{found['id']}")
        until(
            lambda id=found["id"]: (  # type: ignore[misc]
                (site.service.ask("GET", f"/api/v1/incidents/{id}").get("diagnosis") or {}).get("crash")
            ),
            120,
            f"the report of {kind}: {report['incident']['status']}",
        )
        crash = site.service.ask("GET", f"/api/v1/incidents/{found['id']}")["diagnosis"]["crash"]
        assert "Exchange::quote" in json.dumps(crash["threads"][0]["frames"][:3]), "named: its program was stored too"
    kinds = {one["kind"] for job in site.jobs(namespace) for one in job["core"]["stored"]}
    assert kinds >= {"minimal", "full", "executable", "library"}, "of a new crash the whole core, and its program, once"
    # those that ended for good: their folder on the node is empty again, and each core was told once
    for item in items:
        if item["kind"] in ("Job", "Pod"):
            name = item["metadata"]["name"]
            told = [job for job in site.jobs(namespace) if job["core"]["origin"]["owner"]["name"] == name]
            assert len(told) == 1
            pod_uid = told[0]["core"]["origin"]["pod_uid"]
            until(
                lambda uid=pod_uid: not list(site.cores.here.glob(f"{namespace}/*_{uid}/*/core*")),  # type: ignore[misc]
                60,
                "the node's file gone",
            )
    assert site.agent.memory_mb() < 150


def test_a_second_admission_changes_nothing_and_what_may_not_be_mounted_is_left_alone(
    site: Site, images: Images
) -> None:
    namespace = site.namespace()
    template = pod_template(images, "app")
    template["spec"]["containers"] = [make.container("app", make.BUSYBOX, ["sleep", "600"])]
    first = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": random_name(), **template["metadata"]}}
    first["spec"] = template["spec"]
    made = site.create_pod(namespace, first)
    assert mounts(made) == ["/cores"]
    again = copy.deepcopy(made)
    again["metadata"] = {key: made["metadata"][key] for key in ("labels", "annotations")} | {"name": random_name()}
    again["spec"].pop("nodeName", None)
    again.pop("status", None)
    second = site.create_pod(namespace, again)
    assert mounts(second) == ["/cores"]
    assert second["spec"]["volumes"] == made["spec"]["volumes"]
    assert second["spec"]["containers"][0]["env"] == made["spec"]["containers"][0]["env"]
    for path in ("/", "//", "/etc", "/etc/../etc", "//var", "/./usr/lib", "/corefile/../bin", "/var/run/x", "relative"):
        refused = copy.deepcopy(first)
        refused["metadata"] |= {"name": random_name()}
        refused["metadata"]["annotations"] = {"coredog.io/inject": "true", "coredog.io/path": path}
        found = site.create_pod(namespace, refused)
        assert mounts(found) == [], path


def test_a_webhook_that_is_down_blocks_no_pod(site: Site, images: Images) -> None:
    namespace = site.namespace()
    site.webhook.kill()
    template = pod_template(images, "app")
    template["spec"]["containers"] = [make.container("app", make.BUSYBOX, ["sleep", "600"])]
    item = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": random_name(), **template["metadata"]}}
    found = site.create_pod(namespace, {**item, "spec": template["spec"]})
    assert mounts(found) == []


def mounts(pod: Object) -> list[str]:
    """Mount paths of the first container that are ours."""
    found = pod["spec"]["containers"][0].get("volumeMounts") or []
    return [item["mountPath"] for item in found if item["name"] == "paramedic-cores"]
