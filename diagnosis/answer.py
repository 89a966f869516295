"""The shapes in which a model answers. Everything in them is a claim until `diagnosis.grounding` has checked it.

Unknown fields are ignored: a model cannot add one that means something.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from incidents.models import CauseClass

VERDICTS = ("confirmed", "refuted", "undecided")


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


class Proposed(_Part):
    """A cause that the rules may have missed, and how to find out."""

    cause_class: str = Field(
        alias="class",
        json_schema_extra={"enum": [item.value for item in CauseClass if item is not CauseClass.UNKNOWN]},
    )
    object: str = Field(description="What the cause lies in: one of the observed objects, written as in the list")
    container: str | None = Field(default=None, description="Only where the cause lies in one container")
    confirms: str = Field(default="", description="What observation would confirm it, in one sentence")
    refutes: str = Field(default="", description="What observation would refute it, in one sentence")
    tool: str = Field(default="", description="The tool whose answer would tell")
    arguments: dict[str, Any] = Field(default_factory=dict, description="The arguments of that tool")


class Proposals(_Part):
    """Hypotheses, likeliest first. An empty list is a good answer when the rules explain everything."""

    hypotheses: list[Proposed] = Field(default_factory=list)


class Verdict(_Part):
    """What the evidence says about one hypothesis."""

    verdict: str = Field(json_schema_extra={"enum": list(VERDICTS)})
    statement: str = Field(default="", description="Why, in one or two sentences; empty for undecided")
    citations: list[Citation] = Field(default_factory=list, description="At least one, unless undecided")
    confidence: float = Field(default=0.0, description="0 to 1")


class ModelAnswer(_Part):
    """The final answer. Empty lists are a good answer when the evidence says nothing more."""

    explanation: list[Claim] = Field(default_factory=list, description="What happened, in order, a paragraph each")
    findings: list[Claim] = Field(default_factory=list, description="Observations that the rules did not make")
    next_steps: list[Claim] = Field(default_factory=list, description="What a person should look at next; no commands")
