"""A program that ends by its own decision and says why: the telling line of its log, quoted.

Without such a line there is no cause here: an exit code alone says that it failed, not why. A program that runs, is
not ready and logs errors is reported with less confidence.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from diagnosis.workloads.containers import Container
from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import when
from diagnosis.workloads.logs import Log, LogLine
from diagnosis.workloads.restarts import Ending, Restart
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Fact

NAME = "application_error"
READS = ("Pod",)
RULED_OUT = "the program's own errors: no container ended with an exit code of its own and a log that says why"
CAUSES = {
    CauseClass.APPLICATION_ERROR: Documented(
        "The program ended by its own decision, and its log says why.",
        "An exit code of its own, and the telling line of the log of that instance (a trace, a panic, an "
        "error line); with less confidence, errors in the log of a program that runs and is not ready.",
        "A rollback where an earlier revision was seen healthy; otherwise a person reads the quoted line: "
        "what the program objects to is not in the cluster.",
    ),
}

_CONFIDENCE = {3: 0.85, 2: 0.78, 1: 0.5}
_STARTING = timedelta(seconds=60)


def find(scope: Scope) -> Iterable[Found]:
    for container in scope.troubled:
        endings = scope.recent_endings(container)
        ended = next((ending for ending in endings if ending.ending is Ending.EXIT_CODE), None)
        if ended is not None:
            yield from _ended(scope, container, ended)
        elif not endings and container.running and not container.ready and _settled(scope, container):
            yield from _unready(scope, container)


def _ended(scope: Scope, container: Container, ended: Restart) -> Iterable[Found]:
    log = scope.log(container, ended)
    line = log.telling_line() if log else None
    if log is None or line is None:
        if ended.message:  # the program's own termination message
            yield _found(scope, container, ended, None, None, 0.75)
        return
    yield _found(scope, container, ended, log, line, _CONFIDENCE[line.strength])


def _unready(scope: Scope, container: Container) -> Iterable[Found]:
    log = scope.log(container)
    line = log.telling_line() if log else None
    if log is not None and line is not None and line.strength >= 2:
        yield _found(scope, container, None, log, line, 0.5)


def _settled(scope: Scope, container: Container) -> bool:
    started = when(container.status, "state", "running", "startedAt")
    return started is not None and scope.snapshot.observed_at - started > _STARTING


def _found(
    scope: Scope,
    container: Container,
    ended: Restart | None,
    log: Log | None,
    line: LogLine | None,
    confidence: float,
) -> Found:
    now, owner = scope.snapshot.observed_at, scope.owner(container)
    claims = []
    facts: dict[str, Fact] = {"restarts": container.restarts}
    where = f"Container {container.name} of pod {container.pod_name}"
    if ended is not None:
        said = f"{where} ended by itself with exit code {ended.exit_code}"
        claims.append(Claim(said, [of_object(container.pod, ended.at, now)]))
        facts["exit_code"] = ended.exit_code
        words = f"ends with exit code {ended.exit_code}"
    else:
        shown = of_object(container.pod, container.status_at, now)
        claims.append(Claim(f"{where} runs and is not ready", [shown]))
        words = "runs, is not ready and reports an error"
    if log is not None and line is not None:
        claims.append(Claim(f"Its log says {quoted(line.text)}", [log.evidence(line, now)]))
        facts["log_line"] = line.text
        why = line.text
    else:
        message = ended.message if ended else ""
        shown = of_object(container.pod, f"{ended.at}/message" if ended else container.status_at, now)
        claims.append(Claim(f"Its termination message says {quoted(message)}", [shown]))
        why = message.strip().split("\n", 1)[0][:300]
    return Found(
        CauseClass.APPLICATION_ERROR,
        owner,
        confidence,
        f"Container {container.name} of {owner.kind} {owner.name} {words}: {why}",
        claims,
        facts=facts,
        place=container.pod_name,
        next_steps=[f"Have the owners of {owner.name} look at what its log says: {why[:160]}"],
    )
