"""Log templates: lines that differ only in their variables are one, counted.

The mining is that of Drain (He, Zhu, Zheng, Lyu: "Drain: An Online Log Parsing Approach with Fixed Depth Tree", ICWS
2017): lines are grouped by their number of words and their first word, and join the most similar group. What is
evidently a variable (numbers, times, identifiers) is masked before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

ANY = "<*>"
SIMILAR = 0.6
MAX_LINES = 5_000
MAX_TEMPLATES = 300
_WORDS = 40
_LINE = 400
_VARIABLE = re.compile(r"\b0x[0-9a-fA-F]+\b|\b(?=[0-9a-fA-F-]{8,}\b)[0-9a-fA-F-]*[0-9][0-9a-fA-F-]*\b|[0-9]+")


@dataclass
class Template:
    """Lines alike. `words` with `ANY` where they differ; `first` and `last` are line numbers from 1; `example` is the
    last of the lines as it stands."""

    words: list[str]
    count: int
    first: int
    last: int
    example: str

    @property
    def text(self) -> str:
        return " ".join(self.words)


def masked(line: str) -> str:
    """The line with its evident variables masked: equal for lines that say the same."""
    return _VARIABLE.sub(ANY, line[:_LINE])


def mine(lines: Iterable[str]) -> list[Template]:
    """The templates of at most `MAX_LINES` lines, the commonest first; at most `MAX_TEMPLATES` kinds are told apart."""
    exact: dict[str, Template] = {}
    groups: dict[tuple[int, str], list[Template]] = {}
    found: list[Template] = []
    for number, line in enumerate(lines, start=1):
        if number > MAX_LINES:
            break
        if not line.strip():
            continue
        mask = masked(line)
        template = exact.get(mask)
        if template is None:
            words = mask.split()[:_WORDS] or [ANY]
            group = groups.setdefault((len(words), words[0]), [])
            template = _most_similar(group, words)
            if template is None:
                if len(found) >= MAX_TEMPLATES:
                    continue
                template = Template(words, 0, number, number, line)
                group.append(template)
                found.append(template)
            else:
                template.words = [a if a == b else ANY for a, b in zip(template.words, words, strict=True)]
            exact[mask] = template
        template.count += 1
        template.last, template.example = number, line
    return sorted(found, key=lambda template: (-template.count, template.first))


def _most_similar(group: list[Template], words: list[str]) -> Template | None:
    best: Template | None = None
    best_score = SIMILAR
    for template in group:
        same = sum(a == b for a, b in zip(template.words, words, strict=True))
        if same / len(words) >= best_score:
            best, best_score = template, same / len(words)
    return best
