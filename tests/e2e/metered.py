"""A small shop of real pods that measure themselves: three services that call one another, and who buys there."""

from __future__ import annotations

import hashlib
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.e2e.build import CLUSTER
from tests.e2e.harness import name as random_name
from tests.e2e.harness import run, until
from tests.e2e.kube import Kube
from tests.e2e.manifests import Object, container, deployment, labels, template
from tests.standins import metered_service

PORT = 8080
MEMORY_LIMIT = "160Mi"
_LEAK_PACE = "2"
"""Seconds for each 8 MB: the kernel kills after more than half a minute."""
_DELAY = "0.4"
"""Seconds of a slow request: many times what one takes on a machine that is busy with other work."""
_BUYER = """
import sys, time, urllib.request
while True:
    try:
        urllib.request.urlopen(sys.argv[1], timeout=5).read()
    except OSError:
        pass
    time.sleep(0.15)
"""
_UNNEEDED = ("test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "site-packages", "config-*")


def image(folder: Path) -> str:
    """The reference of an image with the Python that runs the tests and the service; loaded into the cluster."""
    library = Path(sysconfig.get_path("stdlib"))
    root = folder / "root"
    shutil.copytree(library, root / "usr" / "lib" / library.name, ignore=shutil.ignore_patterns(*_UNNEEDED))
    shutil.copy(metered_service.__file__, root / "service.py")
    python = Path(sys.executable).resolve()
    added = {python: "/usr/bin/python3"}
    for part in ("binascii", "zlib", "_hashlib"):  # named, so that the libraries that they need come along
        added |= {path: f"/usr/lib/{library.name}/lib-dynload/{path.name}" for path in library.glob(f"*/{part}.*.so")}
    made_of = f"{sys.version} {sorted(added)} {(root / 'service.py').read_text()}"
    reference = f"docker.io/local/metered:{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
    more = [part for source, inside in added.items() for part in ("--add", f"{source}={inside}")]
    run(CLUSTER, "image", "--name", reference, "--rootfs", root, "--libs", *more, "--env", "PYTHONHOME=/usr")
    return reference


@dataclass
class Shop:
    """`services` call each other in this order; `began` is when one was broken."""

    kube: Kube
    image: str
    namespace: str
    services: tuple[str, str, str]
    addresses: dict[str, str]
    began: datetime = datetime.min

    @classmethod
    def open(cls, kube: Kube, image: str, run_id: str) -> Shop:
        namespace = random_name()
        meta = {"name": namespace, "labels": {"paramedic-e2e": run_id}}
        kube.call("POST", "api/v1/namespaces", json={"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        until(lambda: kube.has_account(namespace), 60, f"the default service account of {namespace}")
        shop = cls(kube, image, namespace, (random_name(), random_name(), random_name()), {})
        chosen = {service: labels() for service in shop.services}
        for service in shop.services:
            spec = {"selector": chosen[service], "ports": [{"port": PORT, "targetPort": PORT}]}
            made = kube.call(
                "POST",
                f"api/v1/namespaces/{namespace}/services",
                json={"apiVersion": "v1", "kind": "Service", "metadata": {"name": service}, "spec": spec},
            )
            shop.addresses[service] = made["spec"]["clusterIP"]
        for service in shop.services:
            kube.create(namespace, deployment(service, shop._pod(service, chosen[service])))
        command = ["python3", "-c", _BUYER, f"http://{shop.services[0]}:{PORT}/work"]
        pod = template(labels(), [shop._container("buyer", command)], hostAliases=shop._hosts())
        kube.create(namespace, deployment(random_name(), pod))
        return shop

    def wait_ready(self) -> None:
        for service in self.services:
            self.kube.wait_ready("Deployment", self.namespace, service)

    def break_it(self, service: str, kind: str) -> None:
        """Break the process that serves now."""
        (pod,) = (item for item in self.kube.statuses(self.namespace, service) if item["ready"])
        self.began = datetime.now(UTC)
        path = f"api/v1/namespaces/{self.namespace}/pods/{pod['podName']}:{PORT}/proxy/fault/{kind}"
        assert self.kube.read(path) == "ok\n"

    def roll_out(self, service: str, fault: str) -> None:
        """A release that has the fault from its start; it begins when its pod is ready, and so is called."""
        old = self.kube.get("Deployment", self.namespace, service)["spec"]["template"]["metadata"]["labels"]
        self.kube.replace_template("Deployment", self.namespace, service, self._pod(service, old, FAULT=fault))
        self.kube.wait_ready("Deployment", self.namespace, service)
        ready = [
            condition["lastTransitionTime"]
            for pod in self.kube.all("Pod", self.namespace)
            for condition in pod["status"]["conditions"]
            if (condition["type"], condition["status"]) == ("Ready", "True")
            and old.items() <= pod["metadata"]["labels"].items()
        ]
        self.began = max(datetime.fromisoformat(each) for each in ready)

    def close(self) -> None:
        self.kube.call("DELETE", f"api/v1/namespaces/{self.namespace}")

    def _pod(self, service: str, chosen: dict[str, str], **env: str) -> Object:
        position = self.services.index(service) + 1
        callee = [f"http://{name}:{PORT}" for name in self.services[position : position + 1]]
        command = ["python3", "/service.py", service, str(PORT), *callee]
        made = self._container(
            service, command, ADDRESS="0.0.0.0", PACE=_LEAK_PACE, DELAY=_DELAY, KEEP="/kept/fault", **env
        )
        made["ports"] = [{"name": "http", "containerPort": PORT}]
        made["volumeMounts"] = [{"name": "kept", "mountPath": "/kept"}]
        made["readinessProbe"] = {"tcpSocket": {"port": PORT}, "periodSeconds": 1}
        kept = {"name": "kept", "emptyDir": {}}  # outlasts the container: what leaks, leaks again
        return template(chosen, [made], hostAliases=self._hosts(), volumes=[kept])

    def _container(self, name: str, command: list[str], **env: str) -> Object:
        limits = {"limits": {"memory": MEMORY_LIMIT, "cpu": "400m"}, "requests": {"memory": "32Mi", "cpu": "10m"}}
        settings = [{"name": key, "value": value} for key, value in env.items()]
        return container(name, self.image, command, env=settings, resources=limits)

    def _hosts(self) -> list[Object]:
        """Names of the Services for the pods: not every development cluster has a name service."""
        return [{"ip": address, "hostnames": [name]} for name, address in self.addresses.items()]
