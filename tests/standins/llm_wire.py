"""What both wire formats share."""

from __future__ import annotations


class Rejected(Exception):
    """The vendor would refuse this request; the text says why, in its manner."""

    def __init__(self, message: str, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def pieces(text: str) -> list[str]:
    """A text in chunks of a few characters (more for a long one), as a server streams it."""
    size = max(7, len(text) // 40)
    return [text[at : at + size] for at in range(0, len(text), size)]
