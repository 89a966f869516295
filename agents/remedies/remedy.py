"""One thing to try, and how the fixer reads a cause's facts: what is absent or of another type is not there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from incidents.actions import Action
from incidents.models import Cause, ObjectRef
from incidents.plan import Proposal

WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")


@dataclass(frozen=True)
class Remedy:
    """One thing to try: an action for the gate, or (without one) a proposal for people."""

    title: str
    reason: str
    action: Action | None = None
    steps: list[str] = field(default_factory=list)

    def proposal(self) -> Proposal:
        return Proposal(title=self.title, reason=self.reason, steps=self.steps)


Offers = Callable[[Cause], list[Remedy]]
"""The actions that answer a cause of one class, best first; none where the facts do not say enough."""


def bare(ref: ObjectRef) -> ObjectRef:
    """The object without its container: what an action changes."""
    return ref.model_copy(update={"container": None})


def words(cause: Cause, name: str) -> str | None:
    """A fact that is a text."""
    value = cause.facts.get(name)
    return value if isinstance(value, str) and value else None


def number(cause: Cause, name: str) -> int | None:
    """A fact that is a whole number."""
    value = cause.facts.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def names(cause: Cause, name: str) -> list[str]:
    """A fact that is a list of texts; empty when it is not there."""
    value = cause.facts.get(name)
    return value if isinstance(value, list) else []


def pairs(cause: Cause, name: str) -> dict[str, str]:
    """A fact that is a list of `key=value`; empty when it is not there."""
    return dict(part.split("=", 1) for part in names(cause, name) if "=" in part)


def because(cause: Cause) -> str:
    """The cause's summary, with where a suggested value is from."""
    source = words(cause, "suggested_from")
    return f"{cause.summary}{f' ({source})' if source else ''}"
