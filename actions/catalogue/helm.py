"""Roll a helm release back, or uninstall it with its history kept.

An uninstall needs two people and is refused where it would destroy what no undo brings back: claims without
`helm.sh/resource-policy: keep`, namespaces, and custom resource definitions (with every object of their kinds).
"""

from __future__ import annotations

from typing import Any

from actions.catalogue.draft import Draft
from actions.effects.helm import storage_version
from actions.objects import replicas
from actions.ownership import Managed, gitops_manager
from errors import NotFound, Refused
from incidents.plan import HelmRollbackAction, HelmUninstallAction, HelmWrite, Risk
from tools.helm.client import Helm, Revision, sha256
from tools.helm.manifest import WORKLOADS, is_kept, manifest_objects, name_of, namespace_of
from tools.kubernetes.client import Cluster, Object

_IRREPLACEABLE = ("PersistentVolumeClaim", "PersistentVolume", "Namespace", "CustomResourceDefinition")


async def derive_rollback(cluster: Cluster, helm: Helm, action: HelmRollbackAction) -> Draft:
    """Raises Refused when the revision is not kept, is the current one, or was never deployed."""
    current, history, objects, write = await _release(cluster, helm, action)
    goal = next((item for item in history if item.number == action.revision), None)
    if goal is None:
        raise Refused(f"{action.target} keeps no revision {action.revision}")
    if goal.number == current.number:
        raise Refused(f"{action.target} is at revision {action.revision} already")
    if goal.status not in ("superseded", "deployed"):
        raise Refused(f"revision {action.revision} of {action.target} is {goal.status}: it never ran")
    goal_objects = manifest_objects(await helm.get("manifest", write.namespace, write.release, goal.number))
    _require_reversible(goal_objects, objects, "rolling back")
    pods = await _pods(cluster, objects, write.namespace)
    inverse = write.model_copy(update={"to_revision": current.number, "revision": current.number + 1} | _UNBOUND)
    return Draft(
        title=f"Roll helm release {write.namespace}/{write.release} back to revision {goal.number}",
        writes=[write.model_copy(update={"to_revision": goal.number})],
        risk=Risk.MEDIUM,
        blast_radius=f"{len(objects)} object(s) of {current.chart}, {pods} pod(s); hooks of the chart run",
        affected_pods=pods,
        preimage=_preimage(current, write),
        inverse=[inverse],
    )


async def derive_uninstall(cluster: Cluster, helm: Helm, action: HelmUninstallAction) -> Draft:
    """Raises Refused where it would destroy what cannot be brought back."""
    current, _, objects, write = await _release(cluster, helm, action)
    write = write.model_copy(update={"verb": "uninstall"})
    _require_reversible([], objects, "uninstalling")
    pods = await _pods(cluster, objects, write.namespace)
    inverse = write.model_copy(update={"verb": "rollback", "to_revision": current.number} | _UNBOUND)
    return Draft(
        title=f"Uninstall helm release {write.namespace}/{write.release}",
        writes=[write],
        risk=Risk.HIGH,
        blast_radius=f"deletes {len(objects)} object(s) of {current.chart}, {pods} pod(s); hooks of the chart run",
        affected_pods=pods,
        preimage=_preimage(current, write),
        inverse=[inverse],
        quorum=2,
    )


_UNBOUND: dict[str, str] = {"storage_uid": "", "storage_resource_version": ""}


async def _release(
    cluster: Cluster, helm: Helm, action: HelmRollbackAction | HelmUninstallAction
) -> tuple[Revision, list[Revision], list[Object], HelmWrite]:
    target = action.target
    if target.kind != "HelmRelease" or not target.namespace:
        raise Refused(f"this action is for a HelmRelease in a namespace, not for {target}")
    namespace, release = target.namespace, target.name
    try:
        history = await helm.history(namespace, release)
    except NotFound:
        raise Refused(f"helm release {namespace}/{release} does not exist") from None
    current = history[-1]
    if current.status not in ("deployed", "failed"):
        raise Refused(f"helm release {namespace}/{release} is {current.status}")
    uid, version = await storage_version(cluster, namespace, release, current.number)
    if not uid:
        raise Refused(f"helm release {namespace}/{release} is not stored in a Secret, so it cannot be bound")
    values = await helm.get("values", namespace, release, current.number)
    manifest = await helm.get("manifest", namespace, release, current.number)
    objects = manifest_objects(manifest)
    for item in objects:
        if namespace_of(item, namespace) != namespace:
            raise Refused(f"helm release {namespace}/{release} also has {name_of(item)} in another namespace")
    write = HelmWrite(
        verb="rollback",
        namespace=namespace,
        release=release,
        revision=current.number,
        storage_uid=uid,
        storage_resource_version=version,
        values_sha256=sha256(values),
        manifest_sha256=sha256(manifest),
    )
    await _require_unmanaged(cluster, objects, write, action)
    return current, history, objects, write


async def _require_unmanaged(
    cluster: Cluster, objects: list[Object], write: HelmWrite, action: HelmRollbackAction | HelmUninstallAction
) -> None:
    """A release that Flux or another GitOps system deploys would come back at its next sync."""
    live = [await _live(cluster, item, write.namespace) for item in objects if item["kind"] in WORKLOADS]
    for item in [*objects, *[found for found in live if found]]:
        manager = gitops_manager(item)
        if manager:
            revision = action.revision if isinstance(action, HelmRollbackAction) else None
            change = f"helm rollback {write.release} {revision}" if revision else f"helm uninstall {write.release}"
            raise Managed(str(action.target), manager.name, change, manager.advice)


def _require_reversible(kept: list[Object], objects: list[Object], doing: str) -> None:
    """Raises Refused when an object that no undo restores would be deleted."""
    staying = {name_of(item) for item in kept}
    lost = [
        name_of(item)
        for item in objects
        if item["kind"] in _IRREPLACEABLE and not is_kept(item) and name_of(item) not in staying
    ]
    if lost:
        raise Refused(
            f"{doing} would delete {', '.join(lost)} and what they hold: "
            "set helm.sh/resource-policy: keep on them first"
        )


async def _live(cluster: Cluster, item: Object, namespace: str) -> Object | None:
    return await cluster.get(str(item["apiVersion"]), str(item["kind"]), namespace, str(item["metadata"]["name"]))


async def _pods(cluster: Cluster, objects: list[Object], namespace: str) -> int:
    live = [await _live(cluster, item, namespace) for item in objects if item["kind"] in WORKLOADS]
    return sum(replicas(item) for item in live if item)


def _preimage(current: Revision, write: HelmWrite) -> dict[str, Any]:
    """The release as it was. Values and manifest may hold secrets: the journal keeps them whole, the plan by digest."""
    return {
        "kind": "HelmRelease",
        "namespace": write.namespace,
        "name": write.release,
        "revision": current.number,
        "chart": current.chart,
        "values_sha256": write.values_sha256,
        "manifest_sha256": write.manifest_sha256,
    }
