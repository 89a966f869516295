"""What a container's log says about why it ended: keyword first, the end first, traces by their last exception line.

The window that becomes evidence holds the telling line with its surroundings, within the size of an excerpt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from diagnosis.workloads.evidence import log_source
from diagnosis.workloads.templates import MAX_LINES, Template, masked, mine
from incidents.models import Evidence, EvidenceKind

WINDOW_CHARS = 3000
LINE_CHARS = 400
_TAIL = 1500  # lines looked at, from the end
_BESIDE = 12  # lines shown on each side of a telling one
_SCANNED = 300  # and lines looked at for that
_RUN = "[{} more lines like it]"

_PYTHON_TRACE = re.compile(r"^\s*(?:[|+ ]+)?Traceback \(most recent call last\):")
_JAVA_START = re.compile(
    r"^(?:Exception in thread |Caused by: )|^\s*(?:[a-z_]\w*\.){1,12}[A-Z]\w*(?:Exception|Error)\b"
)
_GO_START = re.compile(r"^(?:panic: |fatal error: )")
_NODE_START = re.compile(r"^(?:Uncaught )?(?:[A-Z]\w*)?Error(?: \[[A-Z_]+\])?: ")
_RUST_START = re.compile(r"^thread '.*' (?:\(\d+\) )?panicked at ")

_PANIC = "panic|fatal|segfault|segmentation fault|assertion failed|uncaught|abort(?:ed|ing)|crash(?:ed)?|out of memory"
_ERROR = (
    "error|err|exception|failed|failure|cannot|can't|could not|couldn't|unable to|refused|denied|not found|no such"
    "|invalid|missing|unknown|timed? ?out|required|illegal|bad"
)
_TIERS = (
    re.compile(rf"\b(?:{_PANIC})\b|致命|崩溃", re.IGNORECASE),
    re.compile(r"\b(?:critical|crit|emerg|severe)\b|\bE\d{4} ", re.IGNORECASE),
    re.compile(rf"\b(?:{_ERROR})\b|错误|失败|异常|拒绝", re.IGNORECASE),
)
_STACK_LINE = re.compile(r"^\s+(?:at |File \"|\.\.\. \d+ more)|^\s*goroutine \d+|^\s{4,}\S")


@dataclass(frozen=True)
class LogLine:
    """A telling line. `strength`: 3 a trace or panic, 2 an error line, 1 only the last line."""

    text: str
    number: int
    strength: int


@dataclass(frozen=True)
class Log:
    """One container instance's log."""

    namespace: str
    pod: str
    container: str
    previous: bool
    lines: list[str]

    @classmethod
    def of(cls, namespace: str, pod: str, container: str, previous: bool, content: str) -> Log:
        return cls(namespace, pod, container, previous, [line.rstrip("\r") for line in content.split("\n")])

    def telling_line(self) -> LogLine | None:
        """The line that best says why the program ended, or None for an empty log."""
        first = max(0, len(self.lines) - _TAIL)
        numbered = [(index, line) for index, line in enumerate(self.lines) if index >= first and line.strip()]
        if not numbered:
            return None
        if (trace := self._trace(first)) is not None:
            return LogLine(self.lines[trace].strip()[:LINE_CHARS], trace + 1, 3)
        for tier in _TIERS:
            for index, line in reversed(numbered):
                if tier.search(line[:2000]) and not _STACK_LINE.match(line):
                    return LogLine(line.strip()[:LINE_CHARS], index + 1, 2)
        index, line = numbered[-1]
        return LogLine(line.strip()[:LINE_CHARS], index + 1, 1)

    def _trace(self, first: int) -> int | None:
        """The index of the last trace's exception line: Python's ends the trace, Java's innermost `Caused by` tells."""
        found: int | None = None
        python = False
        for index in range(first, len(self.lines)):
            line = self.lines[index]
            if len(line) > 4000:
                continue
            if _PYTHON_TRACE.match(line):
                python = True
            elif python and line and not line[0].isspace():  # the first line that is not indented
                found, python = index, False
            elif not python and self._starts_trace(index):
                found = index
        return found

    def _starts_trace(self, index: int) -> bool:
        line = self.lines[index]
        if _GO_START.match(line) or _RUST_START.match(line):
            return True
        if not (_JAVA_START.match(line) or _NODE_START.match(line)):
            return False
        # without stack lines after it, a line that names an exception is only a message
        return any(re.match(r"^\s+(?:at |\.\.\. )", line) for line in self.lines[index + 1 : index + 3])

    def evidence(self, line: LogLine, now: datetime) -> Evidence:
        """A window around a line: some before, some after; a run of lines alike is shown once, with their number."""
        centre = line.number - 1
        before, after = self._side(centre, -1), self._side(centre, 1)
        shown, start, end = [self._cut(centre)], centre, centre
        left = WINDOW_CHARS - len(shown[0])
        growing = {-1: True, 1: True}
        while growing[-1] or growing[1]:
            for step, side in ((-1, before), (1, after)):
                place, said = next(side, (centre, "")) if growing[step] else (centre, "")
                left -= len(said) + 1
                if place == centre or left < 0:
                    growing[step] = False
                elif step < 0:
                    shown.insert(0, said)
                    start = place
                else:
                    shown.append(said)
                    end = place
        source = f"{log_source(self.namespace, self.pod, self.container, self.previous)} lines {start + 1}-{end + 1}"
        return Evidence.of(EvidenceKind.LOG, source, "\n".join(shown), now)

    def _side(self, centre: int, step: int) -> Iterator[tuple[int, str]]:
        """Lines on one side of a line, nearest first, with the index that they reach to."""
        index, run, shown = centre, 0, 0
        kind = masked(self._cut(centre))
        while 0 <= index + step < len(self.lines) and shown < _BESIDE and abs(index - centre) < _SCANNED:
            index += step
            cut = self._cut(index)
            if cut.strip() and masked(cut) == kind:
                run += 1
                continue
            if run:
                yield index - step, _RUN.format(run) if run > 1 else self._cut(index - step)
            run, kind, shown = 0, masked(cut), shown + 1
            yield index, cut
        if run:
            yield index, _RUN.format(run) if run > 1 else self._cut(index)

    def templates(self) -> list[Template]:
        """What the end of the log repeats, the commonest first; line numbers count from its own first line."""
        first = max(0, len(self.lines) - MAX_LINES)
        found = mine(self.lines[first:])
        for template in found:
            template.first, template.last = template.first + first, template.last + first
        return found

    def like(self, line: LogLine) -> int:
        """How many lines of the log's end say the same as a line, itself included."""
        kind = masked(line.text)
        return sum(masked(other.strip()) == kind for other in self.lines[-_TAIL:] if other.strip())

    def _cut(self, index: int) -> str:
        line = self.lines[index]
        stripped = line.strip()
        return line if len(line) <= LINE_CHARS else stripped[:LINE_CHARS]
