"""A Markdown file as passages: what stands below one heading, with its line numbers, and what the front matter says.

Headings are ATX (`## …`) and setext (underlined) as CommonMark has them; inside fenced code nothing is a heading. Long
sections are cut at empty lines, so that a quotation stays readable. Secrets are masked here, before anything is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from diagnosis.redaction import MASK, redact
from incidents.models import CauseClass

_SOFT_CHARS = 2500
"""A section that is longer is cut at its next empty line outside code."""
_HARD_CHARS = 3900
"""It is cut here in any case: an excerpt holds no more."""
_FRONT_CHARS = 8000
_FRONT_MARKS = 300
_PATTERNS = 20
_PATTERN_CHARS = 100
_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_BLOCK = re.compile(r"\s*(?:[-*+>|]|\d+[.)])")  # a list, a quotation, a table: no text that can be underlined
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,30}-----|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Passage:
    """Lines `first` to `last` (from 1, both included) below `heading`; `trail` is the way there, title first."""

    trail: tuple[str, ...]
    first: int
    last: int
    text: str

    @property
    def heading(self) -> str:
        return self.trail[-1] if self.trail else ""


@dataclass(frozen=True)
class Scope:
    """What a runbook says it is for. Empty: it does not say. All but the classes are shell patterns (`shop-*`)."""

    applies_to: tuple[str, ...] = ()
    kind: tuple[str, ...] = ()
    namespace: tuple[str, ...] = ()
    owner: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.applies_to or self.kind or self.namespace or self.owner)


@dataclass(frozen=True)
class Parsed:
    passages: tuple[Passage, ...]
    scope: Scope
    problems: tuple[str, ...]
    """What of the front matter cannot be used, a sentence each."""


def parse(text: str) -> Parsed:
    """The passages of a file. Any text has some; only an empty one has none."""
    # line numbers must stay: a masked key keeps its lines
    text = _PRIVATE_KEY.sub(lambda key: MASK + "\n" * key[0].count("\n"), text.replace("\r\n", "\n"))
    lines = text.split("\n")
    end = _front_end(lines)
    scope, problems = _scope("\n".join(lines[1 : end - 1])) if end else (Scope(), ())
    return Parsed(tuple(_passages(lines, end)), scope, tuple(problems))


def _front_end(lines: list[str]) -> int:
    """How many lines the front matter has, with its two marks; 0 without one."""
    if lines[0].rstrip() != "---":
        return 0
    size = 0
    for number, line in enumerate(lines[1:], start=2):
        if line.rstrip() in ("---", "..."):
            return number
        size += len(line) + 1
        if size > _FRONT_CHARS:
            break
    return 0


def _scope(front: str) -> tuple[Scope, list[str]]:
    if sum(map(front.count, "[{-")) > _FRONT_MARKS:  # deep nesting takes seconds to be refused
        return Scope(), ["its front matter is no YAML that can be used (too many lists)"]
    try:
        found = _Plain(front).get_single_data()
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        return Scope(), [f"its front matter is no YAML that can be used ({type(error).__name__})"]
    if not isinstance(found, dict):
        return Scope(), ["its front matter is no mapping"] if found is not None else []
    problems: list[str] = []
    values: dict[str, tuple[str, ...]] = {}
    for key in ("applies_to", "kind", "namespace", "owner"):
        given = found.get(key)
        items = [given] if isinstance(given, str) else given
        if items is None:
            continue
        if not isinstance(items, list) or len(items) > _PATTERNS or not all(_is_pattern(item) for item in items):
            problems.append(f"{key} in its front matter is no list of up to {_PATTERNS} short words")
            continue
        values[key] = tuple(items)
    known = {item.value for item in CauseClass}
    for name in values.get("applies_to", ()):
        if name not in known:
            problems.append(f"applies_to in its front matter names {redact(name)!r}, which is no class of causes")
    return Scope(**values), problems


def _is_pattern(item: object) -> bool:
    return isinstance(item, str) and 0 < len(item) <= _PATTERN_CHARS


class _Plain(yaml.SafeLoader):
    """YAML without aliases: a few lines of them can stand for more than fits into memory."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not used here")
        return super().compose_node(parent, index)


def _passages(lines: list[str], start: int) -> Iterator[Passage]:
    trail: list[tuple[int, str]] = []
    open_at, fence, size = start, "", 0

    def passage(end: int) -> Iterator[Passage]:
        """Lines `open_at` to `end`, without the empty ones around."""
        first, last = open_at, end
        while first < last and not lines[first].strip():
            first += 1
        while last > first and not lines[last - 1].strip():
            last -= 1
        if first < last:
            headings = tuple(text for _, text in trail)
            yield Passage(headings, first + 1, last, redact("\n".join(lines[first:last])))

    at = start
    while at < len(lines):
        line = lines[at]
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        elif mark:
            fence = mark[1]
        elif heading := _heading(lines, at):
            level, text, rows = heading
            yield from _beyond_heading(passage(at), lines, level)
            trail = [item for item in trail if item[0] < level] + [(level, redact(text)[:200])]
            open_at, size = at, 0
            at += rows
            continue
        size += len(line) + 1
        at += 1
        if (size > _SOFT_CHARS and not fence and not line.strip()) or size > _HARD_CHARS:
            yield from passage(at)
            open_at, size = at, 0
    yield from passage(len(lines))


def _beyond_heading(found: Iterator[Passage], lines: list[str], next_level: int) -> Iterator[Passage]:
    """Leave out a heading alone that a deeper one follows: it stands in the trail of what is below it."""
    for item in found:
        first = item.first - 1
        heading = _heading(lines, first)
        if heading is None or first + heading[2] < item.last or next_level <= heading[0]:
            yield item


def _heading(lines: list[str], at: int) -> tuple[int, str, int] | None:
    """Level, text and number of lines of the heading at a line, if one is there."""
    if atx := _ATX.match(lines[at]):
        return len(atx[1]), (atx[2] or "").strip(), 1
    text = lines[at].strip()
    if not text or at + 1 >= len(lines) or lines[at].startswith("    ") or _BLOCK.match(text):
        return None
    if at > 0 and lines[at - 1].strip() and not _ATX.match(lines[at - 1]):
        return None  # the underline of a paragraph of several lines: text enough to be no heading of a runbook
    under = _UNDERLINE.match(lines[at + 1])
    return (1 if under[1][0] == "=" else 2, text, 2) if under else None
