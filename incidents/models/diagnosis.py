"""A diagnosis: findings, causes, the timeline, what memory and models added, and what could not be seen."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field

from incidents.crash_report import CrashReport
from incidents.models.causes import Cause, CauseClass
from incidents.models.evidence import Evidence, Finding, Frozen, ObjectRef

SCHEMA_VERSION = "1.0"


class MomentKind(StrEnum):
    CHANGE = "change"  # of an object, a ConfigMap or a Secret, by whom
    ROLLOUT = "rollout"  # a new revision of a workload, a helm revision
    SCALING = "scaling"
    RESTART = "restart"  # a container ended or began again
    CRASH = "crash"  # ended by a signal, or a core was read
    EVENT = "event"
    NODE = "node"
    ALERT = "alert"
    ACTION = "action"  # what Paramedic itself executed, verified or undid


class Moment(Frozen):
    """One entry of the timeline that a person reads: what happened when, and to what."""

    at: datetime
    until: datetime | None = Field(default=None, description="Of a repeated event: when it was last seen")
    kind: MomentKind
    object: ObjectRef | None = None
    text: str
    count: int = Field(default=1, ge=1, description="Repetitions that this entry stands for")
    onset: bool = Field(default=False, description="The first entry that shows the trouble, as far as was seen")
    evidence_ids: list[str] = Field(min_length=1)


class Recalled(Frozen):
    """What memory proposes: an earlier incident or a passage of a runbook. It decides nothing by itself."""

    kind: Literal["incident", "runbook"]
    source: str = Field(description="The incident's id, or the runbook's file and heading")
    text: str = Field(description="What was done and whether it held, or the passage")
    why: str = Field(description="What it has in common with the present case")
    borne_out: bool | None = Field(
        default=None, description="Whether the present evidence bears what it proposes; null: nothing to check it by"
    )
    checked: str = Field(description="How that was checked, in one sentence")
    evidence_ids: list[str] = Field(min_length=1)


class Hypothesis(Frozen):
    """A cause that a model proposed, and what became of it. Only a confirmed one is a candidate cause."""

    cause_class: CauseClass = Field(alias="class")
    object: ObjectRef
    confirms: str = Field(default="", description="What would confirm it: the model's expectation, no observation")
    refutes: str = Field(default="", description="What would refute it; likewise")
    verdict: Literal["confirmed", "refuted", "undecided", "not_tested"]
    because: str = Field(description="A statement that the evidence bears; of an open one, why there is none")
    evidence_ids: list[str] = Field(default_factory=list)


class ModelStatements(Frozen):
    """Everything that models stated, and how much of it the evidence bears. The rest was dropped and is nowhere."""

    kept: int = Field(ge=0)
    total: int = Field(ge=0)


class DiagnosisStatus(StrEnum):
    DIAGNOSED = "diagnosed"
    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    FAILED = "failed"


class Diagnosis(Frozen):
    """What `--json` prints. `unknown` and `healthy` are answers."""

    schema_version: str = SCHEMA_VERSION
    status: DiagnosisStatus
    causes: list[Cause] = Field(default_factory=list, description="In rank order, likeliest first")
    findings: list[Finding] = Field(default_factory=list)
    evidence: list[Evidence] = Field(default_factory=list)
    ruled_out: list[str] = Field(default_factory=list, description="What was looked for and excluded, and why")
    unseen: list[str] = Field(default_factory=list, description="What could not be looked at, and why")
    next_steps: list[str] = Field(default_factory=list)
    timeline: list[Moment] = Field(default_factory=list, description="Oldest first, around the symptom")
    recalled: list[Recalled] = Field(default_factory=list, description="Likeliest to help first")
    crash: CrashReport | None = None
    signature: str | None = None
    explanation: str | None = Field(default=None, description="A model's text, kept only as far as evidence bears it")
    hypotheses: list[Hypothesis] = Field(default_factory=list, description="What a model tested, in its order")
    model_statements: ModelStatements | None = Field(default=None, description="null: no model stated anything")
    closure: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of the statements on the way to this diagnosis that its evidence bears: findings and causes "
        "of the rules, and all statements of models, the dropped ones too. null: nothing was stated",
    )
