"""What one run gave, one JSON line each in `results.jsonl`: an evaluation that was stopped goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from errors import Conflict, InvalidInput
from evals.scenario import Truth
from incidents.models import Cause, Diagnosis, DiagnosisStatus

Mode = Literal["paramedic", "do_nothing", "blind_restart"]
Fix = Literal["verified", "failed", "undone", "not_offered", "not_needed"]
"""`undone`: it did not help, the gate saw that and took it back."""


class Answer(BaseModel):
    """The first cause of a diagnosis, or `healthy`, `unknown`, `failed`. The object without its random name's place."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    class_: str = Field(alias="class")
    object: str | None = None
    container: str | None = None
    confidence: float = 0.0
    summary: str = ""

    @classmethod
    def of(cls, diagnosis: Diagnosis | None) -> Answer:
        if diagnosis is None:
            return cls.model_validate({"class": "failed"})
        if diagnosis.status is not DiagnosisStatus.DIAGNOSED or not diagnosis.causes:
            return cls.model_validate({"class": diagnosis.status.value})
        return cls._of(diagnosis.causes[0])

    @classmethod
    def further(cls, diagnosis: Diagnosis | None) -> list[Answer]:
        """The causes after the first one."""
        if diagnosis is None or diagnosis.status is not DiagnosisStatus.DIAGNOSED:
            return []
        return [cls._of(cause) for cause in diagnosis.causes[1:]]

    @classmethod
    def _of(cls, cause: Cause) -> Answer:
        return cls.model_validate(
            {
                "class": cause.cause_class.value,
                "object": f"{cause.object.kind}/{cause.object.name}",
                "container": cause.object.container,
                "confidence": cause.confidence,
                "summary": cause.summary,
            }
        )

    def right(self, truths: list[Truth]) -> tuple[bool, bool, bool]:
        """Class, object and container right, each only together with what stands before it."""
        best = (False, False, False)
        for truth in truths:
            named = self.class_ == truth.class_
            placed = named and self.object == truth.object
            best = max(best, (named, placed, placed and self.container == truth.container))
        return best


class Result(BaseModel):
    """One run of one scenario. Times in seconds; `right` is class, object and container together."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    scenario: str
    group: str
    title: str = ""
    mode: Mode
    repetition: int = 0
    error: str | None = Field(default=None, description="The run could not be made, which counts for nobody")
    truth: Truth
    # baselines
    passed: bool | None = None
    # the diagnosis of the target
    answer: Answer | None = None
    further: list[Answer] = Field(default_factory=list, description="The causes after the first one")
    class_right: bool = False
    object_right: bool = False
    right: bool = False
    # the same question without a target: the whole namespace
    at_large: Answer | None = None
    further_at_large: list[Answer] = Field(default_factory=list)
    at_large_right: bool = False
    blamed_bystander: bool = False
    claims: int = 0
    closed: int = 0
    open_claims: list[str] = Field(default_factory=list)
    # the repair
    remedy: str = "none"
    offered: str | None = None
    proposals: list[str] = Field(default_factory=list, description="What people were told to do, and why no action")
    incident_status: str | None = None
    fix: Fix | None = None
    fix_note: str | None = None
    collateral: list[str] = Field(default_factory=list)
    # costs
    setup_seconds: float = 0.0
    diagnosis_seconds: float = Field(default=0.0, description="From the report to the diagnosis, capture included")
    rules_ms: float = Field(default=0.0, description="The rules alone, over the captured namespace")
    seconds: float = Field(default=0.0, description="From the report to the end of the incident")
    tokens: int = 0
    usd: float | None = 0.0

    @property
    def key(self) -> tuple[str, str, int]:
        return (self.scenario, self.mode, self.repetition)


class Store:
    """The results of one output folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "results.jsonl"

    @classmethod
    def open(cls, folder: Path, *, resume: bool) -> Store:
        """Raises Conflict when the folder has results and they are not to be resumed, InvalidInput for a bad line."""
        store = cls(folder)
        if store.file.exists() and not resume:
            raise Conflict(f"{folder} holds results already: say --resume to go on with them, or another --out")
        folder.mkdir(parents=True, exist_ok=True)
        store.all()
        return store

    def all(self) -> list[Result]:
        """All results, the last one of each key. A half-written last line, of a run that was killed, is left out."""
        if not self.file.exists():
            return []
        found: dict[tuple[str, str, int], Result] = {}
        lines = self.file.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            try:
                result = Result.model_validate(json.loads(line))
            except (ValueError, ValidationError) as error:
                if number == len(lines):
                    continue
                raise InvalidInput(f"{self.file}, line {number}: {error}") from None
            found[result.key] = result
        return list(found.values())

    def done(self) -> set[tuple[str, str, int]]:
        """What needs no second run. Runs that could not be made are tried again."""
        return {result.key for result in self.all() if result.error is None}

    def add(self, result: Result) -> None:
        """Append, after cutting off a line that a killed run left half-written."""
        with self.file.open("a+b") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.write(result.model_dump_json(by_alias=True).encode() + b"\n")
