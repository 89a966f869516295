"""Outside text made harmless for a card: redacted, stripped of contacts, cut, and escaped so that it is only text.

Names, logs, events, core strings and model output can hold anything, also `<at id=all></at>`, links that look like
ours, or characters that reverse the reading order. Feishu's markdown takes HTML character references for every special
character (open.feishu.cn, "Rich text (Markdown) component", escaping), so each is written as one.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from diagnosis.redaction import redact

_MARGIN = 4096
"""Characters that are looked at beyond what is shown: redaction comes before the cut, so that no half secret stays."""

_SPECIAL = {ord(char): f"&#{ord(char)};" for char in "\\`*_{}[]()#+-!|~<>&:/@$^=\"'"}
_LOOKALIKE = str.maketrans({"<": "‹", ">": "›"})
_ORDERED = re.compile(r"(?m)^(\s*\d{1,9})\.")
# a character of no width keeps clients from making links of bare addresses
_SCHEME = re.compile(r"(?<=[A-Za-z0-9])://")
_BARE_HOST = re.compile(r"(?i)\bwww\.")
_ZERO_WIDTH = "\u200b"

# 230028: a tenant's data-loss rules refuse whole messages that hold telephone numbers or mail addresses
_MAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_MOBILE = re.compile(r"(?<![\w.])((?:\+?86[- ]?)?1[3-9]\d)[- ]?\d{4}[- ]?(\d{4})(?![\w.])")
_PHONE = re.compile(r"(?<![\w.])(\+\d{1,3})(?:[- ]?\(?\d{1,4}\)?){1,3}[- ]?\d{2,6}(?!\w)")


@dataclass(frozen=True)
class Cleaned:
    """Text that is safe to show but not yet escaped.

    `hidden`: something was masked; `cut`: only `shown_lines` of `total_lines` remain.
    """

    text: str
    hidden: bool
    cut: bool
    shown_lines: int
    total_lines: int


def clean(text: str, limit: int) -> Cleaned:
    """Redact, mask contacts, make control characters visible, and keep whole lines up to `limit` characters."""
    seen = _normal(_window(text, limit))
    masked = hide_contacts(redact(seen))
    lines = masked.split("\n")
    kept: list[str] = []
    room = limit
    for line in lines:
        if len(line) + 1 > room:
            if not kept and room > 1:
                kept.append(line[: room - 1] + "…")
            break
        kept.append(line)
        room -= len(line) + 1
    shown = "\n".join(kept)
    cut = shown != masked or len(seen) < len(text) - text.count("\r\n")
    return Cleaned(shown, masked != seen, cut, len(kept), text.count("\n") + 1)


def inline(text: str, limit: int = 200) -> str:
    """Outside text as one line of escaped markdown."""
    return escape(_one_line(text, limit))


def plain(text: str, limit: int = 100) -> str:
    """Outside text as one line for a `plain_text` element, which knows no markup."""
    return _one_line(text, limit).translate(_LOOKALIKE)


def block(cleaned: Cleaned) -> str:
    """Lines of escaped markdown, with their indentation."""
    lines = (re.sub(r"^[ \t]+", _indent, line) for line in cleaned.text.split("\n"))
    return "\n".join(escape(line) for line in lines)


def escape(text: str) -> str:
    """Every character that could mean something to the renderer, as a character reference."""
    text = _SCHEME.sub(f":{_ZERO_WIDTH}//", text)
    text = _BARE_HOST.sub(lambda match: f"{match[0][:-1]}{_ZERO_WIDTH}.", text)
    text = text.translate(_SPECIAL)
    return _ORDERED.sub(r"\1&#46;", text)


def hide_contacts(text: str) -> str:
    """Mask what looks like a mail address or a telephone number. Long numbers may be masked that are none."""
    if "@" in text:
        text = _MAIL.sub("[…@…]", text)
    text = _MOBILE.sub(r"\1****\2", text)
    return _PHONE.sub(r"\1****", text)


def _one_line(text: str, limit: int) -> str:
    line = " ".join(hide_contacts(redact(_normal(_window(text, limit)))).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _window(text: str, limit: int) -> str:
    """The start of a long text, ending between words: half a word might be half a secret that no rule knows."""
    size = 2 * limit + _MARGIN
    if len(text) <= size:
        return text
    head = text[:size]
    end = max(head.rfind(" "), head.rfind("\n"))
    return head[: end if end > size // 2 else size // 2]


def _normal(text: str) -> str:
    """One kind of line break; control, format (bidirectional, invisible), surrogate and private characters as `�`."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in "\n\t" or unicodedata.category(c)[0] != "C" else "�" for c in text)


def _indent(match: re.Match[str]) -> str:
    return "\u00a0" * len(match[0].expandtabs(4))
