"""A card names the runbooks that fit, escaped, in its language."""

from __future__ import annotations

import json

from incidents.database import utcnow
from incidents.models import Diagnosis, DiagnosisStatus, Incident, IncidentStatus, ObjectRef, Recalled
from tools.feishu.diagnosis_card import diagnosis_card


def test_runbooks_are_named_and_escaped() -> None:
    def book(source: str, borne_out: bool | None) -> Recalled:
        return Recalled(
            kind="runbook", source=source, text="t", why="w", borne_out=borne_out, checked="c", evidence_ids=["ev_1"]
        )

    now = utcnow()
    target = ObjectRef(kind="Deployment", namespace="shop", name="cart")
    incident = Incident(
        id="inc_1", created_at=now, updated_at=now, status=IncidentStatus.DIAGNOSED, target=target, event="e",
        requested_by="local",
    )  # fmt: skip
    found = [
        book("a.md#<at id=all></at> (lines 1–2)", None),
        book("b.md#B (lines 1–9)", False),
        book("c.md#C (lines 3–4)", True),
    ]
    diagnosis = Diagnosis(status=DiagnosisStatus.UNKNOWN, recalled=found)
    shown = json.dumps(diagnosis_card(incident, diagnosis, [], language="zh"), ensure_ascii=False)
    assert "预案" in shown and "c.md&#35;C" in shown and "b.md" not in shown
    assert "<at" not in shown
