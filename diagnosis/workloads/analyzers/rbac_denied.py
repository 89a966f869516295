"""A program that asks the API server for what its own service account may not do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from diagnosis.workloads.containers import Container
from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_event, of_object
from diagnosis.workloads.fields import text
from diagnosis.workloads.logs import LogLine
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Evidence, Fact

NAME = "rbac_denied"
READS = ("Pod", "Event")
RULED_OUT = "rights: no failing container says that its service account may not do what it asks for"
CAUSES = {
    CauseClass.RBAC_DENIED: Documented(
        "The program fails because the API server forbids its own service account what it asks for.",
        "The API server's words in the container's log or in an event, naming the account of this very pod.",
        "A person grants the right by a Role and a RoleBinding, or takes the need away: no rule gives rights.",
    )
}

# k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go
_FORBIDDEN = re.compile(
    r"User \\?\"system:serviceaccount:(?P<space>[^:\"\\]+):(?P<account>[^\"\\]+)\\?\" cannot (?P<verb>[\w*]+) "
    r"(?:resource \\?\"(?P<resource>[^\"\\]+)\\?\"(?: in API group \\?\"(?P<group>[^\"\\]*)\\?\")?"
    r"|path \\?\"(?P<path>[^\"\\]+)\\?\"|(?P<older>[\w./-]+))"
    r"(?: in the namespace \\?\"(?P<namespace>[^\"\\]+)\\?\"| at the cluster scope)?"
)
_LAST_LINES = 400


def find(scope: Scope) -> Iterable[Found]:
    for container in scope.troubled:
        for line, evidence in _told(scope, container):
            match = _FORBIDDEN.search(line)
            own = text(container.pod, "spec", "serviceAccountName") or text(container.pod, "spec", "serviceAccount")
            if match and match["space"] == container.namespace and match["account"] == (own or "default"):
                yield _found(scope, container, match, line, evidence)
                break


def _told(scope: Scope, container: Container) -> Iterator[tuple[str, Evidence]]:
    now = scope.snapshot.observed_at
    endings = scope.recent_endings(container)
    log = scope.log(container, endings[0] if endings else None)
    if log is not None:
        for index in range(len(log.lines) - 1, max(-1, len(log.lines) - 1 - _LAST_LINES), -1):
            if "cannot" in log.lines[index] and "system:serviceaccount:" in log.lines[index]:
                line = LogLine(log.lines[index].strip()[:400], index + 1, 2)
                yield line.text, log.evidence(line, now)
    for event in reversed(scope.pod_events(container.pod)):
        if event.warning and event.container in (None, container.name):
            yield event.message, of_event(event, now)


def _found(scope: Scope, container: Container, match: re.Match[str], line: str, evidence: Evidence) -> Found:
    owner, now = scope.owner(container), scope.snapshot.observed_at
    account, namespace = match["account"], match["namespace"]
    what = match["resource"] or match["path"] or match["older"]
    where = f"in namespace {namespace}" if namespace else "in the whole cluster"
    claims = [Claim(f"Container {container.name} of pod {container.pod_name} is told {quoted(line)}", [evidence])]
    if text(container.pod, "spec", "serviceAccountName"):
        shown = of_object(container.pod, "/spec/serviceAccountName", now)
        claims.append(Claim(f"The pod runs as service account {account}", [shown]))
    facts: dict[str, Fact] = {
        "service_account": account,
        "verb": match["verb"],
        "resource": what,
        "api_group": match["group"] or "",
        "in_namespace": namespace,
    }
    return Found(
        CauseClass.RBAC_DENIED,
        owner,
        0.92,
        f"Container {container.name} of {owner.kind} {owner.name} may not {match['verb']} {what} {where} as service "
        f"account {account}.",
        claims,
        facts=facts,
        place=container.pod_name,
        subject=f"{match['verb']} {what}",
        next_steps=[
            f"Grant service account {account} the right to {match['verb']} {what} {where}, if it should have it"
        ],
    )
