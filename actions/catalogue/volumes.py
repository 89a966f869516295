"""What a restart would do to volumes: a claim that only one node may hold, and an emptyDir that goes with its pod."""

from __future__ import annotations

from typing import Any

from actions.objects import metadata, replicas, template_of, title
from errors import Refused
from tools.kubernetes.client import Cluster, KubernetesError, Object

_SINGLE = {"ReadWriteOnce", "ReadWriteOncePod"}


async def require_attachable(cluster: Cluster, live: Object) -> None:
    """Raises Refused when a rolling restart starts a new pod while the old one still holds a single-node claim.

    With maxUnavailable 0 (the default of one replica: 25 % rounded down) the old pod stays until the new one is ready,
    and the new one waits for the volume on any other node.
    """
    spec = live.get("spec") or {}
    strategy = spec.get("strategy") or {}
    if live["kind"] != "Deployment" or strategy.get("type") == "Recreate" or not replicas(live):
        return
    if _down(strategy.get("rollingUpdate") or {}, replicas(live)) > 0:
        return
    for volume in (template_of(live).get("spec") or {}).get("volumes") or []:
        name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if name and await _single(cluster, str(metadata(live)["namespace"]), str(name)):
            raise Refused(
                f"{title(live)} starts new pods before it ends old ones, and claim {name} can be on one node only: "
                "the new pod could wait for ever. Set its strategy to Recreate, or maxUnavailable to 1"
            )


def scratch_volumes(template: Object) -> list[str]:
    """emptyDir volumes: what a crash left in them is lost with the pod."""
    volumes = (template.get("spec") or {}).get("volumes") or []
    return [str(item.get("name")) for item in volumes if "emptyDir" in item]


def _down(rolling: dict[str, Any], pods: int) -> int:
    """maxUnavailable as a number of pods (rounded down, as the Deployment controller does)."""
    value = rolling.get("maxUnavailable", "25%")
    if isinstance(value, str) and value.endswith("%"):
        return pods * int(value[:-1]) // 100
    return int(value)


async def _single(cluster: Cluster, namespace: str, name: str) -> bool:
    try:
        claim = await cluster.get("v1", "PersistentVolumeClaim", namespace, name)
    except KubernetesError as error:
        if error.code in (401, 403):
            raise Refused(f"claim {namespace}/{name} cannot be read, so it is not known who may hold it") from error
        raise
    modes = set(
        (((claim or {}).get("status") or {}).get("accessModes"))
        or (((claim or {}).get("spec") or {}).get("accessModes"))
        or []
    )
    return bool(modes) and modes <= _SINGLE
