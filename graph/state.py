"""What a checkpoint holds: references and small facts. Diagnoses, plans and decisions live in the database."""

from __future__ import annotations

from typing import TypedDict


class State(TypedDict, total=False):
    """The graph's state. Nodes run one at a time, so no key needs a reducer."""

    incident_id: str
    hops: int
    researched: bool
    measured: bool
    core_analysed: bool
    core_until: str  # our store has it, and could not be reached: how long it is waited for (ISO 8601)
    told: list[str]
    fix_considered: bool
    plan_ready: bool
    approval_id: str | None
    verified: bool | None
    repairs: int  # verified before the present plan
    looked_again: bool  # since the last repair was verified
    notice: str | None  # what the notifier was sent to tell
