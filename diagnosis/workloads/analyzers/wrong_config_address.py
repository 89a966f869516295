"""A ConfigMap that holds an address which cannot be right, in the key that a failing container reads.

As `wrong_address`, for values that do not stand in the template. Only containers in trouble count, and of files only
what the container's own log tells of: a ConfigMap holds much that nobody uses. Addresses in Secrets are not read.
"""

from __future__ import annotations

from collections.abc import Iterable

from diagnosis.workloads.analyzers import wrong_address
from diagnosis.workloads.analyzers.wrong_address import Wrong, line_about, wrong_of
from diagnosis.workloads.config_addresses import MapAddress, map_addresses
from diagnosis.workloads.containers import Container
from diagnosis.workloads.contract import Claim, Found
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.services import services_of
from diagnosis.workloads.snapshot import bare, ref_of
from incidents.models import CauseClass, Fact

NAME = "wrong_config_address"
READS = ("Pod", "Service", "ConfigMap")
RULED_OUT = "addresses in ConfigMaps: those that failing containers read are there (Secrets are not read)"
CAUSES = wrong_address.CAUSES


def find(scope: Scope) -> Iterable[Found]:
    calls = {(call.log.pod, call.log.container): call for call in services_of(scope.snapshot).calls}
    for container in scope.troubled:
        for held in map_addresses(scope.snapshot, container.pod):
            if held.address.container != container.name:
                continue
            wrong = wrong_of(scope, container.pod, held.address)
            if wrong is None:
                continue
            call = calls.get((container.pod_name, container.name))
            told = call if call is not None and call.failure.host == held.address.host.lower() else None
            line = line_about(scope, container, held.address, told)
            if line is not None:
                yield _found(scope, container, held, wrong, line, 0.93 if told is not None else 0.85)
            elif wrong.plain and not held.file:
                yield _found(scope, container, held, wrong, None, 0.8)


def _found(
    scope: Scope, container: Container, held: MapAddress, wrong: Wrong, line: Claim | None, confidence: float
) -> Found:
    now, owner, about = scope.snapshot.observed_at, scope.owner(container), ref_of(held.item)
    host, port = held.address.host, held.address.port
    target = f"{host}:{port}" if port else host
    observed = str(port) if wrong.part == "port" else host
    claims = [
        Claim(f"Key {held.key} of ConfigMap {about.name} holds {target}",
              [of_object(held.item, f"/data/{held.key.replace('~', '~0').replace('/', '~1')}", now)]),
        Claim(f"Container {container.name} of pod {container.pod_name} reads it",
              [of_object(container.pod, held.address.at, now)]),
        *wrong.claims,
        *([line] if line is not None else []),
    ]  # fmt: skip
    facts: dict[str, Fact] = {
        "field": wrong.part,
        "key": held.key,
        "workload": owner.name,
        "dependency": host,
        "dependency_port": port,
        "observed": observed,
        "suggested": wrong.suggested,
        **wrong.facts,
    }
    if wrong.suggested is not None:
        facts["suggested_from"] = wrong.why
    meant = f"{wrong.suggested} instead of {observed}" if wrong.suggested else f"the right address instead of {target}"
    return Found(
        CauseClass.WRONG_DEPENDENCY_ADDRESS,
        about,
        confidence,
        f"ConfigMap {about.name} names {target} in key {held.key}, which container {container.name} of {owner.kind} "
        f"{owner.name} reads: {wrong.why}.",
        claims,
        facts=facts,
        subject=held.key,
        explains=[bare(owner)],
        next_steps=[f"Put {meant} into key {held.key} of ConfigMap {about.name}, then restart {owner.name}"],
    )
