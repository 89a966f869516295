"""Instances as they are on the cluster now: pods whole, what they belong to by its metadata, and the pods' events."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from diagnosis.workloads.instances import Instance, Rule, instances_of, template_version
from diagnosis.workloads.snapshot import Snapshot
from errors import ToolFailed
from settings import InstanceRule
from tools.kubernetes.client import Cluster, KubernetesError, Object

_OWNERS = (
    ("apps/v1", "ReplicaSet"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"),
)
_MOST_IDLE = 50


class Cut(ToolFailed):
    """There are more objects than are read: what is not seen could be the crashing one's owner."""

    title = "Too many objects"


async def read_pods(cluster: Cluster, namespaces: Sequence[str] = (), *, events: bool = False) -> Snapshot:
    """Pods and their owners, of the namespaces or of all. Raises ToolFailed; an owner's kind that is forbidden is left
    out, and its pods belong to what they name themselves."""
    items: list[Object] = []
    unseen: list[str] = []
    everywhere: list[str | None] = [None]
    for namespace in list(dict.fromkeys(namespaces)) or everywhere:
        items += await _whole(cluster, "v1", "Pod", namespace)
        for version, kind in _OWNERS:
            try:
                items += await _whole(cluster, version, kind, namespace, names_only=True)
            except KubernetesError as error:
                unseen.append(f"{kind}s could not be read: {error}")
        if events:
            items += await _whole(cluster, "v1", "Event", namespace, fields="involvedObject.kind=Pod")
    return Snapshot(items, unseen=unseen)


async def _whole(
    cluster: Cluster, version: str, kind: str, namespace: str | None, *, fields: str = "", names_only: bool = False
) -> list[Object]:
    found = await cluster.list_all(version, kind, namespace, fields=fields, names_only=names_only)
    if len(found) >= cluster.settings.max_objects:
        raise Cut(f"more than {cluster.settings.max_objects} {kind}s: name fewer namespaces, or raise max_objects")
    return found


async def discover(cluster: Cluster, rules: Sequence[InstanceRule], namespaces: Sequence[str] = ()) -> list[Instance]:
    """The instances in the namespaces, or in all. Raises ToolFailed."""
    known = as_rules(rules)
    found = instances_of(await read_pods(cluster, namespaces), known)
    by_name = {rule.name: rule for rule in known}
    idle = [(one, ref) for one in found for ref, version in one.idle.items() if version is None]
    for one, ref in idle[:_MOST_IDLE]:  # only their metadata was read
        with contextlib.suppress(KubernetesError):
            if (whole := await cluster.get("apps/v1", ref.kind, ref.namespace, ref.name)) is not None:
                one.idle[ref] = template_version(whole, by_name[one.rule])
    return found


def as_rules(rules: Sequence[InstanceRule]) -> list[Rule]:
    return [Rule(rule.name, rule.labels, rule.name_from, rule.version_from) for rule in rules]
