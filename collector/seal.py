"""Whether a core's file still holds the bytes that were hashed when it was collected, at a tenth of a hash's cost.

Its container can write to the file and set its time of change back, so that only its bytes tell. A seal is a one-time
authenticator (Poly1305, RFC 8439) under a random key of the core's own. The key stays with the agent: whoever does not
know it cannot make other bytes that fit, whatever they try. What is sealed is every block that is not all zeros, with
its place, so that it makes no difference which zeros the file system keeps as holes.
"""

from __future__ import annotations

import hmac
import os

from cryptography.hazmat.primitives.poly1305 import Poly1305

from collector.pieces import BLOCK

_KEY = 32
_TAG = 16
_ZEROS = bytes(BLOCK)


class Seal:
    """Made from what `pieces` yields, in its order."""

    def __init__(self, key: bytes) -> None:
        self._key, self._at = key, 0
        self._made = Poly1305(key)

    @classmethod
    def fresh(cls) -> Seal:
        """With a key that nothing else is sealed with."""
        return cls(os.urandom(_KEY))

    def add(self, piece: bytes | int) -> None:
        if isinstance(piece, int):
            self._at += piece
            return
        view = memoryview(piece)
        for start in range(0, len(piece), BLOCK):
            block = view[start : start + BLOCK]
            if not piece.startswith(_ZEROS[: len(block)], start):
                self._made.update((self._at + start).to_bytes(8, "little"))
                self._made.update(block)
        self._at += len(piece)

    def text(self) -> str:
        """Key and seal, once: for the agent's own disk, and nowhere else."""
        self._made.update(self._at.to_bytes(8, "little"))
        return (self._key + self._made.finalize()).hex()


class Check:
    """A file is read again: does it hold what `text` seals?"""

    def __init__(self, text: str) -> None:
        """Raises ValueError when it is no text of a seal."""
        known = bytes.fromhex(text)
        if len(known) != _KEY + _TAG:
            raise ValueError("not the length of a seal")
        self._text = text
        self._again = Seal(known[:_KEY])
        self.add = self._again.add

    def holds(self) -> bool:
        """Once, at the end."""
        return hmac.compare_digest(self._again.text(), self._text)
