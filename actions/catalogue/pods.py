"""Delete one pod that a controller will replace."""

from __future__ import annotations

from actions.catalogue.draft import Draft, read_target
from actions.objects import container_names, controller_of, fingerprint, metadata, normalise, template_of, title, uid
from errors import Refused
from incidents.plan import DeletePod, DeleteWrite, Risk
from tools.kubernetes.client import Cluster

REPLACING_OWNERS = ("ReplicaSet", "StatefulSet", "DaemonSet", "Job")


async def derive(cluster: Cluster, action: DeletePod) -> Draft:
    """Raises Refused when nothing would make the pod again."""
    live = await read_target(cluster, action.target, ("Pod",))
    owner = controller_of(live)
    if owner is None or owner.get("kind") not in REPLACING_OWNERS:
        by = f"{owner.get('kind')} {owner.get('name')}" if owner else "no controller"
        raise Refused(f"{title(live)} is owned by {by}: nothing is known to make it again")
    meta = metadata(live)
    write = DeleteWrite(
        api_version="v1",
        kind="Pod",
        namespace=str(meta["namespace"]),
        name=str(meta["name"]),
        uid=uid(live),
        resource_version=str(meta["resourceVersion"]),
        fingerprint=fingerprint(live),
    )
    return Draft(
        title=f"Delete {title(live)}",
        writes=[write],
        risk=Risk.LOW,
        blast_radius=f"one pod; {owner['kind']} {owner['name']} makes a new one; what it holds in memory is lost",
        affected_pods=1,
        preimage=normalise(live),
        reversible=False,
        containers=container_names(template_of(live)),
    )
