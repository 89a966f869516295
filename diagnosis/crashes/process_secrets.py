"""The secrets that the crashed process was started with: its environment and arguments, as they lie on its stack.

They are taken out of everything that is told of the core, wherever in memory a copy of them was found. What a program
reads elsewhere is known by the name of its variable or by its shape alone (`diagnosis.redaction`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.notes import AT_EXECFN
from diagnosis.redaction import MASK, is_secret_name

_MOST_BYTES = 1 << 20
_PAGE = 4096
_MIN, _MAX = 6, 4096
"""Shorter values are words of every text; longer ones are documents, of which pieces may still be shown."""
_WORD = 10
_EDGE = 4
"""So many bytes of a secret, at the edge of what is shown, are a part of it."""
_FOLDERS = ("PWD", "OLDPWD")
_FLAG = re.compile(r"--?([\w-]{1,80})(?:=(.*))?", re.DOTALL)
_URL_PASSWORD = re.compile(r"://[^\s/:@]{0,200}:([^\s/@]{1,200})@")

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class ProcessSecrets:
    """`values`, longest first. Of a core without that part of the stack there are none.

    `words` are those that a report may hold for another reason, a password `postgres` of PostgreSQL: they are taken
    out of memory that is shown, and not out of names and paths.
    """

    values: tuple[bytes, ...]
    words: frozenset[bytes] = frozenset()

    @classmethod
    def of(cls, core: CoreFile) -> ProcessSecrets:
        texts = _strings_below(core, core.auxv.get(AT_EXECFN, 0))
        found: set[str] = set()
        for index, text in enumerate(texts):
            name, equals, value = text.partition("=")
            if equals and is_secret_name(name) and name not in _FOLDERS:
                found.add(value)
            found |= set(_URL_PASSWORD.findall(text))
            if (flag := _FLAG.fullmatch(text)) and is_secret_name(flag[1].replace("-", "_")):
                found.add(flag[2] if flag[2] is not None else texts[index + 1] if index + 1 < len(texts) else "")
        encoded = {value.encode("utf-8", "surrogateescape") for value in found}
        kept = [value for value in encoded if _MIN <= len(value) <= _MAX]
        public = b"\0".join([mapped.path.encode("utf-8", "surrogateescape") for mapped in core.files])
        words = frozenset(value for value in kept if value in public or (value.isalpha() and len(value) < _WORD))
        return cls(tuple(sorted(kept, key=lambda value: (-len(value), value))), words)

    def hide(self, text: str) -> str:
        """`text` without them."""
        for value in self.values:
            if value not in self.words:
                text = text.replace(value.decode("utf-8", "replace"), MASK)
        return text

    def hidden_in(self, model: Model) -> Model:
        """As `hide`, in every text of a document."""
        if len(self.values) == len(self.words):
            return model
        return type(model).model_validate(self._hidden(model.model_dump(mode="json")))

    def hide_bytes(self, data: bytes) -> bytes:
        """Memory of the same length, with `*` in their place; pieces of them at either end too."""
        for value in self.values:
            data = data.replace(value, b"*" * len(value))
            for length in range(min(len(value), len(data)) - 1, _EDGE - 1, -1):
                if data.startswith(value[-length:]):
                    data = b"*" * length + data[length:]
                if data.endswith(value[:length]):
                    data = data[:-length] + b"*" * length
        return data

    def _hidden(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, dict):
            return {key: self._hidden(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._hidden(item) for item in value]
        return value


def _strings_below(core: CoreFile, end: int) -> list[str]:
    """The strings that end at `end`: the program's arguments, then its environment (Linux, fs/exec.c)."""
    segment = core.memory.segment(end - 1) if end else None
    if segment is None:
        return []
    data = b""
    at = end
    while at > segment.vaddr and len(data) < _MOST_BYTES:
        start = max(segment.vaddr, (at - 1) & -_PAGE)
        piece = core.memory.read(start, at - start)
        if len(piece) < at - start:
            break  # left out of the core
        data, at = piece + data, start
        if b"\0" * 16 in piece:  # what pads the strings from the auxiliary vector, or lies below it
            break
    data = data.rpartition(b"\0" * 16)[2]
    return [text.decode("utf-8", "surrogateescape") for text in data.split(b"\0") if text]
