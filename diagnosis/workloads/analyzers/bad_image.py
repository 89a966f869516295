"""An image that cannot be pulled: a wrong name, a tag that is not there, no registry, a registry that limits pulls, or
no permission to pull.

The waiting reason (`ImagePullBackOff`) is a symptom; the runtime's own words are in the pod's `Failed` events.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from diagnosis.workloads.containers import Container, template_containers
from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.events import Event
from diagnosis.workloads.evidence import of_event, of_object
from diagnosis.workloads.fields import text
from diagnosis.workloads.pull_secrets import meaning_of_refusal, missing_pull_secrets, pull_secret_names, registry_of
from diagnosis.workloads.rollout import healthy_before
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Fact

NAME = "bad_image"
READS = ("Pod", "Event")
RULED_OUT = "the image: no container waits for its image"
CAUSES = {
    CauseClass.BAD_IMAGE: Documented(
        "The image that is named cannot be had: no such repository, tag or architecture, or the reference "
        "is not valid.",
        "The container's waiting reason and the runtime's own words in its event.",
        "The image of the revision that ran before, where it is of the same repository; never another product.",
    ),
    CauseClass.MISSING_PULL_SECRET: Documented(
        "The registry asks for a login and the pull secret is missing, is none, or is not accepted.",
        "The registry's refusal in the runtime's words, the pull secrets that the pod names, and whether they exist.",
        "A pull secret that exists in the namespace is named, where there is one only.",
    ),
    CauseClass.REGISTRY_UNREACHABLE: Documented(
        "The registry's name does not resolve, it does not answer, or its certificate is not accepted.",
        "The runtime's own words in the container's event.",
        "None: the way from the node to the registry lies outside of the workload.",
    ),
    CauseClass.REGISTRY_RATE_LIMITED: Documented(
        "The registry limits how often this account or address may pull.",
        "The registry's answer (toomanyrequests, 429) in the container's event.",
        "None: the image is right, and pulling again only counts again.",
    ),
}
_WAITING = {
    "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError",
    "RegistryUnavailable",
}  # fmt: skip
# the runtime's words (containerd, CRI-O, dockershim) around those of the registry and of Go's net package; first wins
_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))  # of folded text: ignoring case takes ten times as long
    for kind, pattern in (
        ("rate_limited", r"toomanyrequests|429 too many|status code[^\n]{0,80}: 429|rate limit|too many requests"),
        ("platform", r"no match for platform in manifest|no matching manifest for|does not match the specified platform"
         r"|no image found in (?:image index|manifest list) for architecture"),
        ("unresolved", r"no such host|temporary failure in name resolution|name resolution|server misbehaving"
         r"|name or service not known"),
        ("certificate", r"x509: |certificate (?:is not|signed by|has expired|verify)|tls: (?!handshake timeout)"
         r"|server gave http response to https client|first record does not look like a tls handshake"),
        ("registry_unreachable", r"dial tcp|i/o timeout|connection refused|connection reset|no route to host"
         r"|network is unreachable|deadline exceeded|timeout|\beof\b|status code[^\n]{0,80}: 5\d\d|\b50[0-4] \w"
         r"|proxyconnect|registry (?:is )?unavailable"),
        ("denied", r"unauthori[sz]ed|authentication required|no basic auth|\b401\b|403 forbidden"
                   r"|status code[^\n]{0,80}: 403"
         r"|denied|insufficient_scope|failed to fetch (?:anonymous|oauth) token|incorrect username or password"),
        ("tag", r"manifest unknown|manifest for .{1,300} not found|not found|name unknown|repository does not exist"),
        ("disk", r"no space left on device"),
    )
)  # fmt: skip
_UNREACHABLE = {"unresolved", "certificate", "registry_unreachable"}
_WORDS = {
    "name": "the image reference is not valid",
    "never_pull": "the image is not on the node and its pull policy is Never",
    "tag": "the registry has no such image or tag",
    "platform": "the registry has it, but not for the architecture of the node",
    "denied": "the registry does not let it be pulled without (other) credentials, or it does not exist",
    "unresolved": "the name of the registry cannot be resolved",
    "certificate": "the registry's certificate is not accepted, or it does not speak TLS",
    "registry_unreachable": "the registry cannot be reached",
    "rate_limited": "the registry limits the rate of pulls",
    "disk": "the node has no space for it",
    "unknown": "it cannot be pulled",
}


def find(scope: Scope) -> Iterable[Found]:
    for container in scope.troubled:
        if container.waiting in _WAITING or _pulled_in_vain(scope, container):
            yield _found(scope, container)


def _pulled_in_vain(scope: Scope, container: Container) -> bool:
    """Whether the kubelet has said so before it wrote the status."""
    event = _pull_event(scope.failed_meanwhile(container))
    return event is not None and "pull" in event.message.lower()


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
    secret_claims, missing = missing_pull_secrets(scope, container)
    if missing:
        facts["missing_secrets"] = missing
    claims += secret_claims
    who = f"Container {container.name} of {owner.kind} {owner.name}"
    place, registry = container.pod_name, registry_of(image)
    if problem == "denied":
        held = [name for name in pull_secret_names(scope, container) if name not in missing]
        found = meaning_of_refusal(scope, container, missing, held)
        if found is not None:
            what, confidence, more = found
            facts |= more
            return Found(
                CauseClass.MISSING_PULL_SECRET,
                owner,
                confidence,
                f"{who} may not pull {image}: {what}.",
                claims,
                facts=facts,
                place=place,
                subject=image,
                next_steps=["Create the pull secret in this namespace, or name one that exists under imagePullSecrets"],
            )
    if problem in _UNREACHABLE or problem == "rate_limited":
        limited = problem == "rate_limited"
        return Found(
            CauseClass.REGISTRY_RATE_LIMITED if limited else CauseClass.REGISTRY_UNREACHABLE,
            owner,
            0.95 if limited else 0.92,
            f"{who} cannot get image {image}: {_WORDS[problem]} ({registry}).",
            claims,
            facts=facts | {"registry": registry},
            place=place,
            subject=image,
            next_steps=[_step(problem, image, before, registry)],
        )
    return Found(
        CauseClass.BAD_IMAGE,
        owner,
        {"unknown": 0.7, "denied": 0.7, "disk": 0.7}.get(problem, 0.95),
        f"{who} cannot run image {image}: {_WORDS[problem]}.",
        claims,
        facts=facts,
        place=place,
        subject=image,
        next_steps=[_step(problem, image, before, registry)],
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
    folded = said.casefold()
    return next((kind for kind, pattern in _KINDS if pattern.search(folded)), "unknown")


def _end(message: str) -> str:
    """The runtime repeats the reference at each level; its own words come last."""
    return message if len(message) <= 280 else message[-280:]


def _step(problem: str, image: str, before: str, registry: str) -> str:
    if problem in _UNREACHABLE:
        return f"Check from the node that registry {registry} resolves, answers and has a certificate that it trusts"
    if problem == "rate_limited":
        return f"Wait, pull with an account or through a mirror: {registry} counts pulls, the image itself is right"
    if problem == "platform":
        return f"Build {image} for the architecture of the node, or run it on nodes that it is built for"
    if before and before != image:
        return f"Name an image that exists; the revision before ran {before}"
    return f"Name an image that exists instead of {image}"
