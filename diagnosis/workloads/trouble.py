"""A symptom of one object: what is not as it should be, whatever the reason."""

from __future__ import annotations

from dataclasses import dataclass

from diagnosis.workloads.contract import Claim
from incidents.models import ObjectRef


@dataclass(frozen=True)
class Trouble:
    """One symptom of one object. `because` are objects that it rests on: it says nothing more than that they fail."""

    object: ObjectRef
    claim: Claim
    because: tuple[ObjectRef, ...] = ()
