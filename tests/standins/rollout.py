"""Plays the workload controllers and the kubelet for the API stand-in: ReplicaSets, pods, statuses."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from tests.standins.json_patch import copied
from tests.standins.kube_api import KubeApi, Object


def deployment(
    name: str,
    namespace: str,
    *,
    replicas: int = 2,
    containers: list[Object] | None = None,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
) -> Object:
    """A Deployment as the server would have defaulted it; the second of two containers has probes."""
    default = [
        {"name": "proxy", "image": "example.test/proxy:3", "resources": {}},
        {
            "name": "main",
            "image": "example.test/app:2",
            "resources": {"limits": {"memory": "64Mi"}, "requests": {"memory": "32Mi"}},
            "env": [
                {"name": "MODE", "value": "fast"},
                {"name": "DB_PASSWORD", "value": "hunter2"},
                {"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": f"{name}-config", "key": "level"}}},
            ],
            "livenessProbe": {
                "httpGet": {"path": "/healthz", "port": 8081, "scheme": "HTTP"},
                "periodSeconds": 10,
                "timeoutSeconds": 1,
                "successThreshold": 1,
                "failureThreshold": 3,
            },
        },
    ]
    match = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels or {},
            "annotations": annotations or {},
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": match},
            "strategy": {"type": "RollingUpdate"},
            "template": {
                "metadata": {"creationTimestamp": None, "labels": dict(match)},
                "spec": {"containers": containers or default, "restartPolicy": "Always"},
            },
        },
    }


@dataclass
class Controllers:
    """Set as `api.controller`. `healthy` says whether pods of a template become ready; it may be replaced."""

    api: KubeApi
    healthy: bool = True
    restarts: int = 0
    """Restart count of the containers of unhealthy pods."""
    exit_code: int = 1
    revisions: dict[str, int] = field(default_factory=dict)
    asleep: bool = False

    def __call__(self, obj: Object) -> None:
        if self.asleep:
            return
        if obj["kind"] == "Deployment":
            self.roll(obj)
        elif obj["kind"] == "Pod":
            self._replace(obj)
        elif obj["kind"] == "Service" and obj["spec"].get("selector"):
            self._connect(obj)

    def roll(self, obj: Object) -> None:
        """Bring a Deployment to the end of its rollout: one ReplicaSet with pods, older ones empty."""
        namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
        template = copied(obj["spec"]["template"])
        mark = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
        set_name = f"{name}-{mark}"
        number = self.revisions[name] = self.revisions.get(name, 0) + 1
        template["metadata"]["labels"] = {**template["metadata"]["labels"], "pod-template-hash": mark}
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": obj["metadata"]["uid"]}
        replica_set = self.api.put(
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "metadata": {
                    "name": set_name,
                    "namespace": namespace,
                    "labels": dict(template["metadata"]["labels"]),
                    "annotations": {"deployment.kubernetes.io/revision": str(number)},
                    "ownerReferences": [owner | {"controller": True}],
                },
                "spec": {
                    "replicas": obj["spec"]["replicas"],
                    "selector": {"matchLabels": dict(template["metadata"]["labels"])},
                    "template": template,
                },
            }
        )
        for pod in self._pods(namespace, name):
            if not self.healthy or pod["metadata"]["labels"].get("pod-template-hash") != mark:
                self.api.remove("Pod", namespace, pod["metadata"]["name"])
        have = self._pods(namespace, name)
        for extra in have[obj["spec"]["replicas"] :]:
            self.api.remove("Pod", namespace, extra["metadata"]["name"])
        for index in range(len(have), obj["spec"]["replicas"]):
            self.api.put(self._pod(replica_set, f"{set_name}-{number}x{index}"))
        ready = obj["spec"]["replicas"] if self.healthy else 0
        for kind, target in (("ReplicaSet", set_name), ("Deployment", name)):
            self.api.edit(kind, namespace, target, lambda item: self._status(item, ready))

    def _status(self, item: Object, ready: int) -> None:
        wanted = item["spec"]["replicas"]
        item["status"] = {
            "observedGeneration": item["metadata"]["generation"],
            "replicas": wanted,
            "updatedReplicas": wanted,
            "readyReplicas": ready,
            "availableReplicas": ready,
        }

    def _pods(self, namespace: str, name: str) -> list[Object]:
        return [
            obj
            for (_, kind, a_namespace, _), obj in list(self.api.objects.items())
            if kind == "Pod" and a_namespace == namespace and obj["metadata"]["labels"].get("app") == name
        ]

    def _connect(self, service: Object) -> None:
        """The endpoints controller: ready pods with the labels, by the ports that they declare (or any number)."""
        namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
        wanted = service["spec"]["selector"].items()
        pods = [
            obj
            for (_, kind, a_namespace, _), obj in list(self.api.objects.items())
            if kind == "Pod" and a_namespace == namespace and wanted <= obj["metadata"]["labels"].items()
        ]
        ports = [
            {"name": item.get("name", ""), "port": item["targetPort"], "protocol": item.get("protocol", "TCP")}
            for item in service["spec"]["ports"]
        ]
        subset = {"addresses": [{"ip": f"10.0.0.{number}"} for number in range(1, len(pods) + 1)], "ports": ports}
        self.api.put(
            {
                "apiVersion": "v1",
                "kind": "Endpoints",
                "metadata": {"name": name, "namespace": namespace},
                "subsets": [subset] if pods and self.healthy else [],
            }
        )

    def _replace(self, pod: Object) -> None:
        owner = pod["metadata"]["ownerReferences"][0]
        replica_set = self.api.get("ReplicaSet", pod["metadata"]["namespace"], owner["name"])
        assert replica_set is not None
        self.api.put(self._pod(replica_set, pod["metadata"]["name"] + "r"))

    def _pod(self, replica_set: Object, name: str) -> Object:
        template = replica_set["spec"]["template"]
        meta = replica_set["metadata"]
        state: dict[str, Any] = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        last: dict[str, Any] = {}
        if not self.healthy and self.restarts:
            state = {"waiting": {"reason": "CrashLoopBackOff"}}
            last = {"terminated": {"exitCode": self.exit_code, "finishedAt": "2026-01-01T00:00:01Z"}}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": meta["namespace"],
                "labels": dict(template["metadata"]["labels"]),
                "ownerReferences": [
                    {
                        "apiVersion": "apps/v1",
                        "kind": "ReplicaSet",
                        "name": meta["name"],
                        "uid": meta["uid"],
                        "controller": True,
                    }
                ],
            },
            "spec": copied(template["spec"]),
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True" if self.healthy else "False"}],
                "containerStatuses": [
                    {
                        "name": container["name"],
                        "ready": self.healthy,
                        "restartCount": 0 if self.healthy or container["name"] != "main" else self.restarts,
                        "state": state,
                        "lastState": last if container["name"] == "main" else {},
                    }
                    for container in template["spec"]["containers"]
                ],
            },
        }
