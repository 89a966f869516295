"""What was observed, and what follows from it: references to objects, evidence, findings.

Identifiers are derived from the content, so that the same input gives the same document twice, byte for byte.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

EXCERPT_CHARS = 4000
"""An evidence excerpt is cut here; the whole text is kept in the evidence store."""

Fact = str | int | float | bool | None | list[str]


class Frozen(BaseModel):
    """Base of the vocabulary: immutable, and unknown fields are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def new_id(prefix: str) -> str:
    """A random identifier with 128 bits of entropy, such as `inc_3f…`."""
    return f"{prefix}_{secrets.token_hex(16)}"


def content_id(prefix: str, *parts: str) -> str:
    """An identifier that depends on nothing but `parts`."""
    digest = hashlib.sha256("\x1f".join(parts).encode("utf-8", "backslashreplace")).hexdigest()
    return f"{prefix}_{digest[:16]}"


class ObjectRef(Frozen):
    """A Kubernetes object, a helm release (`kind="HelmRelease"`) or a program (`kind="Process"`, name = executable)."""

    kind: str
    namespace: str | None = None
    name: str
    container: str | None = None

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        inside = f" container {self.container}" if self.container else ""
        return f"{self.kind} {where}{self.name}{inside}"


class EvidenceKind(StrEnum):
    CORE = "core"
    GDB = "gdb"
    OBJECT = "object"
    EVENT = "event"
    LOG = "log"
    HISTORY = "history"
    HELM = "helm"
    METRIC = "metric"
    REPORT = "report"
    RUNBOOK = "runbook"  # the team's own, quoted with file and heading
    WEB = "web"  # what a search found: outside text


class Evidence(Frozen):
    """One observation. The exact source lets a person look again."""

    id: str
    kind: EvidenceKind
    source: str = Field(description="The exact command, API path, or file and offset that was read")
    observed_at: datetime
    sha256: str = Field(description="Of the whole text, before cutting")
    excerpt: str
    truncated: bool = False
    size: int = Field(description="Characters of the whole text")

    @classmethod
    def of(cls, kind: EvidenceKind, source: str, text: str, observed_at: datetime) -> Evidence:
        """Record `text` as seen at `source`. The excerpt keeps the start; cut longer text to what matters first."""
        return cls(
            id=content_id("ev", kind, source, text),
            kind=kind,
            source=source,
            observed_at=observed_at,
            sha256=hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest(),
            excerpt=text[:EXCERPT_CHARS],
            truncated=len(text) > EXCERPT_CHARS,
            size=len(text),
        )


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class Finding(Frozen):
    """One claim and the evidence that supports it. A finding without evidence cannot be made."""

    id: str
    rule: str = Field(description="Name of the analyzer or rule, or `model:<name>`")
    claim: str
    severity: Severity = Severity.ERROR
    object: ObjectRef | None = None
    evidence_ids: list[str] = Field(min_length=1)
    source: Literal["rule", "model"] = "rule"

    @classmethod
    def of(
        cls,
        rule: str,
        claim: str,
        evidence: list[Evidence],
        *,
        severity: Severity = Severity.ERROR,
        object: ObjectRef | None = None,
    ) -> Finding:
        """A rule's finding, with an id derived from its content."""
        ids = [item.id for item in evidence]
        return cls(
            id=content_id("fnd", rule, claim, str(object), *ids),
            rule=rule,
            claim=claim,
            severity=severity,
            object=object,
            evidence_ids=ids,
        )
