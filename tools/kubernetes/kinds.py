"""What a capture reads: each kind with the versions that clusters since Kubernetes 1.20 serve it in.

Sources: the API's deprecation guide (https://kubernetes.io/docs/reference/using-api/deprecation-guide/) for what was
where until when; https://gateway-api.sigs.k8s.io/ for the Gateway kinds, which are not part of every cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

SYSTEM = "kube-system"


@dataclass(frozen=True)
class Reading:
    """One list of objects. `versions` are asked for in order until the server knows one. `namespace` is None for kinds
    without one; `HERE` is the namespace of the capture. With `optional`, a server without the kind has no such object.
    `names_only` leaves everything but the metadata on the server. `only` keeps objects of these names."""

    kind: str
    versions: tuple[str, ...]
    namespace: str | None = None
    optional: bool = False
    names_only: bool = False
    fields: str = ""
    only: tuple[str, ...] = ()


HERE = ""
_RBAC, _ADMISSION = "rbac.authorization.k8s.io/v1", "admissionregistration.k8s.io/v1"

NAMESPACED = (
    Reading("Pod", ("v1",), HERE),
    Reading("Event", ("v1",), HERE),
    Reading("Deployment", ("apps/v1",), HERE),
    Reading("ReplicaSet", ("apps/v1",), HERE),
    Reading("StatefulSet", ("apps/v1",), HERE),
    Reading("DaemonSet", ("apps/v1",), HERE),
    Reading("ControllerRevision", ("apps/v1",), HERE),
    Reading("Job", ("batch/v1",), HERE),
    Reading("CronJob", ("batch/v1", "batch/v1beta1"), HERE),
    Reading("Service", ("v1",), HERE),
    Reading("Endpoints", ("v1",), HERE),
    Reading("EndpointSlice", ("discovery.k8s.io/v1", "discovery.k8s.io/v1beta1"), HERE),
    Reading("Ingress", ("networking.k8s.io/v1", "networking.k8s.io/v1beta1"), HERE),
    Reading("NetworkPolicy", ("networking.k8s.io/v1",), HERE),
    Reading("HTTPRoute", ("gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"), HERE, optional=True),
    Reading("Gateway", ("gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"), HERE, optional=True),
    Reading("PodDisruptionBudget", ("policy/v1", "policy/v1beta1"), HERE),
    Reading(
        "HorizontalPodAutoscaler",
        ("autoscaling/v2", "autoscaling/v2beta2", "autoscaling/v1"),
        HERE,
    ),
    Reading("ResourceQuota", ("v1",), HERE),
    Reading("LimitRange", ("v1",), HERE),
    Reading("ServiceAccount", ("v1",), HERE),
    Reading("PersistentVolumeClaim", ("v1",), HERE),
    Reading("Role", (_RBAC,), HERE),
    Reading("RoleBinding", (_RBAC,), HERE),
    Reading("ConfigMap", ("v1",), HERE, names_only=True),
    Reading("Secret", ("v1",), HERE, names_only=True),
)
"""Of the namespace itself."""

AROUND = (
    Reading("Node", ("v1",)),
    Reading("Namespace", ("v1",)),
    Reading("PersistentVolume", ("v1",)),
    Reading("StorageClass", ("storage.k8s.io/v1",)),
    Reading("ValidatingWebhookConfiguration", (_ADMISSION, f"{_ADMISSION}beta1")),
    Reading("MutatingWebhookConfiguration", (_ADMISSION, f"{_ADMISSION}beta1")),
    Reading("ClusterRoleBinding", (_RBAC,)),
    Reading("Lease", ("coordination.k8s.io/v1",), "kube-node-lease"),
    Reading("Lease", ("coordination.k8s.io/v1",), SYSTEM, only=("kube-scheduler", "kube-controller-manager")),
)
"""What the namespace rests on."""

OF_THE_SYSTEM = (
    Reading("Pod", ("v1",), SYSTEM),
    Reading("Event", ("v1",), SYSTEM),
    Reading("Deployment", ("apps/v1",), SYSTEM),
    Reading("DaemonSet", ("apps/v1",), SYSTEM),
    Reading("Service", ("v1",), SYSTEM),
    Reading("Endpoints", ("v1",), SYSTEM),
    Reading("ConfigMap", ("v1",), SYSTEM, names_only=True),
)
"""The cluster's own services: DNS, kube-proxy, the control plane's static pods."""

NODE_EVENTS = Reading("Event", ("v1",), "default", fields="involvedObject.kind=Node")
"""Events of objects without a namespace lie in `default`."""

KINDS = tuple(dict.fromkeys(reading.kind for reading in (*NAMESPACED, *AROUND, *OF_THE_SYSTEM)))
