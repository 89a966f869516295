"""The vocabulary that every room speaks: incidents, evidence, findings, causes, diagnoses. All times are aware UTC."""

from incidents.models.causes import Cause, CauseClass
from incidents.models.diagnosis import (
    SCHEMA_VERSION,
    Diagnosis,
    DiagnosisStatus,
    Hypothesis,
    ModelStatements,
    Moment,
    MomentKind,
    Recalled,
)
from incidents.models.evidence import (
    EXCERPT_CHARS,
    Evidence,
    EvidenceKind,
    Fact,
    Finding,
    Frozen,
    ObjectRef,
    Severity,
    content_id,
    new_id,
)
from incidents.models.incident import CoreRef, Incident, IncidentStatus, Step, Via

__all__ = [
    "EXCERPT_CHARS",
    "SCHEMA_VERSION",
    "Cause",
    "CauseClass",
    "CoreRef",
    "Diagnosis",
    "DiagnosisStatus",
    "Evidence",
    "EvidenceKind",
    "Fact",
    "Finding",
    "Frozen",
    "Hypothesis",
    "Incident",
    "IncidentStatus",
    "ModelStatements",
    "Moment",
    "MomentKind",
    "ObjectRef",
    "Recalled",
    "Severity",
    "Step",
    "Via",
    "content_id",
    "new_id",
]
