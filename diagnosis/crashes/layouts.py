"""Layouts of types that a debugger told: which member lies at an offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """`offset` and `size` in bytes."""

    name: str
    type: str
    offset: int
    size: int


@dataclass(frozen=True)
class Layout:
    """Of what `expression` (a pointer in frame `frame`) points to; `address` is the pointer's value."""

    expression: str
    frame: int
    type: str
    size: int | None
    members: tuple[Member, ...]
    address: int | None = None

    def member_at(self, offset: int) -> Member | None:
        """The member that holds the byte at `offset`: the smallest, which is the innermost."""
        holding = [member for member in self.members if member.offset <= offset < member.offset + max(member.size, 1)]
        return min(holding, key=lambda member: member.size) if holding else None


def layout_of(layouts: Sequence[Layout], expression: str, frame: int) -> Layout | None:
    return next((each for each in layouts if each.expression == expression and each.frame == frame), None)
