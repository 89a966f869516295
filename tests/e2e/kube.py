"""The API server as the tests use it: raw JSON over HTTPS with the kubeconfig's client certificate.

It has a user agent of its own, so that the audit log tells the tests' writes from Paramedic's.
"""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.e2e.harness import until

USER_AGENT = "test-harness"
Object = dict[str, Any]

_PATHS = {
    "ConfigMap": "api/v1/namespaces/{ns}/configmaps",
    "Event": "api/v1/namespaces/{ns}/events",
    "Namespace": "api/v1/namespaces",
    "Pod": "api/v1/namespaces/{ns}/pods",
    "Secret": "api/v1/namespaces/{ns}/secrets",
    "DaemonSet": "apis/apps/v1/namespaces/{ns}/daemonsets",
    "Deployment": "apis/apps/v1/namespaces/{ns}/deployments",
    "Job": "apis/batch/v1/namespaces/{ns}/jobs",
    "ReplicaSet": "apis/apps/v1/namespaces/{ns}/replicasets",
    "StatefulSet": "apis/apps/v1/namespaces/{ns}/statefulsets",
}


class Kube:
    """One cluster. Every method raises AssertionError with the server's words when the server says no."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        context = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
        cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == context["cluster"])
        user = next(u["user"] for u in config["users"] if u["name"] == context["user"])
        tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.TemporaryDirectory() as folder:
            certificate = Path(folder, "client.pem")
            certificate.write_bytes(
                base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"])
            )
            tls.load_cert_chain(certificate)
        self.kubeconfig = kubeconfig
        self._http = httpx.Client(
            base_url=cluster["server"], verify=tls, timeout=30, headers={"User-Agent": USER_AGENT}, trust_env=False
        )

    @classmethod
    def connect(cls) -> Kube:
        """The cluster that $KUBECONFIG names. Raises OSError, KeyError or httpx.HTTPError when there is none."""
        kube = cls(Path(os.environ["KUBECONFIG"]))
        try:
            kube._http.get("/readyz").raise_for_status()
        except httpx.HTTPError:
            kube.close()
            raise
        return kube

    def close(self) -> None:
        self._http.close()

    def call(self, method: str, path: str, **more: Any) -> Object:
        answer = self._http.request(method, f"/{path.lstrip('/')}", **more)
        assert answer.status_code < 400, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def create(self, namespace: str, *objects: Object) -> list[Object]:
        return [self.call("POST", _PATHS[item["kind"]].format(ns=namespace), json=item) for item in objects]

    def read(self, path: str) -> str:
        """What a GET answers, as text."""
        answer = self._http.get(f"/{path.lstrip('/')}")
        assert answer.status_code < 400, f"GET {path}: {answer.status_code} {answer.text[:500]}"
        return answer.text

    def find(self, kind: str, namespace: str, name: str) -> Object | None:
        answer = self._http.get(f"/{_PATHS[kind].format(ns=namespace)}/{name}")
        if answer.status_code == 404:
            return None
        assert answer.status_code < 400, answer.text[:500]
        return answer.json()

    def get(self, kind: str, namespace: str, name: str) -> Object:
        found = self.find(kind, namespace, name)
        assert found is not None, f"no {kind} {namespace}/{name}"
        return found

    def has_account(self, namespace: str) -> bool:
        """Whether the namespace has its default service account, without which no pod can be created."""
        return self._http.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/default").status_code == 200

    def all(self, kind: str, namespace: str) -> list[Object]:
        return list(self.call("GET", _PATHS[kind].format(ns=namespace))["items"])

    def patch(self, kind: str, namespace: str, name: str, change: Object) -> Object:
        """A JSON merge patch."""
        headers = {"Content-Type": "application/merge-patch+json"}
        return self.call("PATCH", f"{_PATHS[kind].format(ns=namespace)}/{name}", json=change, headers=headers)

    def replace_template(self, kind: str, namespace: str, name: str, template: Object) -> Object:
        """Roll a workload to another pod template, as a release does."""
        headers = {"Content-Type": "application/json-patch+json"}
        change = [{"op": "replace", "path": "/spec/template", "value": template}]
        return self.call("PATCH", f"{_PATHS[kind].format(ns=namespace)}/{name}", json=change, headers=headers)

    def delete(self, kind: str, namespace: str, name: str, *, grace: int | None = None) -> None:
        query = {} if grace is None else {"gracePeriodSeconds": str(grace)}
        self.call("DELETE", f"{_PATHS[kind].format(ns=namespace)}/{name}", params=query)

    def log(self, namespace: str, pod: str, container: str, *, previous: bool = False) -> str:
        query = {"container": container, "previous": str(previous).lower()}
        return self._http.get(f"/api/v1/namespaces/{namespace}/pods/{pod}/log", params=query).text

    # --- waiting --------------------------------------------------------------------------------------------------

    def statuses(self, namespace: str, container: str) -> list[Object]:
        """Status of every container of this name in pods that are not being deleted, with its `podName`, `podUid`."""
        found = []
        for pod in self.all("Pod", namespace):
            if pod["metadata"].get("deletionTimestamp"):
                continue
            for item in (pod.get("status") or {}).get("containerStatuses") or []:
                if item["name"] == container:
                    found.append(item | {"podName": pod["metadata"]["name"], "podUid": pod["metadata"]["uid"]})
        return found

    def wait_ready(self, kind: str, namespace: str, name: str, timeout: float = 120) -> Object:
        """Wait until the workload's whole rollout is ready and observed."""

        def ready() -> Object | None:
            found = self.get(kind, namespace, name)
            status, wanted = found.get("status") or {}, found["spec"].get("replicas", 1)
            done = (
                status.get("observedGeneration") == found["metadata"]["generation"]
                and status.get("updatedReplicas") == status.get("readyReplicas") == status.get("replicas") == wanted
            )
            return found if done else None

        return until(
            ready, timeout, f"{kind} {namespace}/{name} ready", show=lambda: self.get(kind, namespace, name)["status"]
        )

    def wait_container(self, namespace: str, container: str, check: Any, what: str, timeout: float = 120) -> Object:
        """Wait until one container of this name satisfies `check(status)`; returns its status."""
        return until(
            lambda: next((item for item in self.statuses(namespace, container) if check(item)), None),
            timeout,
            f"container {namespace}/{container} {what}",
            show=lambda: self.statuses(namespace, container),
        )

    def wait_event(self, namespace: str, reason: str, timeout: float = 60) -> Object:
        """The first event with this reason."""
        return until(
            lambda: next((item for item in self.all("Event", namespace) if item.get("reason") == reason), None),
            timeout,
            f"an event {reason} in {namespace}",
        )


def waiting(status: Object) -> str:
    """Why a container waits (`CrashLoopBackOff`, …), or an empty text."""
    return str(((status.get("state") or {}).get("waiting") or {}).get("reason") or "")


def terminated(status: Object) -> Object:
    """How the container ended last, or an empty object."""
    state, last = status.get("state") or {}, status.get("lastState") or {}
    return state.get("terminated") or last.get("terminated") or {}
