"""A crash report as SARIF 2.1.0 (OASIS), for code scanning and for editors that show such results at their line."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from diagnosis.crashes.export.lines import place_of
from incidents.crash_report import CrashReport, Frame
from incidents.models import Diagnosis

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_FRAMES = 64
_LEVELS = {"EXPLOITABLE": "error", "PROBABLY_EXPLOITABLE": "error", "NOT_EXPLOITABLE": "warning"}


def to_sarif(diagnosis: Diagnosis, version: str) -> dict[str, Any]:
    """The log with one result; `version` is the tool's. `diagnosis` must hold a crash report, else ValueError."""
    report = diagnosis.crash
    if report is None:
        raise ValueError("a diagnosis without a crash report")
    rule = report.root_cause.cause_class if report.root_cause else report.cause_class or "unknown"
    severity = report.severity
    frames = report.threads[0].frames if report.threads else []
    result: dict[str, Any] = {
        "ruleId": rule,
        "level": _LEVELS.get(severity.type, "warning") if severity else "warning",
        "message": {"text": report.mechanism or f"{report.crash_info.type} for an unknown reason"},
        "locations": _locations(frames),
        "stacks": [{"message": {"text": "crashed thread"}, "frames": [_frame(frame) for frame in frames[:_FRAMES]]}],
        "partialFingerprints": _fingerprints(report),
        "properties": {
            "signal": report.crash_info.type,
            "confidence": diagnosis.causes[0].confidence if diagnosis.causes else None,
            "cwe": report.root_cause.cwe if report.root_cause else [],
            "severity": severity.short_description if severity else None,
            "valueScore": report.value_score.total if report.value_score else None,
            "coreSha256": report.core.sha256,
        },
    }
    driver: dict[str, Any] = {
        "name": "Paramedic",
        "version": version,
        "rules": [{"id": rule, "shortDescription": {"text": rule.replace("_", " ")}}],
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": [result]}]}


def _locations(frames: list[Frame]) -> list[dict[str, Any]]:
    own = next((frame for frame in frames if frame.in_app and frame.file and frame.line), None)
    frame = own or (frames[0] if frames else None)
    return [_location(frame)] if frame is not None else []


def _location(frame: Frame) -> dict[str, Any]:
    location: dict[str, Any] = {
        "logicalLocations": [{"fullyQualifiedName": frame.function or place_of(frame), "kind": "function"}]
    }
    if frame.file and frame.line:
        uri = quote(frame.file) if not frame.file.startswith("/") else f"file://{quote(frame.file)}"
        location["physicalLocation"] = {"artifactLocation": {"uri": uri}, "region": {"startLine": frame.line}}
    return location


def _frame(frame: Frame) -> dict[str, Any]:
    found: dict[str, Any] = {"location": _location(frame)}
    if frame.module:
        found["module"] = frame.module
    return found


def _fingerprints(report: CrashReport) -> dict[str, str]:
    names = report.signatures
    found = {"signature/v1": report.signature}
    if names is not None:
        found |= {"duphash/v1": names.duphash, "addresses/v1": names.address_sig, "group/v1": names.group_id}
    return {name: value for name, value in found.items() if value}
