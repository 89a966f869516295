"""Nothing is changed that was not observed: the action's target must be what the incident or a finding is about."""

from __future__ import annotations

from actions.objects import API_VERSIONS, controller_of, metadata, read_live, template_of
from actions.ownership import helm_release
from errors import Refused
from incidents.models import Diagnosis, Incident, ObjectRef
from tools.kubernetes.client import Cluster, Object

_MAX_OWNERS = 4
_Key = tuple[str, str | None, str]


async def require_observed(
    cluster: Cluster, target: ObjectRef, live: Object | None, incident: Incident, diagnosis: Diagnosis
) -> None:
    """Raises Refused unless the target is an observed object, or one of them controls the other.

    A cause counts when a rule found it: a model's word alone makes no target. `live` is None for a helm release, which
    counts when an observed object carries its mark.
    """
    seen = _observed(incident, diagnosis)
    if _key(target) in seen:
        return
    if live is not None and any(key in seen for key in await _controllers(cluster, live)):
        return
    for kind, namespace, name in sorted(seen, key=str):
        if namespace != target.namespace or kind not in API_VERSIONS:
            continue
        found = await read_live(cluster, kind, namespace, name)
        if found is None:
            continue
        if target.kind == "HelmRelease":
            objects = [found, *await _chain(cluster, found)]
            if any(helm_release(item) == (target.namespace, target.name) for item in objects):
                return
        elif _key(target) in await _controllers(cluster, found):
            return
    raise Refused(f"{target} was not observed in this incident, so nothing is done to it")


def _observed(incident: Incident, diagnosis: Diagnosis) -> set[_Key]:
    rules = {finding.id for finding in diagnosis.findings if finding.source == "rule"}
    seen = {_key(incident.target)}
    for cause in diagnosis.causes:
        if not rules.intersection(cause.finding_ids):
            continue
        seen.add(_key(cause.object))
        release, namespace = cause.facts.get("helm_release"), cause.facts.get("helm_namespace")
        if isinstance(release, str) and isinstance(namespace, str):
            seen.add(("HelmRelease", namespace, release))
        pod = cause.facts.get("pod")
        if isinstance(pod, str):
            seen.add(("Pod", cause.object.namespace, pod))
        node = cause.facts.get("node")
        if isinstance(node, str):
            seen.add(("Node", None, node))
    return seen


def _key(ref: ObjectRef) -> _Key:
    return ref.kind, ref.namespace, ref.name


async def _controllers(cluster: Cluster, obj: Object) -> list[_Key]:
    namespace = metadata(obj).get("namespace")
    return [(str(item["kind"]), namespace, str(metadata(item)["name"])) for item in await _chain(cluster, obj)]


async def _chain(cluster: Cluster, obj: Object) -> list[Object]:
    """The built-in controllers above an object, nearest first, each with the uid that the reference names."""
    found: list[Object] = []
    namespace = metadata(obj).get("namespace")
    for _ in range(_MAX_OWNERS):
        owner = controller_of(obj)
        if owner is None or owner.get("kind") not in API_VERSIONS:
            break
        above = await read_live(cluster, str(owner["kind"]), namespace, str(owner["name"]))
        if above is None or metadata(above).get("uid") != owner.get("uid"):
            break
        found.append(above)
        obj = above
    return found


def watched_containers(target: ObjectRef, live: Object, diagnosis: Diagnosis, default: list[str]) -> list[str]:
    """The containers that the causes name inside this workload, else `default`."""
    present = {
        str(item.get("name"))
        for group in ("containers", "initContainers")
        for item in (template_of(live).get("spec") or {}).get(group) or []
    }
    named = {cause.object.container for cause in diagnosis.causes if cause.object.namespace == target.namespace}
    return sorted(name for name in named if name in present) or default
