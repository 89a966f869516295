"""The shape in which a model answers. Everything in it is a claim until `diagnosis.grounding` has checked it.

Unknown fields are ignored: a model cannot add one that means something.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from incidents.models import CauseClass


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Citation(_Part):
    """Where a claim comes from."""

    evidence_id: str = Field(description="Id of a piece of evidence, such as ev_0123456789abcdef")
    quote: str = Field(description="A passage copied from that evidence, letter by letter")


class Claim(_Part):
    """One statement with what bears it."""

    text: str = Field(description="One or two plain sentences. Name nothing that the cited evidence does not hold")
    citations: list[Citation] = Field(description="At least one")


class CandidateCause(_Part):
    """A cause that the rules may have missed."""

    cause_class: str = Field(alias="class", json_schema_extra={"enum": [item.value for item in CauseClass]})
    kind: str = Field(description="Kind of the object that the cause lies in, such as Deployment")
    namespace: str | None = None
    name: str
    container: str | None = None
    confidence: float = Field(description="0 to 1")
    summary: str
    citations: list[Citation]


class ModelAnswer(_Part):
    """The whole answer. Empty lists are a good answer when the evidence says nothing more."""

    explanation: list[Claim] = Field(default_factory=list, description="What happened, in order, a paragraph each")
    findings: list[Claim] = Field(default_factory=list, description="Observations that the rules did not make")
    causes: list[CandidateCause] = Field(default_factory=list, description="Candidates that the rules did not name")
    next_steps: list[Claim] = Field(default_factory=list, description="What a person should look at next; no commands")
