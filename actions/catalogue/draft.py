"""What an action's file derives; planning adds the inverse, the preview and the bindings."""

from __future__ import annotations

from dataclasses import dataclass, field

from actions.objects import fingerprint, generation, metadata, read_live, replicas, title, uid
from actions.patches import Change, forward_body, tested_spec
from errors import Refused
from incidents.models import ObjectRef
from incidents.plan import PatchWrite, Risk, Write
from tools.kubernetes.client import Cluster, Object


@dataclass(frozen=True)
class Draft:
    """Writes in order, with what planning needs to preview and to invert them."""

    title: str
    writes: list[Write]
    risk: Risk
    blast_radius: str
    affected_pods: int
    preimage: Object
    changes: list[Change] = field(default_factory=list)
    """Of the first write, when it is a patch: what the inverse takes back."""
    guards: list[Change] = field(default_factory=list)
    """What that patch only tests."""
    allowed: list[str] = field(default_factory=list)
    """JSON pointers that the dry run of a patch may change."""
    inverse: list[Write] = field(default_factory=list)
    """Only where it does not depend on the dry run (helm)."""
    reversible: bool = True
    quorum: int = 1
    containers: list[str] = field(default_factory=list)


async def read_target(cluster: Cluster, target: ObjectRef, kinds: tuple[str, ...]) -> Object:
    """The live target. Raises Refused when it is not of these kinds or does not exist."""
    if target.kind not in kinds:
        raise Refused(f"this action is for a {' or '.join(kinds)}, not for a {target.kind}")
    live = await read_live(cluster, target.kind, target.namespace, target.name)
    if live is None:
        raise Refused(f"{target} does not exist")
    if metadata(live).get("deletionTimestamp"):
        raise Refused(f"{target} is being deleted")
    return live


def patch_write(live: Object, guards: list[Change], changes: list[Change]) -> PatchWrite:
    """One JSON Patch of the live object, bound to it."""
    meta = metadata(live)
    return PatchWrite(
        api_version=str(live["apiVersion"]),
        kind=str(live["kind"]),
        namespace=str(meta.get("namespace") or ""),
        name=str(meta["name"]),
        uid=uid(live),
        resource_version=str(meta["resourceVersion"]),
        generation=generation(live),
        fingerprint=fingerprint(live),
        body=forward_body(uid(live), generation(live), guards, changes, spec=tested_spec(live)),
    )


def rollout_radius(live: Object) -> str:
    """Which pods a change of the template replaces, and how. Raises Refused when a change would not be rolled out."""
    spec = live.get("spec") or {}
    if spec.get("paused"):
        raise Refused(f"{title(live)} is paused: a change would not be rolled out")
    strategy = (spec.get("strategy") or spec.get("updateStrategy") or {}).get("type") or "RollingUpdate"
    if strategy == "OnDelete":
        raise Refused(f"{title(live)} has update strategy OnDelete: a change would not reach its pods")
    return f"replaces the {replicas(live)} pod(s) of {title(live)} ({strategy})"
