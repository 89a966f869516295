"""The keys of Secrets that a container reads an address from, by their names alone.

Values of Secrets are not read: the way in keeps their keys and nothing else (`diagnosis.redaction`), because whoever
may see a diagnosis, a ticket's snapshot or a model's prompt need not be allowed to see them, and a host beside a
password in one URL cannot be taken out of it for certain. So nothing is compared; where the program's own log tells of
a host that is no Service here, and a key like these is where it can have it from, whoever may look is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from diagnosis.workloads.containers import Container
from diagnosis.workloads.fields import mapping, objects, text

_ADDRESS = re.compile(
    r"(?:^|[_.-])(?:HOST|HOSTNAME|HOSTS|ADDR|ADDRESS|SERVERS?|ENDPOINT|UR[IL]|DSN|BROKERS?)$", re.IGNORECASE
)


@dataclass(frozen=True)
class SecretAddress:
    """`words` name the key, its Secret and the variable; `at` points at the reference in the pod."""

    words: str
    at: str


def secret_addresses(container: Container) -> Iterator[SecretAddress]:
    """Keys that hold a host (or a URL with one), by the name of the variable or of the key."""
    for index, variable in enumerate(objects(container.spec, "env")):
        source = mapping(variable, "valueFrom", "secretKeyRef")
        name, secret, key = text(variable, "name"), text(source, "name"), text(source, "key")
        if secret and key and any(_ADDRESS.search(word) for word in (name, key)):
            at = f"{container.spec_at}/env/{index}/valueFrom/secretKeyRef"
            yield SecretAddress(f"key {key} of Secret {secret} (variable {name})", at)
