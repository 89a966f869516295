"""A model reads what the rules saw, on top of the rules."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel

from incidents.models import Diagnosis, EvidenceKind, Incident, ObjectRef
from tools.llm.models import Models


@dataclass(frozen=True)
class Reading:
    text: str
    source: str | None = None
    kind: EvidenceKind = EvidenceKind.REPORT
    objects: Sequence[ObjectRef] = field(default=())


@dataclass(frozen=True)
class ReadTool:
    name: str
    description: str
    args: type[BaseModel]
    run: Callable[[BaseModel], Awaitable[Reading | str]]


async def read_with_model(
    models: Models | None,
    *,
    agent: str,
    incident: Incident,
    diagnosis: Diagnosis,
    tools: Sequence[ReadTool],
    report: Callable[[str], Awaitable[None]],
) -> Diagnosis:
    return diagnosis
