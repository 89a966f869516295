"""An image that cannot be pulled: a wrong name, a tag that is not there, no registry, or no permission to pull.

The waiting reason (`ImagePullBackOff`) is a symptom; the runtime's own words are in the pod's `Failed` events.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from diagnosis.workloads.containers import Container, template_containers
from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.events import Event
from diagnosis.workloads.evidence import of_absence, of_event, of_object
from diagnosis.workloads.fields import objects, text
from diagnosis.workloads.references import references_of
from diagnosis.workloads.rollout import healthy_before
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Fact

NAME = "bad_image"
READS = ("Pod", "Event")
RULED_OUT = "the image: no container waits for its image"
CAUSES = {
    CauseClass.BAD_IMAGE: Documented(
        "The image cannot be pulled: its name or its tag does not exist in the registry.",
        "The runtime's own words in the waiting message or a Failed event of the pod.",
        "The image of the last revision that ran; never another product.",
    ),
    CauseClass.MISSING_PULL_SECRET: Documented(
        "The registry refuses the pull, and the pod has no pull secret or refers to one that does not exist.",
        "The registry's refusal in the runtime's words, and the pod's and its account's references compared "
        "with the Secrets that are there.",
        "A reference to a pull secret that exists; the secret itself only a person can make.",
    ),
}

_WAITING = {
    "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError",
    "RegistryUnavailable",
}  # fmt: skip
_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("rate_limited", re.compile(r"toomanyrequests|429 too many|rate limit", re.IGNORECASE)),
    (
        "denied",
        re.compile(
            r"unauthori[sz]ed|authentication required|no basic auth|401|403 forbidden|denied|insufficient_scope"
            r"|failed to fetch (?:anonymous|oauth) token",
            re.IGNORECASE,
        ),
    ),
    ("tag", re.compile(r"manifest unknown|manifest for .* not found|not found", re.IGNORECASE)),
    (
        "registry_unreachable",
        re.compile(
            r"no such host|dial tcp|i/o timeout|connection refused|timeout|x509|tls|deadline exceeded|no route"
            r"|server gave http response|temporary failure|connection reset|\b5\d\d\b",
            re.IGNORECASE,
        ),
    ),
)
_WORDS = {
    "name": "the image reference is not valid",
    "never_pull": "the image is not on the node and its pull policy is Never",
    "tag": "the registry has no such image or tag",
    "denied": "the registry does not let it be pulled without (other) credentials, or it does not exist",
    "registry_unreachable": "the registry cannot be reached",
    "rate_limited": "the registry limits the rate of pulls",
    "unknown": "it cannot be pulled",
}


def find(scope: Scope) -> Iterable[Found]:
    for container in scope.troubled:
        if container.waiting in _WAITING:
            yield _found(scope, container)


def _found(scope: Scope, container: Container) -> Found:
    now, image = scope.snapshot.observed_at, container.image
    event = _pull_event(scope.container_events(container))
    said = event.message if event else container.waiting_message
    problem = _problem(container.waiting, said)
    owner = scope.owner(container)
    waiting = of_object(container.pod, f"{container.status_at}/state/waiting", now)
    claims = [Claim(f"Container {container.name} of pod {container.pod_name} waits: {container.waiting}", [waiting])]
    if event is not None:
        claims.append(Claim(f"The kubelet says {quoted(_end(event.message))}", [of_event(event, now)]))
    elif said:
        message = of_object(container.pod, f"{container.status_at}/state/waiting/message", now)
        claims.append(Claim(f"The kubelet says {quoted(_end(said))}", [message]))
    facts: dict[str, Fact] = {"image": image, "problem": problem}
    healthy = healthy_before(scope.snapshot, owner)
    before = text(template_containers(healthy.template).get(container.name), "image") if healthy else ""
    if before and before != image:
        facts["previous_image"] = before
    secret_claims, missing = _pull_secrets(scope, container)
    if problem == "denied" and (missing or not _has_pull_secret(scope, container)):
        facts["missing_secrets"] = missing
        what = f"its pull secret {', '.join(missing)} does not exist" if missing else "it names no pull secret"
        return Found(
            CauseClass.MISSING_PULL_SECRET,
            owner,
            0.9 if missing else 0.65,
            f"Container {container.name} of {owner.kind} {owner.name} may not pull {image}: {what}.",
            [*claims, *secret_claims],
            facts=facts,
            place=container.pod_name,
            subject=image,
            next_steps=["Create the pull secret in this namespace, or name one that exists under imagePullSecrets"],
        )
    if missing:
        facts["missing_secrets"] = missing
    return Found(
        CauseClass.BAD_IMAGE,
        owner,
        {"unknown": 0.7, "denied": 0.7, "registry_unreachable": 0.8, "rate_limited": 0.8}.get(problem, 0.95),
        f"Container {container.name} of {owner.kind} {owner.name} cannot run image {image}: {_WORDS[problem]}.",
        [*claims, *secret_claims],
        facts=facts,
        place=container.pod_name,
        subject=image,
        next_steps=[_step(problem, image, before)],
    )


def _pull_event(events: list[Event]) -> Event | None:
    """The newest event with the runtime's own error; `Error: ImagePullBackOff` is none."""
    telling = [
        e for e in events if e.reason in ("Failed", "InspectFailed", "ErrImageNeverPull") and len(e.message) > 30
    ]
    pulls = [event for event in telling if "pull" in event.message.lower()]
    return (pulls or telling or [None])[-1]  # type: ignore[list-item]


def _problem(waiting: str, said: str) -> str:
    if waiting == "InvalidImageName":
        return "name"
    if waiting == "ErrImageNeverPull":
        return "never_pull"
    return next((kind for kind, pattern in _KINDS if pattern.search(said)), "unknown")


def _end(message: str) -> str:
    """The runtime repeats the reference at each level; its own words come last."""
    return message if len(message) <= 280 else message[-280:]


def _pull_secrets(scope: Scope, container: Container) -> tuple[list[Claim], list[str]]:
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


def _has_pull_secret(scope: Scope, container: Container) -> bool:
    account = text(container.pod, "spec", "serviceAccountName") or "default"
    held = scope.snapshot.get("ServiceAccount", container.namespace, account)
    return bool(objects(container.pod, "spec", "imagePullSecrets") or objects(held, "imagePullSecrets"))


def _step(problem: str, image: str, before: str) -> str:
    if before and before != image:
        return f"Name an image that exists; the revision before ran {before}"
    if problem == "registry_unreachable":
        return f"Check from the node that the registry of {image} answers"
    return f"Name an image that exists instead of {image}"
