"""A database that lets a program in and then does not serve it: read-only, or out of connections.

The log of the client says so. Where the database is a workload of the snapshot, the cause lies in it, and the client
is its victim; a pool that the client itself keeps too small lies in the client.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from diagnosis.workloads.contract import Claim, Documented, Found
from diagnosis.workloads.dependency import dependency_of, is_server
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import Object, mapping, objects, pick, strings, text
from diagnosis.workloads.log_rules import Complaint, complaints, rule
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Fact, ObjectRef, Severity

NAME = "database_state"
READS = ("Pod", "Service")
RULED_OUT = "databases: no failing container's log tells of a database that is read-only or out of connections"
CAUSES = {
    CauseClass.DATABASE_READ_ONLY: Documented(
        "A database takes no writes: a replica, a mode that was set, or data that it cannot save.",
        "The client's log line in the words of the product; the database's own argument or variable where "
        "it runs here.",
        "None by itself: why it is read-only must be known first, as the mode protects data.",
    ),
    CauseClass.CONNECTIONS_EXHAUSTED: Documented(
        "A database takes no more connections, or a program's own pool of them is used up.",
        "The client's log line in the words of the product; the database's limit where it is set in its template.",
        "None by itself: a leak and a limit that is too low look the same from one line.",
    ),
}

READ_ONLY = (
    rule("postgresql", r"cannot execute [A-Z ]{2,40} in a read-only transaction|\(SQLSTATE 25006\)|\(25006\)"
         r"|cannot execute [A-Z ]{2,40} during recovery"),
    rule("mysql", r"running with the --(?:super[-_])?read[-_]only|\(1290, |ERROR 1290\b"
                  r"|running in read-only mode|ERROR 1836\b"),
    rule("redis", r"READONLY You can't write|can'?t write against a read only (?:replica|slave)"
                  r"|redis\S{0,40}ReadOnlyError"),
    rule("redis", r"\bMISCONF Redis is configured to save|MISCONF\b.{0,60}(?:persist|AOF|RDB)"
                  r"|Errors writing to the AOF",
         "cannot_persist"),
    rule("mongodb", r"NotWritablePrimary|NotPrimaryNoSecondaryOk|NotMasterNoSlaveOk|\bnot (?:master"
                    r"|primary)\b.{0,60}\b10107\b"
         r"|mongo.{0,120}\bnot (?:master|primary)\b"),
    rule("elasticsearch", r"index read-only / allow delete|FORBIDDEN/\d{1,2}/(?:index|cluster) read-only"),
    rule("sqlserver", r"because the database is read-only|failed to update database .{1,80} read-only"),
    rule("oracle", r"ORA-16000"),
    rule("sqlite", r"attempt to write a readonly database"),
    rule("etcd", r"etcdserver: (?:not capable|learner member)"),
)  # fmt: skip
EXHAUSTED = (
    rule("postgresql", r"sorry, too many clients already|remaining connection slots are reserved"
                       r"|\(SQLSTATE 53300\)|\(53300\)"
         r"|too many connections for (?:role|database) \"|no more connections allowed \(max_client_conn\)"),
    rule("mysql", r"ERROR 1040\b|\(1040, |Error 1040\b|ER_CON_COUNT_ERROR|max_user_connections"
                  r"|mysql.{0,80}too many connections"),
    rule("redis", r"max number of clients reached"),
    rule("mongodb", r"connection refused because too many open connections"),
    rule("rabbitmq", r"connection limit \(\d{1,9}\) is reached"),
    rule("oracle", r"ORA-12516|ORA-12519|ORA-12520|ORA-00018|ORA-00020"),
    rule("database", r"QueuePool limit of size \d{1,6}|Connection is not available, request timed out after \d"
         r"|Timeout acquiring a connection\. The pool is probably full|PoolExhaustedException|WaitQueueTimeoutError"
         r"|timed out while checking out a connection from connection pool|(?:connection )?pool (?:is )?exhausted"
         r"|prior to obtaining a connection from the pool|Timeout waiting for idle object"
         r"|could not obtain a (?:database )?connection within|MaxClientsInSessionMode", "pool"),
    rule("database", r"\bToo many connections\b"),
)  # fmt: skip
_SETTINGS = {
    CauseClass.DATABASE_READ_ONLY: re.compile(
        r"read[-_]only|transaction_read_only|replica-?of|slaveof|--save|stop-writes-on-bgsave|hot_standby|standby",
        re.IGNORECASE,
    ),
    CauseClass.CONNECTIONS_EXHAUSTED: re.compile(
        r"max[-_]?(?:client|conn|user_conn)\w*|max_client_conn", re.IGNORECASE
    ),
}
_TEXT_LIMIT = 200


def find(scope: Scope) -> Iterable[Found]:
    callers = _callers(scope)
    for cause, rules in ((CauseClass.DATABASE_READ_ONLY, READ_ONLY), (CauseClass.CONNECTIONS_EXHAUSTED, EXHAUSTED)):
        for inside, look in ((True, scope), (False, callers)):
            for complaint in complaints(look, rules):
                if is_server(complaint.rule.product, complaint.log.lines):
                    continue
                found = _found(look, cause, complaint)
                if inside or found.object.model_copy(update={"container": None}) in scope.workloads:
                    yield found


def _callers(scope: Scope) -> Scope:
    """Where one thing is asked about: everything else, as a database's fault shows in its clients."""
    if scope.target is None:
        return Scope(scope.snapshot, [], [])
    mine = {id(pod) for pod in scope.pods}
    return Scope(scope.snapshot, [pod for pod in scope.snapshot.all("Pod") if id(pod) not in mine], [])


def _found(scope: Scope, cause: CauseClass, complaint: Complaint) -> Found:
    container, owner = complaint.container, scope.owner(complaint.container)
    dependency = dependency_of(scope, container, complaint.line.text, complaint.rule.product)
    facts: dict[str, Fact] = {**dependency.facts(), "log_line": complaint.line.text}
    facts["client"] = f"{owner.kind}/{owner.name}"
    claims = [*complaint.claims(scope), *dependency.claims]
    client = f"container {container.name} of {owner.kind} {owner.name}"
    about: ObjectRef = owner
    victims: list[ObjectRef] = []
    pool = complaint.rule.kind == "pool"
    if (
        dependency.workload is not None
        and not pool
        and dependency.workload != owner.model_copy(update={"container": None})
    ):
        name, setting = _setting(scope, dependency.workload, cause)
        about = dependency.workload.model_copy(update={"container": name})
        victims = [owner.model_copy(update={"container": None})]
        if setting is not None:
            claims.append(setting[0])
            facts["setting"] = setting[1]
    words = _words(cause, complaint.rule.kind)
    said = f" ({facts['setting']})" if "setting" in facts else ""
    return Found(
        cause,
        about,
        complaint.confidence + (0.04 if "setting" in facts else 0.0),
        f"{dependency} {words}{said}, says {client}." if not pool else f"The pool of connections of {client} {words}.",
        claims,
        facts=facts,
        place=container.pod_name if not victims else None,
        subject=dependency.host or dependency.name,
        explains=victims,
        next_steps=[_step(cause, str(dependency), complaint.rule.kind, owner.name)],
    )


def _words(cause: CauseClass, kind: str) -> str:
    if kind == "pool":
        return "is exhausted"
    if kind == "cannot_persist":
        return "refuses writes because it cannot save its data"
    return "is read-only" if cause is CauseClass.DATABASE_READ_ONLY else "accepts no more connections"


def _step(cause: CauseClass, name: str, kind: str, client: str) -> str:
    if kind == "pool":
        return f"Look for connections that {client} does not give back, then compare the size of its pool with its load"
    if kind == "cannot_persist":
        return f"Look at why {name} cannot save: its data directory's space and permissions"
    if cause is CauseClass.DATABASE_READ_ONLY:
        return f"Point writes of {client} at the primary of {name}, or end its read-only mode once it is "
        "known why it is on"
    return f"See who holds the connections of {name}; close what is leaked before its limit is raised"


def _setting(scope: Scope, ref: ObjectRef, cause: CauseClass) -> tuple[str | None, tuple[Claim, str] | None]:
    """The database's container, and its own argument or variable that says so, if it has one."""
    item = scope.snapshot.get(ref.kind, ref.namespace, ref.name)
    base = "/spec" if ref.kind == "Pod" else "/spec/template/spec"
    spec = mapping(item, "spec") if ref.kind == "Pod" else mapping(item, "spec", "template", "spec")
    containers = objects(spec, "containers")
    pattern = _SETTINGS[cause]
    for index, container in enumerate(containers):
        for pointer, words in _texts(container):
            match = pattern.search(words)
            if match and item is not None:
                shown = of_object(item, f"{base}/containers/{index}{pointer}", scope.snapshot.observed_at)
                around = re.search(rf"\S*{re.escape(match[0])}(?:=\S+|\S*\s+[^-\s]\S*)?", words)
                near = around[0] if around else match[0]
                said = f"{ref.kind} {ref.name} sets {match[0]} in container {text(container, 'name')}"
                claim = Claim(said, [shown], Severity.WARNING)
                return text(container, "name") or None, (claim, near[:_TEXT_LIMIT])
    return (text(containers[0], "name") or None) if len(containers) == 1 else None, None


def _texts(container: Object) -> Iterable[tuple[str, str]]:
    for field in ("command", "args"):
        if words := strings(container, field):
            yield f"/{field}", " ".join(words)
    for index, variable in enumerate(objects(container, "env")):
        if pick(variable, "value"):
            yield f"/env/{index}", f"{text(variable, 'name')}={text(variable, 'value')}"
