"""What a pod refers to and is configured with: ConfigMaps, Secrets, pull secrets, images, addresses."""

from __future__ import annotations

from agents.remedies.remedy import WORKLOADS, Offers, Remedy, bare, because, names, number, words
from incidents.actions import AddPullSecret, ChangeConfigReference, ChangeVariable, Restart, RevertImage
from incidents.models import Cause, CauseClass


def _reference(cause: Cause) -> list[Remedy]:
    """To another object, or another key of the same, that exists."""
    kind, name = words(cause, "reference_kind"), words(cause, "reference_name")
    key, to_name, to_key = words(cause, "key"), words(cause, "suggested_name"), words(cause, "suggested_key")
    if kind not in ("ConfigMap", "Secret") or name is None or (to_name is None and (key is None or to_key is None)):
        return []
    action = ChangeConfigReference.model_validate(
        {
            "target": bare(cause.object),
            "kind": kind,
            "name": name,
            "key": key,
            "to_name": to_name or name,
            "to_key": to_key if key else None,
        }
    )
    now, then = f"{name}{f'/{key}' if key else ''}", f"{action.to_name}{f'/{to_key or key}' if key else ''}"
    return [Remedy(f"Let {cause.object.name} refer to {kind} {then} instead of {now}", because(cause), action=action)]


def _pull_secret(cause: Cause) -> list[Remedy]:
    secret = words(cause, "suggested_secret")
    if secret is None:
        return []
    dead = [*names(cause, "missing_secrets"), *names(cause, "wrong_secrets")]
    action = AddPullSecret(target=bare(cause.object), secret=secret, replaces=dead[0] if len(dead) == 1 else None)
    return [Remedy(f"Let {cause.object.name} pull its images with Secret {secret}", because(cause), action=action)]


def _image(cause: Cause) -> list[Remedy]:
    image, container = words(cause, "previous_image"), cause.object.container
    if image is None or container is None:
        return []
    return [
        Remedy(
            f"Put image {image} back into container {container}",
            f"{cause.summary} It is the last that ran.",
            action=RevertImage(target=bare(cause.object), container=container, image=image),
        )
    ]


def _address(cause: Cause) -> list[Remedy]:
    """The part of a variable's value that is wrong. An argument of a command is left to people."""
    variable, container = words(cause, "variable"), cause.object.container
    value, host, suggested = words(cause, "value"), words(cause, "dependency"), words(cause, "suggested")
    observed, field = words(cause, "observed"), words(cause, "field")
    if (
        not (variable and container and value and host and suggested and observed)
        or "suggested_value" not in cause.facts
    ):
        return []
    port = number(cause, "dependency_port")
    old, new = observed, suggested
    if field == "port" and suggested.isdigit():
        port = int(suggested)
        if value != observed:
            old = f"{host}:{observed}" if f"{host}:{observed}" in value else host
            new = f"{host}:{suggested}"
    elif field == "scheme":
        old, new = f"{observed}://{host}", f"{suggested}://{host}"
    elif field in ("host", "namespace"):
        host = suggested
    else:
        return []
    action = ChangeVariable(
        target=bare(cause.object), container=container, variable=variable, old=old, new=new, host=host, port=port
    )
    return [Remedy(f"Say {new} instead of {old} in {variable} of {container}", because(cause), action=action)]


def _restart(cause: Cause) -> list[Remedy]:
    """Only where it is known why new pods would do better, such as a Secret that was corrected after they started."""
    why = words(cause, "restart_because")
    if why is None or cause.object.kind not in WORKLOADS:
        return []
    return [Remedy(f"Restart {cause.object.name}", f"{cause.summary} {why}", action=Restart(target=bare(cause.object)))]


OFFERS: dict[CauseClass, Offers] = {
    CauseClass.MISSING_CONFIG_MAP: _reference,
    CauseClass.MISSING_CONFIG_KEY: _reference,
    CauseClass.MISSING_SECRET: _reference,
    CauseClass.MISSING_PULL_SECRET: _pull_secret,
    CauseClass.BAD_IMAGE: _image,
    CauseClass.WRONG_DEPENDENCY_ADDRESS: _address,
    CauseClass.WRONG_CREDENTIALS: _restart,
    CauseClass.BAD_CHANGE: _restart,
}
