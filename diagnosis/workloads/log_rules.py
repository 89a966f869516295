"""Rules that read a cause out of a program's last words: a table of patterns, each of one product, and when to believe.

A line is believed when the container is in trouble by itself (it ended, or runs and is not ready), the line stands near
the end of the log that tells of it, no good start and no unrelated crash comes after it, and it does not call itself
harmless (nor only a warning where an error follows). A server's own log tells of its clients' failures: it is no client
of itself.
Every pattern is searched in the first 800 characters of a line and has no nested repetition.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from diagnosis.workloads.containers import Container
from diagnosis.workloads.contract import Claim, quoted
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import when
from diagnosis.workloads.logs import Log, LogLine
from diagnosis.workloads.restarts import Ending, Restart
from diagnosis.workloads.scope import Scope

_LAST_LINES = 80
_LINE = 800
_SETTLED_SECONDS = 10
_BY_ITSELF = {Ending.EXIT_CODE, Ending.LIVENESS_KILL, Ending.STARTUP_KILL, Ending.NOT_STARTED, Ending.COMPLETED}

_HARMLESS = re.compile(
    r"^\W{0,3}(?:[\w.:,+/-]{1,40}[\s|]+){0,4}[\[(<]?(?:INFO|DEBUG|TRACE|NOTICE|VERBOSE|Note)[\])>]?[\s:|]"
    r"|\blevel\"?[=:]\s?\"?(?:info|debug|trace)\b|\bI\d{4} \d\d:\d\d|\b(?:will retry|retrying|ignored"
    r"|ignoring|skipping)\b",
    re.IGNORECASE,
)
_GOOD_START = re.compile(
    r"\b(?:now )?(?:listening (?:on|at)\b|ready to (?:accept|serve|handle)|ready for connections|accepting connections"
    r"|server (?:is )?(?:started|running|ready)|started \w{1,60} in \d|application startup complete|startup complete"
    r"|(?:re)?connected to\b|connection (?:re-?established|restored|succeeded)|authenticated (?:as|successfully)"
    r"|login succeeded|serving (?:on|at|requests)|启动成功|连接成功)",
    re.IGNORECASE,
)
_PROPERTY = re.compile(
    r"^\s+(?:code|errno|syscall|path|address|port|dest)\b[^:]{0,2}: "
)  # Node prints an error's after it
_WARNING = re.compile(r"\bwarn(?:ing)?\b", re.IGNORECASE)
_ERROR = re.compile(r"\b(?:error|fatal|panic|critical|exception)\b|错误|致命", re.IGNORECASE)
_CHAINED = re.compile(
    r"^(?:Caused by: |During handling of the above|The above exception was the direct cause)|^\s+\.\.\. "
)


@dataclass(frozen=True)
class LogRule:
    """One way in which a program of one `product` says it. `kind` tells cases of one class apart.

    `marks` are texts in lower case of which each match holds one: most logs are done after looking for them.
    """

    product: str
    pattern: re.Pattern[str]
    kind: str
    marks: tuple[str, ...]


def rule(product: str, pattern: str, kind: str = "") -> LogRule:
    return LogRule(product, re.compile(pattern, re.IGNORECASE), kind, marks_of(pattern))


def marks_of(pattern: str) -> tuple[str, ...]:
    """For each alternative of a pattern the longest text that all its matches hold, in lower case."""
    longest, run, depth, at = [""], "", 0, 0
    while at <= len(pattern):
        char = pattern[at : at + 1]
        step = 2 if char == "\\" else 1
        literal = char if char and char not in "\\()[].?*+{}|^$" else ""
        if char == "\\" and not pattern[at + 1].isalnum():
            literal = pattern[at + 1]
        if pattern[at + step : at + step + 1] in ("?", "*", "{"):
            literal = ""  # it may be absent; what follows is no part of the same text
        if literal and depth == 0:
            run += literal.lower()
        else:
            longest[-1] = max(longest[-1], run, key=len)
            run = ""
        if char == "[":
            step = re.compile(r"\[\^?\]?[^\]]*\]").match(pattern, at).end() - at  # type: ignore[union-attr]
        elif char == "{":
            step = pattern.index("}", at) - at + 1
        elif char == "|" and depth == 0:
            longest.append("")
        depth += (char == "(") - (char == ")")
        at += step
    return tuple(dict.fromkeys(longest))


@dataclass(frozen=True)
class Complaint:
    """A believed line: in which container's which log, by which rule, and the ending that it tells of, if it ended."""

    container: Container
    log: Log
    line: LogLine
    rule: LogRule
    match: re.Match[str]
    ended: Restart | None

    def claims(self, scope: Scope) -> list[Claim]:
        """The line, and the state of the container."""
        now = scope.snapshot.observed_at
        container, ended = self.container, self.ended
        where = f"Container {container.name} of pod {container.pod_name}"
        if ended is not None:
            state = Claim(f"{where} fails: {ended.why}", [of_object(container.pod, ended.at, now)])
        else:
            state = Claim(f"{where} runs and is not ready", [of_object(container.pod, container.status_at, now)])
        said = f"The log of container {container.name} says {quoted(self.line.text)}"
        return [Claim(said, [self.log.evidence(self.line, now)]), state]

    @property
    def confidence(self) -> float:
        """A rule joins a line and an ending; one that is only not ready could have another reason."""
        return 0.88 if self.ended is not None else 0.75


def complaints(scope: Scope, rules: Sequence[LogRule]) -> Iterator[Complaint]:
    """The last believed complaint of each container in trouble, if it has one."""
    for container in scope.troubled:
        found = complaint_of(scope, container, rules)
        if found is not None:
            yield found


def complaint_of(scope: Scope, container: Container, rules: Sequence[LogRule]) -> Complaint | None:
    endings = scope.recent_endings(container)
    ended = endings[0] if endings else None
    if ended is not None and ended.ending not in _BY_ITSELF:
        return None  # out of memory, a crash, a stop: what it complained of before did not end it
    if ended is None and not _unready(scope, container):
        return None
    log = scope.log(container, ended)
    told = last_complaint(log, rules) if log else None
    return Complaint(container, log, *told, ended) if log and told else None


def _unready(scope: Scope, container: Container) -> bool:
    started = when(container.status, "state", "running", "startedAt")
    age = (scope.snapshot.observed_at - started).total_seconds() if started else 0
    return container.running and not container.ready and age > _SETTLED_SECONDS


def last_complaint(log: Log, rules: Sequence[LogRule]) -> tuple[LogLine, LogRule, re.Match[str]] | None:
    """The last line near the end that a rule knows and that nothing after it takes back."""
    filled: list[tuple[int, str]] = []
    for index in range(len(log.lines) - 1, -1, -1):
        line = log.lines[index]
        if line and not line.isspace():
            filled.append((index, line[:_LINE]))
            if len(filled) == _LAST_LINES:
                break
    everything = "\n".join(line for _, line in filled).lower()
    rules = [item for item in rules if any(mark in everything for mark in item.marks)]
    if not rules:
        return None
    later_error = False
    for index, line in filled:
        if _PROPERTY.match(line):
            continue
        found = next(((item, match) for item in rules if (match := item.pattern.search(line))), None)
        if found is None:
            if _GOOD_START.search(line) and not _HARMLESS_END.search(line):
                return None
            later_error = later_error or bool(_ERROR.search(line) and not _HARMLESS.search(line))
            continue
        if _HARMLESS.search(line) or (later_error and _WARNING.search(line[:160])):
            continue
        if _taken_over(log, index):
            return None
        return LogLine(line.strip()[:400], index + 1, 2), *found
    return None


_HARMLESS_END = re.compile(r"\b(?:not|no longer|failed|cannot|could not|unable)\b", re.IGNORECASE)


def _taken_over(log: Log, index: int) -> bool:
    """Whether an unrelated crash comes later: a trace whose chain does not lead back to the line."""
    last = log.telling_line()
    if last is None or last.strength < 3 or last.number - 1 <= index:
        return False
    between = log.lines[index + 1 : last.number]
    return len(between) > 3 and not any(_CHAINED.match(line) for line in between)
