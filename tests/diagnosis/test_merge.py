"""What the cluster shows joined with what the core shows."""

from __future__ import annotations

from datetime import UTC, datetime

from diagnosis.closure import with_closure
from diagnosis.merge import merge
from incidents.crash_report import CrashReport
from incidents.models import (
    Cause,
    CauseClass,
    Diagnosis,
    DiagnosisStatus,
    Evidence,
    EvidenceKind,
    Fact,
    Finding,
    ObjectRef,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)
API = ObjectRef(kind="Deployment", namespace="shop", name="api", container="main")


def diagnosis(
    cause_class: CauseClass, ref: ObjectRef, text: str, facts: dict[str, Fact], confidence: float
) -> Diagnosis:
    evidence = Evidence.of(EvidenceKind.OBJECT, f"source of {text}", text, NOW)
    finding = Finding.of("rule", text, [evidence])
    cause = Cause(
        cause_class=cause_class, object=ref, confidence=confidence, summary=text, finding_ids=[finding.id], facts=facts
    )
    return Diagnosis(status=DiagnosisStatus.DIAGNOSED, causes=[cause], findings=[finding], evidence=[evidence])


WORKLOAD = diagnosis(CauseClass.NATIVE_CRASH, API, "exit 139", {"pod_uid": "u1", "healthy_revision": 1}, 0.9)
CORE = diagnosis(
    CauseClass.NULL_DEREFERENCE, ObjectRef(kind="Process", name="server"), "null at server.cpp:3", {"signal": 11}, 0.8
).model_copy(update={"signature": "SIGSEGV | handle"})


def test_the_core_explains_the_crash_that_the_cluster_saw() -> None:
    joint = merge(WORKLOAD, CORE)
    (cause,) = joint.causes
    assert cause.cause_class is CauseClass.NULL_DEREFERENCE
    assert cause.object == API
    assert cause.facts == {"signal": 11, "pod_uid": "u1", "healthy_revision": 1}
    assert set(cause.finding_ids) == {finding.id for finding in joint.findings}
    assert joint.signature == "SIGSEGV | handle"


def test_nobody_is_sent_to_read_the_core_that_was_read() -> None:
    read = "Analyse the core that SIGSEGV leaves: `paramedic diagnose core CORE --exe PROGRAM` names function and line"
    workload = WORKLOAD.model_copy(update={"next_steps": [read, "Roll back"]})
    assert merge(workload, CORE).next_steps == [read, "Roll back"], "it could not be read"
    core = CORE.model_copy(update={"crash": CrashReport(), "next_steps": ["look at server.cpp:3"]})
    assert merge(workload, core).next_steps == ["look at server.cpp:3", "Roll back"]


def test_every_cited_finding_and_evidence_is_there() -> None:
    joint = merge(WORKLOAD, CORE)
    assert {ev for finding in joint.findings for ev in finding.evidence_ids} <= {item.id for item in joint.evidence}


def test_a_signal_from_outside_explains_no_crash() -> None:
    outside = diagnosis(CauseClass.EXTERNAL_SIGNAL, ObjectRef(kind="Process", name="server"), "killed by 7", {}, 0.9)
    assert merge(WORKLOAD, outside).causes[0].cause_class is CauseClass.NATIVE_CRASH


def test_one_side_alone_and_none() -> None:
    assert merge(WORKLOAD, None) == with_closure(WORKLOAD)
    assert merge(None, CORE) == with_closure(CORE)
    assert merge(None, None).status is DiagnosisStatus.FAILED


def test_an_unreadable_core_does_not_hide_the_workload_diagnosis() -> None:
    failed = Diagnosis(status=DiagnosisStatus.FAILED, unseen=["the core dump could not be read: x"])
    joint = merge(WORKLOAD, failed)
    assert joint.status is DiagnosisStatus.DIAGNOSED
    assert joint.unseen == ["the core dump could not be read: x"]


def test_merging_twice_changes_nothing() -> None:
    joint = merge(WORKLOAD, CORE)
    assert merge(WORKLOAD, CORE) == joint


def test_what_only_a_model_suggests_ranks_last_and_diagnoses_nothing() -> None:
    unknown = Diagnosis(status=DiagnosisStatus.UNKNOWN)
    guess = diagnosis(CauseClass.OOM_KILLED, API, "perhaps memory", {}, 0.45)
    guess = guess.model_copy(
        update={
            "status": DiagnosisStatus.UNKNOWN,
            "findings": [finding.model_copy(update={"source": "model"}) for finding in guess.findings],
        }
    )
    assert merge(guess, unknown).status is DiagnosisStatus.UNKNOWN
    weak = diagnosis(CauseClass.ABORT, ObjectRef(kind="Process", name="server"), "abort()", {}, 0.3)
    joint = merge(guess, weak)
    assert joint.status is DiagnosisStatus.DIAGNOSED
    assert [cause.cause_class for cause in joint.causes] == [CauseClass.ABORT, CauseClass.OOM_KILLED]
