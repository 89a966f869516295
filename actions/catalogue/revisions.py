"""Put back the whole pod template of an earlier revision, as the cluster itself kept it.

Deployments keep revisions as ReplicaSets, StatefulSets and DaemonSets as ControllerRevisions. Only the template
returns: replicas, strategy and labels of the workload stay. No image is ever set by itself.
"""

from __future__ import annotations

import copy

from actions.catalogue.draft import Draft, patch_write, read_target, rollout_radius
from actions.catalogue.stuck_pods import stuck_pods
from actions.objects import container_names, label_selector, metadata, normalise, replicas, template_of, title, uid
from actions.patches import Change
from errors import Refused
from incidents.plan import Risk, RollbackRevision
from tools.kubernetes.client import Cluster, Object

KINDS = ("Deployment", "StatefulSet", "DaemonSet")
_REVISION = "deployment.kubernetes.io/revision"
_HASH_LABEL = "pod-template-hash"


async def derive(cluster: Cluster, action: RollbackRevision) -> Draft:
    """Raises Refused when the revision is not kept, or is what runs now."""
    live = await read_target(cluster, action.target, KINDS)
    radius = rollout_radius(live)
    earlier = (await kept_templates(cluster, live)).get(action.revision)
    if earlier is None:
        raise Refused(f"{title(live)} keeps no revision {action.revision}")
    current = template_of(live)
    if earlier == current:
        raise Refused(f"{title(live)} runs the template of revision {action.revision} already")
    changes = [Change("/spec/template", current, earlier)]
    return Draft(
        title=f"Roll {title(live)} back to revision {action.revision}",
        writes=[patch_write(live, [], changes), *await stuck_pods(cluster, live)],
        risk=Risk.MEDIUM,
        blast_radius=radius,
        affected_pods=replicas(live),
        preimage=normalise(live),
        changes=changes,
        allowed=["/spec/template"],
        containers=container_names(earlier),
    )


async def kept_templates(cluster: Cluster, live: Object) -> dict[int, Object]:
    """The templates that the cluster keeps, by revision number."""
    namespace = str(metadata(live)["namespace"])
    kind = "ReplicaSet" if live["kind"] == "Deployment" else "ControllerRevision"
    found: dict[int, Object] = {}
    for item in await cluster.list_all("apps/v1", kind, namespace, labels=label_selector(live)):
        owners = metadata(item).get("ownerReferences") or []
        if not any(owner.get("uid") == uid(live) and owner.get("controller") for owner in owners):
            continue
        if kind == "ReplicaSet":
            number = (metadata(item).get("annotations") or {}).get(_REVISION)
            template = copy.deepcopy(template_of(item))
            labels = (template.get("metadata") or {}).get("labels") or {}
            labels.pop(_HASH_LABEL, None)
        else:
            number = item.get("revision")
            template = copy.deepcopy(((item.get("data") or {}).get("spec") or {}).get("template") or {})
            template.pop("$patch", None)
        if number is not None and template:
            found[int(number)] = template
    return found
