"""Name a pull secret that exists, and that holds credentials for the registry of one of the images."""

from __future__ import annotations

import base64
import binascii
import json

from actions.catalogue.draft import Draft, patch_write, read_target, rollout_radius
from actions.catalogue.images import registry
from actions.catalogue.stuck_pods import stuck_pods
from actions.objects import container_names, metadata, normalise, replicas, template_of, title
from actions.patches import ABSENT, Change, pointer
from errors import Refused
from incidents.actions import AddPullSecret
from incidents.plan import Risk
from tools.kubernetes.client import Cluster, KubernetesError, Object

KINDS = ("Deployment", "StatefulSet", "DaemonSet")
_TYPES = {"kubernetes.io/dockerconfigjson": ".dockerconfigjson", "kubernetes.io/dockercfg": ".dockercfg"}
_AT = ("spec", "template", "spec", "imagePullSecrets")


async def derive(cluster: Cluster, action: AddPullSecret) -> Draft:
    """Raises Refused when the Secret is not there, of another type, for other registries, or named already."""
    live = await read_target(cluster, action.target, KINDS)
    radius = rollout_radius(live)
    template = template_of(live)
    spec = template.get("spec") or {}
    present = spec.get("imagePullSecrets")
    names = [item.get("name") for item in present or []]
    if action.secret in names:
        raise Refused(f"{title(live)} names pull secret {action.secret} already")
    held = await _registries(cluster, str(metadata(live)["namespace"]), action.secret)
    wanted = {
        registry(str(item.get("image"))) for group in ("initContainers", "containers") for item in spec.get(group) or []
    }
    if not held & wanted:
        raise Refused(f"Secret {action.secret} has no credentials for {', '.join(sorted(wanted))}")
    if action.replaces is not None:
        if action.replaces not in names:
            raise Refused(f"{title(live)} names no pull secret {action.replaces}")
        change = Change(pointer(*_AT, names.index(action.replaces), "name"), action.replaces, action.secret)
    elif present:
        change = Change(pointer(*_AT, len(names)), ABSENT, {"name": action.secret})
    else:
        change = Change(pointer(*_AT), ABSENT if present is None else present, [{"name": action.secret}])
    return Draft(
        title=f"Let {title(live)} pull its images with Secret {action.secret}",
        writes=[patch_write(live, [], [change]), *await stuck_pods(cluster, live)],
        risk=Risk.LOW,
        blast_radius=radius,
        affected_pods=replicas(live),
        preimage=normalise(live),
        changes=[change],
        allowed=[pointer(*_AT)],
        containers=container_names(template),
    )


async def _registries(cluster: Cluster, namespace: str, name: str) -> set[str]:
    """The registries that a pull secret has credentials for. Only their names are read out of it."""
    try:
        secret = await cluster.get("v1", "Secret", namespace, name)
    except KubernetesError as error:
        if error.code in (401, 403):
            raise Refused(
                f"Secret {namespace}/{name} cannot be read, so it is not known to be a pull secret"
            ) from error
        raise
    if secret is None:
        raise Refused(f"Secret {namespace}/{name} does not exist")
    if secret.get("type") not in _TYPES:
        raise Refused(f"Secret {namespace}/{name} is of type {secret.get('type')}: it is no pull secret")
    return {_host(key) for key in _servers(secret)}


def _servers(secret: Object) -> list[str]:
    kind = str(secret["type"])
    try:
        config = json.loads(base64.b64decode(str((secret.get("data") or {}).get(_TYPES[kind])), validate=True))
    except (binascii.Error, ValueError):
        raise Refused(f"Secret {metadata(secret).get('name')} holds no readable registry configuration") from None
    servers = config.get("auths") if kind.endswith("json") and isinstance(config, dict) else config
    return [str(key) for key in servers] if isinstance(servers, dict) else []


def _host(server: str) -> str:
    """`https://index.docker.io/v1/` and `docker.io` are the same registry."""
    return registry(f"{server.partition('://')[2] or server}/x")
