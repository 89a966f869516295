"""Put back an image that an earlier revision had: another tag or digest of one repository, never another product."""

from __future__ import annotations

from actions.catalogue.draft import Draft, patch_write, read_target, rollout_radius
from actions.catalogue.revisions import kept_templates
from actions.catalogue.stuck_pods import stuck_pods
from actions.objects import find_container, normalise, replicas, title
from actions.patches import Change, pointer
from errors import Refused
from incidents.actions import RevertImage
from incidents.plan import Risk
from tools.kubernetes.client import Cluster

KINDS = ("Deployment", "StatefulSet", "DaemonSet")
_DOCKER = "docker.io"


async def derive(cluster: Cluster, action: RevertImage) -> Draft:
    """Raises Refused for another repository, and for an image that no kept revision had in this container."""
    live = await read_target(cluster, action.target, KINDS)
    radius = rollout_radius(live)
    place = find_container(live, action.container)
    if place is None:
        raise Refused(f"{title(live)} has no container {action.container!r}")
    group, index, container = place
    current = str(container.get("image"))
    if current == action.image:
        raise Refused(f"container {action.container!r} has image {current} already")
    if repository(current) != repository(action.image):
        raise Refused(f"{action.image} is of another repository than {current}: an image is never replaced by another")
    kept = await kept_templates(cluster, live)
    numbers = [
        number
        for number, template in kept.items()
        for item in (template.get("spec") or {}).get(group) or []
        if (item.get("name"), item.get("image")) == (action.container, action.image)
    ]
    if not numbers:
        raise Refused(
            f"no revision that {title(live)} keeps had image {action.image} in container {action.container!r}"
        )
    at = ("spec", "template", "spec", group, index)
    changes = [Change(pointer(*at, "image"), current, action.image)]
    guards = [Change(pointer(*at, "name"), action.container, action.container)]
    return Draft(
        title=f"Put image {action.image} of revision {max(numbers)} back into {action.container} of {title(live)}",
        writes=[patch_write(live, guards, changes), *await stuck_pods(cluster, live)],
        risk=Risk.MEDIUM,
        blast_radius=radius,
        affected_pods=replicas(live),
        preimage=normalise(live),
        changes=changes,
        guards=guards,
        allowed=[change.path for change in changes],
        containers=[action.container],
    )


def repository(image: str) -> str:
    """An image reference without tag and digest, with the registry and folder that a short name stands for."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    name = f"{head}{slash}{last.partition(':')[0]}"
    host = registry(image)
    path = name.partition("/")[2] if _has_host(name) else name
    return f"{host}/library/{path}" if host == _DOCKER and "/" not in path else f"{host}/{path}"


def registry(image: str) -> str:
    """The registry of an image reference (`docker.io` for a name without one).

    Source: distribution/reference normalization: the first part is a host when it has a dot or a colon,
    or is localhost.
    """
    if not _has_host(image):
        return _DOCKER
    host = image.partition("/")[0].lower()
    return _DOCKER if host in ("index.docker.io", "registry-1.docker.io", _DOCKER) else host


def _has_host(image: str) -> bool:
    first, slash, _ = image.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost")
