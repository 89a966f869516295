"""Whether new requests and limits would be admitted and could be placed: LimitRanges, quotas, the largest node.

A Deployment with values that no pod may have is accepted by the API server, and then makes no pods; so this is looked
at before anybody is asked. Sources: LimitRanger and ResourceQuota admission
(https://kubernetes.io/docs/concepts/policy/limit-range/, …/resource-quotas/).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from actions.catalogue.quantities import quantity
from actions.catalogue.scheduling import usable_nodes
from actions.objects import metadata, replicas, template_of, title
from errors import Refused
from tools.kubernetes.client import Cluster, KubernetesError, Object

_Parts = dict[str, dict[str, Any]]
_QUOTA_KEYS = {"requests": ("requests.{}", "{}"), "limits": ("limits.{}",)}


async def require_within_bounds(cluster: Cluster, live: Object, container: str, wanted: _Parts) -> None:
    """Raises Refused when a LimitRange, a quota or every node's size stands against the container's new resources."""
    namespace = str(metadata(live)["namespace"])
    spec = template_of(live).get("spec") or {}
    current = next(
        item
        for group in ("containers", "initContainers")
        for item in spec.get(group) or []
        if item.get("name") == container
    )
    before: _Parts = current.get("resources") or {}
    after = {part: (before.get(part) or {}) | (wanted.get(part) or {}) for part in ("requests", "limits")}
    for resource, value in after["limits"].items():
        after["requests"].setdefault(resource, value)  # the API server's own default
    for item in await _read(cluster, "LimitRange", namespace):
        for limit in (item.get("spec") or {}).get("limits") or []:
            if limit.get("type") == "Container":
                _within_limit_range(str(metadata(item)["name"]), limit, after, wanted)
    for item in await _read(cluster, "ResourceQuota", namespace):
        _within_quota(item, replicas(live), before, after)
    if wanted.get("requests") or wanted.get("limits"):
        await _fits_a_node(cluster, live, container, after["requests"])


def _within_limit_range(name: str, limit: dict[str, Any], after: _Parts, wanted: _Parts) -> None:
    touched = {resource for values in wanted.values() for resource in values}
    for resource in touched:
        high, low = (limit.get("max") or {}).get(resource), (limit.get("min") or {}).get(resource)
        for part in ("requests", "limits"):
            value = after[part].get(resource)
            if value is not None and high is not None and quantity(str(value)) > quantity(str(high)):
                raise Refused(f"LimitRange {name} allows at most {resource} {high}, not {value}")
            if value is not None and low is not None and quantity(str(value)) < quantity(str(low)):
                raise Refused(f"LimitRange {name} asks for at least {resource} {low}, not {value}")
        ratio = (limit.get("maxLimitRequestRatio") or {}).get(resource)
        request, most = after["requests"].get(resource), after["limits"].get(resource)
        if ratio is None or request is None or most is None:
            continue
        if quantity(str(most)) > quantity(str(request)) * quantity(str(ratio)):
            raise Refused(f"LimitRange {name} allows a {resource} limit of at most {ratio} times the request")


def _within_quota(quota: Object, pods: int, before: _Parts, after: _Parts) -> None:
    """What all pods take more, against what is left. Scoped quotas are for some pods only, and are left out."""
    spec, status = quota.get("spec") or {}, quota.get("status") or {}
    if spec.get("scopes") or spec.get("scopeSelector"):
        return
    hard, used = status.get("hard") or spec.get("hard") or {}, status.get("used") or {}
    for part, keys in _QUOTA_KEYS.items():
        for resource, value in after[part].items():
            more = (quantity(str(value)) - quantity(str((before.get(part) or {}).get(resource, "0")))) * pods
            for key in (item.format(resource) for item in keys):
                if more > 0 and key in hard and quantity(str(used.get(key, "0"))) + more > quantity(str(hard[key])):
                    name = metadata(quota)["name"]
                    raise Refused(
                        f"ResourceQuota {name} has not so much left: {key} is {used.get(key, '0')} of {hard[key]}"
                    )


async def _fits_a_node(cluster: Cluster, live: Object, container: str, requests: dict[str, Any]) -> None:
    """A pod that asks for more than the largest node has is never placed."""
    nodes = await usable_nodes(cluster)
    if not nodes:
        return  # none is known: nothing to compare with
    spec = template_of(live).get("spec") or {}
    for resource in ("cpu", "memory"):
        asked = Decimal(0)
        for item in spec.get("containers") or []:
            own = requests if item.get("name") == container else (item.get("resources") or {}).get("requests") or {}
            asked += quantity(str(own.get(resource, "0")))
        largest = max(
            quantity(str(((node.get("status") or {}).get("allocatable") or {}).get(resource, "0"))) for node in nodes
        )
        if asked > largest:
            raise Refused(f"no ready node is large enough for a pod of {title(live)} with so much {resource}")


async def _read(cluster: Cluster, kind: str, namespace: str) -> list[Object]:
    try:
        return await cluster.list_all("v1", kind, namespace)
    except KubernetesError as error:
        if error.code in (401, 403):
            raise Refused(f"{kind}s of {namespace} cannot be read, so the bounds are not known") from error
        raise
