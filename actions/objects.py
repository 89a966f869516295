"""Reading workload objects: their semantic form, fingerprints and parts.

The semantic form leaves out what the server or controllers write by themselves, so that a status update or a
heartbeat does not make an approval stale, and any edit of what matters does.
"""

from __future__ import annotations

import copy
import hashlib
from typing import Any, cast

from incidents.plan import canonical_json
from tools.kubernetes.client import Cluster, Object

API_VERSIONS = {
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "ReplicaSet": "apps/v1",
    "Job": "batch/v1",
    "CronJob": "batch/v1",
    "Pod": "v1",
    "Service": "v1",
    "Node": "v1",
}
"""The kinds that actions read and write, with the API version they are read and written in."""

CLUSTER_SCOPED = frozenset({"Node"})
_OLDER_VERSIONS = {"CronJob": "batch/v1beta1"}  # the only one before Kubernetes 1.21
_CONTROLLERS_TAINTS = "node.kubernetes.io/"  # written by the node controller as conditions and cordons come and go

_METADATA = ("name", "namespace", "labels", "annotations", "ownerReferences", "finalizers")
_VOLATILE_ANNOTATIONS = (
    "deployment.kubernetes.io/revision",  # written by the Deployment controller after each change
    "kubectl.kubernetes.io/last-applied-configuration",  # repeats the spec
    "deprecated.daemonset.template.generation",  # written by the API server itself
)


def metadata(obj: Object) -> dict[str, Any]:
    return cast("dict[str, Any]", obj.get("metadata") or {})


async def read_live(cluster: Cluster, kind: str, namespace: str | None, name: str) -> Object | None:
    """The object of a kind of `API_VERSIONS`, None where there is none. Raises the tools' errors."""
    scope = None if kind in CLUSTER_SCOPED else namespace
    found = await cluster.get(API_VERSIONS[kind], kind, scope, name)
    if found is None and kind in _OLDER_VERSIONS:
        found = await cluster.get(_OLDER_VERSIONS[kind], kind, scope, name)
    return found


def uid(obj: Object) -> str:
    return str(metadata(obj).get("uid") or "")


def generation(obj: Object) -> int:
    """0 for a kind that has none."""
    return int(metadata(obj).get("generation") or 0)


def normalise(obj: Object) -> Object:
    """Kind, meaningful metadata and spec, without status, managed and volatile fields. A deep copy."""
    kept = {key: value for key, value in metadata(obj).items() if key in _METADATA and value}
    if obj.get("kind") in ("Pod", "Node"):
        kept.pop("annotations", None)  # network plug-ins write them when a sandbox is made again
    elif "annotations" in kept:
        annotations = {key: value for key, value in kept["annotations"].items() if key not in _VOLATILE_ANNOTATIONS}
        kept.pop("annotations")
        kept |= {"annotations": annotations} if annotations else {}
    return copy.deepcopy(
        {
            "apiVersion": obj.get("apiVersion"),
            "kind": obj.get("kind"),
            "metadata": kept,
            "spec": _semantic_spec(obj),
        }
    )


def fingerprint(obj: Object) -> str:
    """sha256 of the semantic form and the uid."""
    return _sha256({"uid": uid(obj), "object": normalise(obj)})


def spec_sha256(obj: Object) -> str:
    """Of the semantic form's spec."""
    return _sha256(_semantic_spec(obj))


def template_of(obj: Object) -> Object:
    """The pod template of a workload; a Pod is its own."""
    if obj.get("kind") == "Pod":
        return {"metadata": metadata(obj), "spec": obj.get("spec") or {}}
    return cast(Object, (obj.get("spec") or {}).get("template") or {})


def find_container(obj: Object, name: str) -> tuple[str, int, dict[str, Any]] | None:
    """Where a container is in a workload's template: (`containers` or `initContainers`, index, container)."""
    spec = template_of(obj).get("spec") or {}
    for group in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(group) or []):
            if container.get("name") == name:
                return group, index, container
    return None


def container_names(template: Object) -> list[str]:
    spec = template.get("spec") or {}
    return [str(item.get("name")) for group in ("containers", "initContainers") for item in spec.get(group) or []]


def controller_of(obj: Object) -> dict[str, Any] | None:
    """The owner reference with `controller: true`."""
    owners = metadata(obj).get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), None)


def replicas(obj: Object) -> int:
    """Pods that the object wants."""
    if obj.get("kind") == "Pod":
        return 1
    if obj.get("kind") == "DaemonSet":
        return int((obj.get("status") or {}).get("desiredNumberScheduled") or 0)
    wanted = (obj.get("spec") or {}).get("replicas")
    return 1 if wanted is None else int(wanted)


def label_selector(obj: Object) -> str:
    """The object's matchLabels as a query. Pods are still to be compared by their owner's uid."""
    labels = ((obj.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def title(obj: Object) -> str:
    """Such as `Deployment shop/api`, or `Node n1`."""
    namespace = metadata(obj).get("namespace")
    return f"{obj.get('kind')} {f'{namespace}/' if namespace else ''}{metadata(obj).get('name')}"


def _semantic_spec(obj: Object) -> Object:
    """The spec; of a Node without the taints that its controller keeps."""
    spec: Object = obj.get("spec") or {}
    if obj.get("kind") != "Node" or "taints" not in spec:
        return spec
    kept = [item for item in spec["taints"] if not str(item.get("key")).startswith(_CONTROLLERS_TAINTS)]
    rest = {key: value for key, value in spec.items() if key != "taints"}
    return rest | ({"taints": kept} if kept else {})


def _sha256(value: object) -> str:
    return hashlib.sha256(canonical_json(value)).hexdigest()
