"""The addresses that a container is configured with: values of its environment and arguments that name a host.

Only literal values are read here; what comes from ConfigMaps is in `config_addresses`, and values of Secrets are never
read. A value that was redacted is used as far as its host still shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from diagnosis.hosts_in_text import BARE, HOST_NAMES, hosts_in, port_of
from diagnosis.workloads.containers import SECTIONS
from diagnosis.workloads.fields import Object, objects, strings, text

_REFERENCE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
_HOST_WORD = re.compile(r"(?:HOST|HOSTNAME|ADDR|ADDRESS|SERVER|ENDPOINT)$", re.IGNORECASE)
_LISTENS = re.compile(r"(?:^|_)(?:LISTEN|BIND)|^HOSTNAME$", re.IGNORECASE)  # its own address, not another's


@dataclass(frozen=True)
class Address:
    """One address in a container's configuration.

    `at` points at the value, below the parent of the pod (or template) spec. `variable` is the environment variable,
    None for an argument. `explicit` tells whether the value itself has the port; `port_variable` is the variable beside
    it that has it.
    """

    container: str
    variable: str | None
    value: str
    scheme: str
    host: str
    port: int | None
    explicit: bool
    at: str
    port_variable: str | None = None
    port_at: str | None = None


def addresses_of(holder: Object) -> Iterator[Address]:
    """Every address in the containers of a pod or pod template."""
    for section in SECTIONS:
        for index, container in enumerate(objects(holder, "spec", section)):
            yield from _of_container(container, f"/spec/{section}/{index}")


def _of_container(container: Object, at: str) -> Iterator[Address]:
    name = text(container, "name")
    values = {text(variable, "name"): text(variable, "value") for variable in objects(container, "env")}
    places = {
        text(variable, "name"): f"{at}/env/{index}/value" for index, variable in enumerate(objects(container, "env"))
    }
    for index, variable in enumerate(objects(container, "env")):
        key, raw = text(variable, "name"), text(variable, "value")
        if not raw or len(raw) > 4000 or _LISTENS.search(key):
            continue
        value = _REFERENCE.sub(lambda match: values.get(match[1], match[0]), raw)
        where = f"{at}/env/{index}/value"
        found = list(hosts_in(value))
        beside = None
        if not found and HOST_NAMES.search(key) and (match := BARE.match(value)):
            other = _HOST_WORD.sub("PORT", key)
            beside = other if port_of(values.get(other, "")) else None
            found = [("", match["host"], port_of(values.get(other, "")), False)]
        for scheme, host, number, explicit in found:
            yield Address(
                name, key, raw, scheme, host, number, explicit, where, beside, places[beside] if beside else None
            )
    for field in ("command", "args"):
        for index, argument in enumerate(strings(container, field)):
            if len(argument) > 4000 or "\n" in argument.strip():
                continue  # a script
            for scheme, host, number, explicit in hosts_in(argument):
                yield Address(name, None, argument, scheme, host, number, explicit, f"{at}/{field}/{index}")
