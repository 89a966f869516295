"""The policy of the gate: what may be touched at all, by whom, how often."""

from __future__ import annotations

import hashlib

from errors import Refused
from incidents.plan import canonical_json
from settings import GateSettings


def policy_version(settings: GateSettings) -> str:
    """sha256 of the whole policy. An approval given under another policy is void."""
    return hashlib.sha256(canonical_json(settings.model_dump(mode="json"))).hexdigest()


def require_switched_on(settings: GateSettings) -> None:
    """Raises Refused while the kill switch is on."""
    if settings.kill_switch:
        raise Refused("the kill switch is on: nothing is executed")


def require_writable(settings: GateSettings, kind: str, namespace: str | None) -> str:
    """The namespace, when writes in it are allowed; empty for a Node, where the policy lets nodes be cordoned.

    Raises Refused: outside the policy, protected, or none at all.
    """
    if kind == "Node":
        if not settings.nodes:
            raise Refused("the policy does not let nodes be cordoned: gate.nodes is false")
        return ""
    if not namespace:
        raise Refused("the target is not in a namespace: of cluster-wide objects only nodes are ever changed")
    if namespace in settings.protected_namespaces:
        raise Refused(f"namespace {namespace} is protected")
    if settings.namespaces and namespace not in settings.namespaces:
        raise Refused(f"namespace {namespace} is not one that the policy allows")
    return namespace
