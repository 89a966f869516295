"""Builders of cluster objects. Names and labels are random, the interesting container is never the first."""

from __future__ import annotations

import secrets
from typing import Any

from tests.e2e.harness import name as random_name

Object = dict[str, Any]
BUSYBOX = "docker.io/local/busybox:1"


def container(name: str, image: str, command: list[str] | None = None, **more: Any) -> Object:
    item: Object = {"name": name, "image": image, "imagePullPolicy": "IfNotPresent", **more}
    return item | ({"command": command} if command else {})


def companions(count: int = 2) -> list[Object]:
    """Containers that do nothing wrong."""
    made = [
        container(random_name(), BUSYBOX, ["tail", "-f", "/dev/null"]),
        container(random_name(), BUSYBOX, ["httpd", "-f", "-p", "9099", "-h", "/etc"]),
    ]
    return made[:count]


def template(labels: dict[str, str], containers: list[Object], **more: Any) -> Object:
    spec = {"terminationGracePeriodSeconds": 1, "enableServiceLinks": False, "containers": containers, **more}
    return {"metadata": {"labels": labels}, "spec": spec}


def labels() -> dict[str, str]:
    return {secrets.token_hex(3) + "k": secrets.token_hex(4)}


def deployment(name: str, pod: Object, *, replicas: int = 1, **more: Any) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": pod["metadata"]["labels"]},
            "template": pod,
            **more,
        },
    }


def config_map(name: str, data: dict[str, str]) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def http_probe(port: int | str, path: str, **timing: int) -> Object:
    defaults = {"periodSeconds": 3, "failureThreshold": 4, "timeoutSeconds": 3}
    return {"httpGet": {"port": port, "path": path}, **defaults, **timing}


def keeping_cores(item: Object, core_dir: str) -> tuple[Object, Object]:
    """The container with its cores mounted where the kernel writes them, and the pod's volume for it.

    Its soft limit of core size is 0 under many container runtimes, so the command raises it first.
    """
    from_field = [
        ("POD_NAMESPACE", "metadata.namespace"),
        ("POD_NAME", "metadata.name"),
        ("POD_UID", "metadata.uid"),
    ]
    env = [{"name": key, "valueFrom": {"fieldRef": {"fieldPath": path}}} for key, path in from_field]
    volume = random_name()
    mount = {
        "name": volume,
        "mountPath": "/cores",
        "subPathExpr": f"$(POD_NAMESPACE)/$(POD_NAME)_$(POD_UID)/{item['name']}",
    }
    command = ["/bin/sh", "-c", 'ulimit -c unlimited; exec "$@"', "sh", *item["command"]]
    changed = item | {
        "command": command,
        "env": [*env, *item.get("env", [])],
        "volumeMounts": [mount, *item.get("volumeMounts", [])],
    }
    return changed, {"name": volume, "hostPath": {"path": core_dir, "type": "DirectoryOrCreate"}}


def normalised(found: Object) -> Object:
    """What a person means by "the object's spec is as before": the spec, as the server completes it."""
    return {"spec": found["spec"], "labels": found["metadata"].get("labels")}
