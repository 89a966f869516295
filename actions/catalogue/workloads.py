"""Restart a workload's pods, or set its number of replicas."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from actions.catalogue.draft import Draft, patch_write, read_target, rollout_radius
from actions.catalogue.stuck_pods import stuck_pods
from actions.catalogue.volumes import require_attachable
from actions.objects import container_names, metadata, normalise, replicas, template_of, title
from actions.patches import ABSENT, Change, pointer
from errors import Refused
from incidents.plan import Restart, Risk, Scale
from tools.kubernetes.client import Cluster, KubernetesError

RESTART_KINDS = ("Deployment", "StatefulSet", "DaemonSet")
SCALE_KINDS = ("Deployment", "StatefulSet")
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"


async def derive_restart(cluster: Cluster, action: Restart, now: datetime) -> Draft:
    """The annotation that `kubectl rollout restart` sets; that command itself knows no dry run."""
    live = await read_target(cluster, action.target, RESTART_KINDS)
    radius = rollout_radius(live)
    await require_attachable(cluster, live)
    stamp = now.isoformat(timespec="seconds")
    annotations = (template_of(live).get("metadata") or {}).get("annotations")
    at = ("spec", "template", "metadata", "annotations")
    if annotations is None:
        change = Change(pointer(*at), ABSENT, {RESTARTED_AT: stamp})
    else:
        change = Change(pointer(*at, RESTARTED_AT), annotations.get(RESTARTED_AT, ABSENT), stamp)
    return Draft(
        title=f"Restart {title(live)}",
        writes=[patch_write(live, [], [change]), *await stuck_pods(cluster, live)],
        risk=Risk.LOW,
        blast_radius=radius,
        affected_pods=replicas(live),
        preimage=normalise(live),
        changes=[change],
        allowed=[change.path],
        containers=container_names(template_of(live)),
    )


async def derive_scale(cluster: Cluster, action: Scale) -> Draft:
    """Raises Refused when the number is there already, or an autoscaler would take it back.

    An autoscaler does nothing about a workload at zero: bringing it back within its bounds is what it waits for
    (https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#implicit-maintenance-mode-deactivation).
    """
    live = await read_target(cluster, action.target, SCALE_KINDS)
    current = replicas(live)
    if current == action.replicas:
        raise Refused(f"{title(live)} has {current} replicas already")
    autoscaler = await _autoscaler(cluster, str(metadata(live)["namespace"]), live["kind"], metadata(live)["name"])
    if autoscaler and not (current == 0 and autoscaler.low <= action.replicas <= autoscaler.high):
        raise Refused(
            f"HorizontalPodAutoscaler {autoscaler.name} sets the replicas of {title(live)}: change its bounds "
            f"({autoscaler.low} to {autoscaler.high})"
        )
    change = Change("/spec/replicas", current, action.replicas)
    down = current - action.replicas
    return Draft(
        title=f"Scale {title(live)} from {current} to {action.replicas}",
        writes=[patch_write(live, [], [change])],
        risk=Risk.HIGH if action.replicas == 0 else Risk.MEDIUM if down > 0 else Risk.LOW,
        blast_radius=f"removes {down} of {current} pod(s)" if down > 0 else f"adds {-down} pod(s) to {current}",
        affected_pods=max(down, 0),
        preimage=normalise(live),
        changes=[change],
        allowed=[change.path],
        containers=container_names(template_of(live)),
    )


@dataclass(frozen=True)
class _Autoscaler:
    name: str
    low: int
    high: int


async def _autoscaler(cluster: Cluster, namespace: str, kind: str, name: str) -> _Autoscaler | None:
    try:
        found = await cluster.list_all("autoscaling/v1", "HorizontalPodAutoscaler", namespace)
    except KubernetesError as error:
        if error.code in (401, 403):
            raise Refused(f"HorizontalPodAutoscalers of {namespace} cannot be read: {error.server_message}") from error
        raise
    for item in found:
        target = (item.get("spec") or {}).get("scaleTargetRef") or {}
        if (target.get("kind"), target.get("name")) == (kind, name):
            spec = item["spec"]
            low = spec.get("minReplicas")
            return _Autoscaler(
                str(metadata(item)["name"]), 1 if low is None else int(low), int(spec.get("maxReplicas") or 0)
            )
    return None
