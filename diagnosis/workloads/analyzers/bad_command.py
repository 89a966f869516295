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
from diagnosis.workloads.events import Event
from diagnosis.workloads.evidence import of_event, of_object
from diagnosis.workloads.fields import text
from diagnosis.workloads.logs import Log, LogLine
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
_OF_THE_RUNTIME = re.compile(r"failed to (?:create|start) \S{0,40} ?(?:task|container)|OCI runtime", re.IGNORECASE)
_OF_A_MOUNT = re.compile(r"error mounting|mountpoint|subpath", re.IGNORECASE)
_PROBLEMS = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        ("architecture", r"exec format error"),
        ("working_directory", r"chdir to cwd|\bcwd\b|working directory|mkdir \S{1,300}: not a directory"),
        ("not_found", r"executable file not found|no such file or directory|not found"),
        ("not_executable", r"permission denied|is a directory|not executable"),
    )
)
_NOT_FOUND = re.compile(r"not found|no such file|permission denied|not executable|exec format error", re.IGNORECASE)
_INNERMOST = re.compile(r"((?:exec: |chdir to cwd).{3,250}?)(?:: unknown)?$")
# runc starts its own init first, so that a failing exec of the program ends like a program that wrote one line
_EXEC_FAILED = re.compile(
    r"^(?:standard_init_linux\.go:\d+: )?exec (?:/?\S{1,300}|user process caused): .{0,40}"
    r"(?:exec format error|no such file or directory|permission denied)\s*$",
    re.IGNORECASE,
)
_AT_ONCE = timedelta(seconds=10)


def find(scope: Scope) -> Iterable[Found]:
    for container in scope.troubled:
        endings = scope.recent_endings(container)
        failed = next((ending for ending in endings if ending.ending is Ending.NOT_STARTED), None)
        if failed is not None and failed.exit_code in (126, 127) and not failed.reason.startswith("Start"):
            yield _by_shell(scope, container, failed)
        elif failed is not None or container.waiting in _WAITING:
            yield from _by_runtime(scope, container, failed)
        elif events := [e for e in scope.failed_meanwhile(container) if _OF_THE_RUNTIME.search(e.message)]:
            yield from _by_runtime(scope, container, None, events[-1])
        elif (told := _exec_failed(scope, container, endings)) is not None:
            yield from _by_log(scope, container, *told)
        elif endings and endings[0].ending is Ending.COMPLETED and container.section == "containers":
            yield from _left_at_once(scope, container, endings[0])


def _by_runtime(
    scope: Scope, container: Container, failed: Restart | None, event: Event | None = None
) -> Iterable[Found]:
    now = scope.snapshot.observed_at
    if event is not None:
        message, at = event.message, ""
    elif failed is not None and failed.message:
        message, at = failed.message, f"{failed.at}/message"
    else:
        message, at = container.waiting_message, f"{container.status_at}/state/waiting/message"
    if not _START_FAILURE.search(message) or _OF_A_MOUNT.search(message):
        return  # the runtime failed for a reason that is not the command's (a mount, a device, a hook)
    claims = [
        Claim(
            f"The runtime cannot start container {container.name} of pod {container.pod_name}: {quoted(_end(message))}",
            [of_event(event, now) if event is not None else of_object(container.pod, at, now)],
        )
    ]
    facts: dict[str, Fact] = {"exit_code": failed.exit_code if failed else None, "command": container.command}
    facts |= _particulars(scope, container, message, claims)
    yield _found(scope, container, 0.95, claims, facts, _end(message))


def _exec_failed(scope: Scope, container: Container, endings: list[Restart]) -> tuple[Restart, Log, LogLine] | None:
    """The runtime's own line, where it is all that the log has."""
    if not endings or endings[0].ending is not Ending.EXIT_CODE:
        return None
    log = scope.log(container, endings[0])
    filled = [(index, line.strip()) for index, line in enumerate(log.lines) if line.strip()] if log else []
    if log is None or len(filled) != 1 or not _EXEC_FAILED.match(filled[0][1][:500]):
        return None
    return endings[0], log, LogLine(filled[0][1][:400], filled[0][0] + 1, 2)


def _by_log(scope: Scope, container: Container, ended: Restart, log: Log, line: LogLine) -> Iterable[Found]:
    now = scope.snapshot.observed_at
    claims = [
        Claim(f"The log of container {container.name} is only {quoted(line.text)}", [log.evidence(line, now)]),
        Claim(
            f"Container {container.name} of pod {container.pod_name} ended with exit code {ended.exit_code}",
            [of_object(container.pod, ended.at, now)],
        ),
    ]
    facts: dict[str, Fact] = {"exit_code": ended.exit_code, "command": container.command}
    facts |= _particulars(scope, container, line.text, claims)
    yield _found(scope, container, 0.95, claims, facts, line.text)


def _particulars(scope: Scope, container: Container, message: str, claims: list[Claim]) -> dict[str, Fact]:
    """What is wrong with the command, and what belongs to that; adds its claims."""
    facts: dict[str, Fact] = {"problem": _problem(message)}
    if facts["problem"] == "working_directory":
        facts["working_directory"] = text(container.spec, "workingDir") or None
    node = scope.snapshot.get("Node", None, text(container.pod, "spec", "nodeName"))
    if facts["problem"] == "architecture" and node is not None:
        machine = text(node, "status", "nodeInfo", "architecture")
        facts["node_architecture"] = machine or None
        shown = of_object(node, "/status/nodeInfo/architecture", scope.snapshot.observed_at)
        claims.append(Claim(f"Node {text(node, 'metadata', 'name')} runs programs for {machine}", [shown]))
    return facts


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
    facts["problem"] = _problem(telling[-1].text if telling else "") or (
        "not_found" if failed.exit_code == 127 else "not_executable"
    )
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


def _problem(message: str) -> str | None:
    """What is wrong with the command, in the runtime's or the shell's words; a format error is another machine's
    program, or a script without `#!`."""
    return next((kind for kind, pattern in _PROBLEMS if pattern.search(message)), None)


def _end(message: str) -> str:
    """The runtime wraps its error in layers; the innermost is last."""
    message = message.strip().split("\n", 1)[0]
    innermost = _INNERMOST.search(message)
    return innermost[1] if innermost else message[-260:]
