"""Incidents, diagnoses and approvals for the tests of cards, callbacks and notices."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from incidents.crash_report import CrashInfo, CrashReport, Frame, Thread
from incidents.database import Database
from incidents.models import (
    Cause,
    CauseClass,
    Diagnosis,
    DiagnosisStatus,
    Evidence,
    EvidenceKind,
    Finding,
    Hypothesis,
    Incident,
    IncidentStatus,
    Moment,
    MomentKind,
    ObjectRef,
    Recalled,
)
from incidents.plan import (
    Approval,
    ApprovalState,
    ChangeProbe,
    EvidenceNeed,
    PatchWrite,
    Plan,
    ProbeKind,
    Proposal,
    Risk,
)
from incidents.tables import ApprovalRow, IncidentRow

NOW = datetime(2025, 11, 21, 10, 0, tzinfo=UTC)
TARGET = ObjectRef(kind="Deployment", namespace="shop", name="api", container="server")
DIFF = (
    "--- a/shop/api\n+++ b/shop/api\n@@ -1,3 +1,3 @@\n livenessProbe:\n   httpGet:\n-    port: 9999\n+    port: 8080\n"
)


def incident(**changes: Any) -> Incident:
    values: dict[str, Any] = {
        "id": "inc_" + "1" * 32,
        "created_at": NOW,
        "updated_at": NOW,
        "status": IncidentStatus.ANALYSING,
        "target": TARGET,
        "event": "api keeps restarting",
        "requested_by": "api:alerts",
    }
    return Incident(**(values | changes))


def hypothesis(
    verdict: Any, text: str, evidence_ids: list[str], cause: CauseClass = CauseClass.BAD_IMAGE
) -> Hypothesis:
    values = {"class": cause, "object": TARGET, "verdict": verdict, "because": text, "evidence_ids": evidence_ids}
    return Hypothesis.model_validate({**values, "confirms": text, "refutes": text})


def diagnosis(text: str = "probe port 9999 is closed", **changes: Any) -> Diagnosis:
    seen = Evidence.of(EvidenceKind.EVENT, "GET /api/v1/namespaces/shop/events", text, NOW)
    finding = Finding.of("wrong_probe", f"Liveness probe failed: {text}", [seen], object=TARGET)
    cause = Cause(
        cause_class=CauseClass.WRONG_LIVENESS_PROBE,
        object=TARGET,
        confidence=0.95,
        summary=f"The liveness probe asks the wrong port: {text}",
        finding_ids=[finding.id],
    )
    crash = CrashReport(
        crash_info=CrashInfo(type="SIGSEGV / SEGV_MAPERR"),
        threads=[Thread(frames=[Frame(frame=0, function=f"handle {text}", file="src/server.cpp", line=42)])],
    )
    values: dict[str, Any] = {
        "status": DiagnosisStatus.DIAGNOSED,
        "causes": [cause],
        "findings": [finding],
        "evidence": [seen],
        "unseen": [f"metrics: {text}"],
        "next_steps": [f"look at {text}"],
        "crash": crash,
        "signature": "sig",
        "explanation": f"A model says: {text}",
        "hypotheses": [hypothesis(verdict, text, [seen.id]) for verdict in ("undecided", "refuted", "confirmed")],
        "recalled": [
            Recalled(
                kind="incident",
                source="inc_1",
                text=f"2025-11-03: {text}, held 17 days",
                why=text,
                checked=text,
                evidence_ids=[seen.id],
            )
        ],
        "timeline": [
            Moment(at=NOW, kind=MomentKind.ROLLOUT, text=f"rolled out: {text}", evidence_ids=[seen.id]),
            Moment(at=NOW, kind=MomentKind.CRASH, text=f"ended: {text}", onset=True, evidence_ids=[seen.id]),
        ],
    }
    return Diagnosis(**(values | changes))


def proposal(text: str = "fix the code") -> Proposal:
    return Proposal(title=f"For the owners: {text}", reason=text, steps=[text], change=f"+ {text}\n")


def approval(
    state: ApprovalState = ApprovalState.PENDING,
    *,
    text: str = "wrong port",
    diff: str = DIFF,
    core: bool | None = None,
    quorum: int = 1,
    seconds: int = 900,
    issued_at: datetime | None = None,
    number: int = 1,
    **changes: Any,
) -> Approval:
    """`core`: None when the plan needs none, else whether it is captured."""
    issued_at = issued_at or NOW
    write = PatchWrite(
        api_version="apps/v1",
        kind="Deployment",
        namespace="shop",
        name="api",
        uid="u-1",
        resource_version="7",
        generation=3,
        fingerprint="f" * 64,
        body="[]",
    )
    plan = Plan(
        id=f"pln_{number}",
        incident_id="inc_" + "1" * 32,
        action=ChangeProbe(target=TARGET, container="server", probe=ProbeKind.LIVENESS, port=8080),
        title=f"Change the liveness probe of api: {text}",
        reason=f"The application listens on 8080: {text}",
        writes=[write],
        inverse=[write],
        reversible=True,
        risk=Risk.MEDIUM,
        blast_radius=f"restarts the pods of shop/api: {text}",
        affected_pods=2,
        quorum=quorum,
        diff=diff,
        preimage="{}",
        deps_digest="0" * 64,
        evidence_need=EvidenceNeed.NONE if core is None else EvidenceNeed.CORE,
        evidence_sha256="c" * 64 if core else None,
        evidence_digest="0" * 64,
        policy_version="p",
        cluster_id="c",
        requested_by="api:alerts",
        created_at=issued_at,
    )
    values: dict[str, Any] = {
        "id": f"apr_{number:032x}",
        "incident_id": plan.incident_id,
        "plan": plan,
        "digest": plan.digest(),
        "state": state,
        "requested_by": plan.requested_by,
        "quorum": quorum,
        "issued_at": issued_at,
        "expires_at": issued_at + timedelta(seconds=seconds),
        "nonce": f"nonce-{number}",
    }
    return Approval(**(values | changes))


async def record(database: Database, approval: Approval, incident: Incident) -> None:
    """The rows of an incident and its approval."""
    async with database.write() as session:
        session.add(
            IncidentRow(
                id=incident.id,
                created_at=incident.created_at,
                updated_at=incident.updated_at,
                status=incident.status.value,
                kind=incident.target.kind,
                namespace=incident.target.namespace,
                name=incident.target.name,
                signature=None,
                document=incident.model_dump(mode="json"),
                diagnosis=None,
                proposals=None,
            )
        )
        await session.flush()
        session.add(
            ApprovalRow(
                id=approval.id,
                incident_id=approval.incident_id,
                target_key="Deployment/shop/api",
                digest=approval.digest,
                state=approval.state.value,
                requested_by=approval.requested_by,
                quorum=approval.quorum,
                issued_at=approval.issued_at,
                expires_at=approval.expires_at,
                nonce=approval.nonce,
                plan=approval.plan.model_dump(mode="json"),
            )
        )
