"""The four questions that the executor asks of every write, whatever its type."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from errors import ToolFailed, ToolTimeout
from incidents.models import Fact
from tools.kubernetes.client import ClusterUnreachable, KubernetesError, Object

Expected = dict[str, Fact]
"""What the target will look like after the write, as the rehearsal says. Kept in the journal."""


class Look(StrEnum):
    BEFORE = "before"  # as when it was approved: the write did not happen
    AFTER = "after"  # exactly what the write makes of it
    WORKING = "working"  # the write is being carried out (helm)
    FOREIGN = "foreign"  # something else


@dataclass(frozen=True)
class Rehearsal:
    """A dry run: the text that people see, and how the outcome will be recognised."""

    diff: str
    expected: Expected
    before: Object | None = None
    after: Object | None = None
    templates: list[Object] = field(default_factory=list)
    """Pod templates whose references the approval is bound to."""
    starting: list[Object] | None = None
    """Those of them that new pods are made from; None: all."""


class Effect(Protocol):
    @property
    def atomic(self) -> bool:
        """Whether a refused write certainly changed nothing."""

    @property
    def patience(self) -> float:
        """Seconds to wait for a write that is being carried out, or for a cluster that does not answer."""

    async def require_unchanged(self) -> None:
        """Raises Stale unless the target is the one that was approved."""

    async def rehearse(self) -> Rehearsal:
        """Dry-run the write on the server. Raises Stale when the server refuses it."""

    async def send(self) -> Expected:
        """Write. Returns what was reached, comparable to `Rehearsal.expected`. Raises the tools' errors."""

    async def look(self, expected: Expected) -> tuple[Look, Expected]:
        """Which state the target is in now, and what identifies that state."""


def ambiguous(error: ToolFailed) -> bool:
    """Whether a failed write may have happened all the same.

    429 and the other 4xx are refusals. A 5xx can come after the commit (a time-out between the API server and etcd).
    """
    if isinstance(error, KubernetesError):
        return error.code >= 500
    return isinstance(error, ClusterUnreachable | ToolTimeout)
