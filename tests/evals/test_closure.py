"""A claim is closed when its evidence is there and holds what it quotes."""

from __future__ import annotations

from datetime import UTC, datetime

from evals.closure import closure
from incidents.models import Cause, Diagnosis, Evidence, EvidenceKind, Finding, ObjectRef

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SHOP = ObjectRef(kind="Deployment", namespace="mall", name="shop")
LOG = Evidence.of(EvidenceKind.LOG, "kubectl logs shop", "starting\nERROR no such table: orders\n", NOW)


def _diagnosis(
    *findings: Finding, evidence: tuple[Evidence, ...] = (LOG,), cites: list[str] | None = None
) -> Diagnosis:
    cause = Cause.model_validate(
        {
            "class": "application_error",
            "object": SHOP,
            "confidence": 0.9,
            "summary": "It says «no such table: orders»",
            "finding_ids": cites or [finding.id for finding in findings],
        }
    )
    return Diagnosis.model_validate(
        {"status": "diagnosed", "causes": [cause], "findings": list(findings), "evidence": list(evidence)}
    )


def test_a_literal_quote_closes_the_claim() -> None:
    found = closure(_diagnosis(Finding.of("rule", "The log says «ERROR no such table: orders»", [LOG])))
    assert (found.claims, found.closed, found.open) == (2, 2, [])


def test_a_quote_that_is_not_there_leaves_it_open() -> None:
    found = closure(_diagnosis(Finding.of("rule", "The log says «ERROR no such table: users»", [LOG])))
    assert (found.claims, found.closed) == (2, 1)
    assert "users" in found.open[0]


def test_evidence_that_is_not_there_leaves_claim_and_cause_open() -> None:
    found = closure(_diagnosis(Finding.of("rule", "It failed", [LOG]), evidence=()))
    assert found.closed == 0


def test_a_cause_without_its_finding_is_open() -> None:
    found = closure(_diagnosis(Finding.of("rule", "It failed", [LOG]), cites=["fnd_0"]))
    assert (found.claims, found.closed) == (2, 1)
    assert "application_error" in found.open[0]
