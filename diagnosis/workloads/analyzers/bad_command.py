"""A container whose program cannot be started: no such file, not executable, a wrong working directory.

The runtime says it (`StartError`, exit code 128), or a shell does (126 and 127). A program that leaves at once with 0
where it should keep running is reported here too, with less confidence: it is usually the wrong command.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta

from diagnosis.workloads.containers import Container
from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.logs import LogLine
from diagnosis.workloads.restarts import Ending, Restart
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Evidence, Fact

NAME = "bad_command"
READS = ("Pod",)
RULED_OUT = "the command: no container failed to start for its command"
CAUSES = {
    CauseClass.BAD_COMMAND: Documented(
        "The program cannot be started: no such file, not executable, a wrong working directory, or a "
        "command that leaves at once.",
        "The runtime's StartError, or exit code 126 or 127 with the shell's own line; a quick end with code "
        "0 counts with less confidence.",
        "A rollback where an earlier revision was seen healthy; otherwise a person corrects the command, "
        "which only its authors know.",
    ),
}

_WAITING = {"RunContainerError", "CreateContainerError", "ContainerCannotRun", "StartError"}
_START_FAILURE = re.compile(
    r"executable file not found|no such file or directory|permission denied|exec format error|is a directory"
    r"|chdir to cwd|exec: |no command specified|not a directory",
    re.IGNORECASE,
)
_NOT_FOUND = re.compile(r"not found|no such file|permission denied|not executable|exec format error", re.IGNORECASE)
_INNERMOST = re.compile(r"((?:exec: |chdir to cwd).{3,250}?)(?:: unknown)?$")
_AT_ONCE = timedelta(seconds=10)


def find(scope: Scope) -> Iterable[Found]:
    for container in scope.troubled:
        endings = scope.recent_endings(container)
        failed = next((ending for ending in endings if ending.ending is Ending.NOT_STARTED), None)
        if failed is not None and failed.exit_code in (126, 127) and not failed.reason.startswith("Start"):
            yield _by_shell(scope, container, failed)
        elif failed is not None or container.waiting in _WAITING:
            yield from _by_runtime(scope, container, failed)
        elif endings and endings[0].ending is Ending.COMPLETED and container.section == "containers":
            yield from _left_at_once(scope, container, endings[0])


def _by_runtime(scope: Scope, container: Container, failed: Restart | None) -> Iterable[Found]:
    now = scope.snapshot.observed_at
    if failed is not None and failed.message:
        message, at = failed.message, f"{failed.at}/message"
    else:
        message, at = container.waiting_message, f"{container.status_at}/state/waiting/message"
    if not _START_FAILURE.search(message):
        return  # the runtime failed for a reason that is not the command's (a mount, a device, a hook)
    claims = [
        Claim(
            f"The runtime cannot start container {container.name} of pod {container.pod_name}: {quoted(_end(message))}",
            [of_object(container.pod, at, now)],
        )
    ]
    facts: dict[str, Fact] = {"exit_code": failed.exit_code if failed else None, "command": container.command}
    yield _found(scope, container, 0.95, claims, facts, _end(message))


def _by_shell(scope: Scope, container: Container, failed: Restart) -> Found:
    now = scope.snapshot.observed_at
    what = "was not found" if failed.exit_code == 127 else "may not be executed"
    claims = [
        Claim(
            f"Container {container.name} of pod {container.pod_name} ended with exit code {failed.exit_code}: "
            f"a command {what}",
            [of_object(container.pod, failed.at, now)],
        )
    ]
    log = scope.log(container, failed)
    lines = enumerate(log.lines) if log else ()
    telling = [LogLine(line.strip()[:400], index + 1, 2) for index, line in lines if _NOT_FOUND.search(line[:2000])]
    if log and telling:
        claims.append(Claim(f"Its log says {quoted(telling[-1].text)}", [log.evidence(telling[-1], now)]))
    facts: dict[str, Fact] = {"exit_code": failed.exit_code, "command": container.command}
    why = telling[-1].text if telling else f"exit code {failed.exit_code}, a command {what}"
    return _found(scope, container, 0.92 if telling else 0.8, claims, facts, why)


def _left_at_once(scope: Scope, container: Container, ended: Restart) -> Iterable[Found]:
    if ended.lifetime is None or ended.lifetime > _AT_ONCE or container.restarts < 1:
        return
    now = scope.snapshot.observed_at
    evidence: list[Evidence] = [of_object(container.pod, ended.at, now)]
    life = int(ended.lifetime.total_seconds())
    where = f"container {container.name} of pod {container.pod_name}"
    claims = [Claim(f"{where} ends by itself with exit code 0 after {life} s, {container.restarts} times", evidence)]
    facts: dict[str, Fact] = {"exit_code": 0, "command": container.command}
    why = f"its program ends with success after {life} s, where it should keep running"
    yield _found(scope, container, 0.6, claims, facts, why)


def _found(
    scope: Scope, container: Container, confidence: float, claims: list[Claim], facts: dict[str, Fact], why: str
) -> Found:
    owner, now = scope.owner(container), scope.snapshot.observed_at
    for field in ("command", "args", "workingDir"):
        if container.spec.get(field):
            shown = of_object(container.pod, f"{container.spec_at}/{field}", now)
            claims.append(Claim(f"Its {field} is set in the pod template", [shown]))
    return Found(
        CauseClass.BAD_COMMAND,
        owner,
        confidence,
        f"The command of container {container.name} in {owner.kind} {owner.name} does not run: {why}.",
        claims,
        facts=facts,
        place=container.pod_name,
        next_steps=[f"Correct command, args or workingDir of container {container.name}, or use an image that has it"],
    )


def _end(message: str) -> str:
    """The runtime wraps its error in layers; the innermost is last."""
    message = message.strip().split("\n", 1)[0]
    innermost = _INNERMOST.search(message)
    return innermost[1] if innermost else message[-260:]
