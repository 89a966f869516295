"""A program that cannot listen because its port is taken: by another container of its pod, or on its node.

All containers of a pod share one network; with `hostNetwork` all pods of a node do. Who holds the port is named where
another container declares it or says that it listens there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from diagnosis.workloads.containers import Container, containers_of
from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import number, objects, pick, text
from diagnosis.workloads.log_rules import Complaint, complaint_of, rule
from diagnosis.workloads.logs import LogLine
from diagnosis.workloads.probes import listening_in
from diagnosis.workloads.restarts import Ending
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Fact, Severity

NAME = "port_conflict"
READS = ("Pod",)
RULED_OUT = "ports: no failing container's log tells of a port that is taken"
CAUSES = {
    CauseClass.PORT_CONFLICT: Documented(
        "A program cannot listen because another container of the same pod (or, with the host's network, "
        "another pod of "
        "the node) already holds the port.",
        "The program's own words (address already in use), and the other container's declared port or its "
        "log line that "
        "says it listens there.",
        "None: which of the two programs moves to another port, and who calls it there, a person must decide.",
    )
}

RULES = (
    rule("", r"address (?:is )?already in use|\bEADDRINUSE\b|\baddress in use\b"
             r"|port (?P<port>\d{1,5}) (?:was|is) already in use"
         r"|failed listening on port (?P<other>\d{1,5})|still could not bind\(\)|only one usage of each socket address"
         r"|port is already allocated|端口.{0,20}(?:被占用|已占用)"),
)  # fmt: skip
_PORTS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\bport[ =:]{1,3}(?P<port>\d{1,5})\b",
        r"(?:\d{1,3}\.){3}\d{1,3}:(?P<port>\d{1,5})\b",
        r"(?:\[[0-9a-f:]*\]|:::?|\*|localhost|[\s\"'(]):?(?P<port>\d{2,5})(?=[\s:;,)\"']|$)",
        r"', (?P<port>\d{1,5})\)",
    )
)
_NEAR = 6


def find(scope: Scope) -> Iterable[Found]:
    for container in scope.troubled:
        complaint = complaint_of(scope, container, RULES)
        if complaint is not None:
            yield _found(scope, complaint)
        else:
            yield from _silent(scope, container)


def _silent(scope: Scope, container: Container) -> Iterable[Found]:
    """A container that ends without a word and declares the port of one that runs beside it."""
    endings = scope.recent_endings(container)
    if not endings or endings[0].ending is not Ending.EXIT_CODE or container.section != "containers":
        return
    log = scope.log(container, endings[0])
    said = log.telling_line() if log else None
    if said is not None and said.strength > 1:
        return
    now, owner = scope.snapshot.observed_at, scope.owner(container)
    mine = {value for _, value in container.ports()}
    for other in containers_of(container.pod):
        shared = sorted(mine & {value for _, value in other.ports()})
        if other.name == container.name or other.section != "containers" or not other.running or not shared:
            continue
        ended = of_object(container.pod, endings[0].at, now)
        ports = [of_object(container.pod, f"{spec.spec_at}/ports", now) for spec in (container, other)]
        claims = [
            Claim(f"Container {container.name} of pod {container.pod_name} fails: {endings[0].why}", [ended]),
            Claim(f"Containers {container.name} and {other.name} of the pod both declare port {shared[0]}", ports),
        ]
        yield Found(
            CauseClass.PORT_CONFLICT,
            owner,
            0.6,
            f"Container {container.name} of {owner.kind} {owner.name} ends without a word; it declares port {shared[0]}"
            f", as container {other.name} beside it does, which runs.",
            claims,
            facts={"port": shared[0], "held_by": other.name},
            place=container.pod_name,
            subject=str(shared[0]),
            next_steps=[f"Give container {container.name} or {other.name} another port than {shared[0]}"],
        )
        return


def _found(scope: Scope, complaint: Complaint) -> Found:
    container, owner = complaint.container, scope.owner(complaint.container)
    port = _port(complaint)
    claims = complaint.claims(scope)
    facts: dict[str, Fact] = {"log_line": complaint.line.text}
    holder, more = _holder(scope, container, port)
    claims += more
    if port is None and holder is not None:
        port = holder[1]
    if port is not None:
        facts["port"] = port
    what = f"port {port}" if port is not None else "its port"
    if holder is not None:
        facts["held_by"] = holder[0]
        why = f"{what} is already held by container {holder[0]} of the same pod"
    elif pick(container.pod, "spec", "hostNetwork") is True:
        node = text(container.pod, "spec", "nodeName")
        facts |= {"host_network": True, "node": node or None}
        shown = of_object(container.pod, "/spec/hostNetwork", scope.snapshot.observed_at)
        claims.append(Claim("The pod uses the network of its node", [shown]))
        why = f"{what} is already held on node {node}, whose network it uses"
    else:
        why = f"{what} is already held by something else in its pod, or by itself"
    return Found(
        CauseClass.PORT_CONFLICT,
        owner,
        0.94 if holder is not None else complaint.confidence - 0.03,
        f"Container {container.name} of {owner.kind} {owner.name} cannot listen: {why}.",
        claims,
        facts=facts,
        place=container.pod_name,
        subject=str(port or ""),
        next_steps=[f"Give container {container.name} or what holds {what} another port, and its callers with it"],
    )


def _port(complaint: Complaint) -> int | None:
    groups = complaint.match.groupdict()
    if groups.get("port") or groups.get("other"):
        return _valid(groups.get("port") or groups.get("other"))
    start = max(0, complaint.line.number - 1 - _NEAR)
    lines = complaint.log.lines[start : complaint.line.number + _NEAR]
    about = [line for line in lines if complaint.rule.pattern.search(line) or "port" in line.lower()]
    for line in [complaint.line.text, *reversed(about)]:
        found = (_valid(match["port"]) for pattern in _PORTS if (match := pattern.search(line[:400])))
        value = next((value for value in found if value), None)
        if value:
            return value
    return None


def _valid(value: str | None) -> int | None:
    return int(value) if value and 0 < int(value) < 65536 else None


def _holder(scope: Scope, container: Container, port: int | None) -> tuple[tuple[str, int] | None, list[Claim]]:
    """The other container that holds the port: by its log, else by its declared ports."""
    now = scope.snapshot.observed_at
    others = [c for c in containers_of(container.pod) if c.name != container.name and c.section == "containers"]
    mine = [number(item, "containerPort") for item in objects(container.spec, "ports")]
    for other in others:
        log = scope.log(other)
        for heard in listening_in(log.lines) if log else ():
            if log is not None and (heard.port == port or (port is None and heard.port in mine)):
                evidence = log.evidence(LogLine(heard.line, heard.number, 2), now)
                said = f"Container {other.name} of the same pod says {quoted(heard.line)}"
                return (other.name, heard.port), [Claim(said, [evidence])]
    for other in others:
        for index, item in enumerate(objects(other.spec, "ports")):
            value = number(item, "containerPort")
            if value is not None and (value == port or (port is None and value in mine)):
                shown = of_object(other.pod, f"{other.spec_at}/ports/{index}", now)
                claim = Claim(
                    f"Container {other.name} of the same pod declares port {value}", [shown], Severity.WARNING
                )
                return (other.name, value), [claim]
    return None, []
