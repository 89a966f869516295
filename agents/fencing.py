"""Outside text on its way into a prompt: redacted, freed of what cannot be seen, and fenced with a random word."""

from __future__ import annotations

import re
import secrets
import unicodedata

from diagnosis.redaction import redact
from incidents.models import Evidence

_TERMINAL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.")


def clean(text: str) -> str:
    """What a model may see of `text`. Terminal codes, control and invisible characters are dropped.

    Invisible characters (Unicode category Cf: direction marks, tags, joiners) can carry text that no person reads.
    """
    text = _TERMINAL.sub("", text)
    text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co"))
    return redact(text)


def cut(text: str, limit: int) -> str:
    """`text` within `limit` characters: its start and its end, and a word on how much is missing between."""
    if len(text) <= limit:
        return text
    head = limit * 2 // 3
    tail = limit - head
    return f"{text[:head]}\n[… {len(text) - limit} characters left out …]\n{text[-tail:]}"


class Fence:
    """Marks of one call. Nobody who wrote the data can know `word`, so nobody can close the fence from inside."""

    def __init__(self) -> None:
        self.word = secrets.token_hex(8)

    def wrap(self, label: str, text: str) -> str:
        """`text` between the marks; `label` is ours or an id."""
        return f"<<<{self.word} {label}\n{text.replace(self.word, '')}\n{self.word}>>>"

    def evidence(self, item: Evidence, text: str) -> str:
        """A piece of evidence: where it was read, then `text`, which is what may be quoted of it."""
        return self.wrap(f"evidence {item.id} {item.kind.value}", f"source: {clean(item.source)[:300]}\n{text}")
