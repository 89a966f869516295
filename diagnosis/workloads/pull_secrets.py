"""Pull secrets of a container: which it names, which of them exist, and what a registry's refusal means for them."""

from __future__ import annotations

import re

from diagnosis.workloads.containers import Container
from diagnosis.workloads.contract import Claim
from diagnosis.workloads.evidence import of_absence, of_object
from diagnosis.workloads.fields import objects, text
from diagnosis.workloads.references import references_of
from diagnosis.workloads.scope import Scope
from incidents.models import Fact

_REGISTRY = re.compile(r"^(?P<host>[\w-]+(?:\.[\w-]+)+(?::\d{1,5})?|[\w-]+:\d{1,5}|localhost)/")


def registry_of(image: str) -> str:
    """The registry that an image reference means; without one it is Docker Hub (distribution/reference)."""
    match = _REGISTRY.match(image)
    return match["host"] if match else "docker.io"


def meaning_of_refusal(
    scope: Scope, container: Container, missing: list[str], held: list[str]
) -> tuple[str, float, dict[str, Fact]] | None:
    """What a refusal means for the pull secrets: (in words, confidence, facts); None where a Secret of the registry
    is there, so that the image's name is as likely wrong."""
    facts: dict[str, Fact] = {}
    suggested = _for_registry(scope, container)
    if len(suggested) == 1 and suggested[0] not in held:
        facts["suggested_secret"] = suggested[0]
    if missing:
        return f"its pull secret {', '.join(missing)} does not exist", 0.93, facts
    if not held:
        return "it names no pull secret", 0.65, facts
    registry = registry_of(container.image)
    kinds = {name: scope.snapshot.get("Secret", container.namespace, name) for name in held}
    wrong = [name for name, item in kinds.items() if text(item, "type") not in ("", *_PULL_SECRET_TYPES)]
    if wrong and len(wrong) == len(held):
        return (
            f"its pull secret {', '.join(wrong)} is no Secret of a registry's login",
            0.9,
            facts | {"wrong_secrets": wrong},
        )
    facts["pull_secrets"] = held
    return f"the registry {registry} does not accept its pull secret {', '.join(held)}", 0.75, facts


_PULL_SECRET_TYPES = ("kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg")


def _for_registry(scope: Scope, container: Container) -> list[str]:
    """Pull secrets of the namespace; which registry one is for is inside its value, which is never read."""
    return [
        text(item, "metadata", "name")
        for item in scope.snapshot.all("Secret", container.namespace)
        if text(item, "type") in _PULL_SECRET_TYPES
    ]


def missing_pull_secrets(scope: Scope, container: Container) -> tuple[list[Claim], list[str]]:
    """Pull secrets that the pod names and that are known not to exist."""
    now, namespace = scope.snapshot.observed_at, container.namespace
    claims, missing = [], []
    for reference in references_of(container.pod):
        if reference.pull_secret and scope.snapshot.lacks("Secret", namespace, reference.name):
            missing.append(reference.name)
            here = [text(item, "metadata", "name") for item in scope.snapshot.all("Secret", namespace)]
            evidence = [
                of_object(container.pod, reference.at, now),
                of_absence("Secret", namespace, reference.name, here, now),
            ]
            claims.append(Claim(f"The pull secret {reference.name} does not exist in namespace {namespace}", evidence))
    return claims, missing


def pull_secret_names(scope: Scope, container: Container) -> list[str]:
    """Pull secrets that the pod names itself or gets from its service account."""
    account = text(container.pod, "spec", "serviceAccountName") or "default"
    held = scope.snapshot.get("ServiceAccount", container.namespace, account)
    named = [*objects(container.pod, "spec", "imagePullSecrets"), *objects(held, "imagePullSecrets")]
    return list(dict.fromkeys(name for item in named if (name := text(item, "name"))))
