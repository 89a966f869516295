"""Hypotheses of a model: which may be tested, and which verdicts stay."""

from __future__ import annotations

import pytest

from diagnosis.answer import Citation, Proposed, Verdict
from diagnosis.closure import with_closure
from diagnosis.grounding import Checker
from diagnosis.hypotheses import (
    CONFIDENCE_CAP,
    MAX_HYPOTHESES,
    Admitted,
    Candidate,
    admit,
    causes_of,
    find_object,
    judge,
    ruled_out_by,
    untested,
)
from incidents.models import (
    Cause,
    CauseClass,
    Diagnosis,
    DiagnosisStatus,
    Evidence,
    EvidenceKind,
    Hypothesis,
    ModelStatements,
    ObjectRef,
)
from tests.diagnosis.test_grounding import AT, CART, CRASH, LOG, RULE, STACK, STATUS, cite

DB = ObjectRef(kind="Service", namespace="shop", name="db")
PAYROLL = ObjectRef(kind="Deployment", namespace="shop", name="payroll")
ENDPOINTS = Evidence.of(EvidenceKind.OBJECT, "GET /api/v1/namespaces/shop/endpoints/db", "addresses: none", AT)
RUNBOOK = Evidence.of(EvidenceKind.RUNBOOK, "db.md: Endpoints", "when db has no endpoints, look at its pods", AT)
OBJECTS = [CART, DB, PAYROLL]


def diagnosis(
    *, crash: bool = False, status: DiagnosisStatus = DiagnosisStatus.DIAGNOSED, sure: float = 0.8
) -> Diagnosis:
    cause = Cause.model_validate(
        {"class": "native_crash", "object": CART, "confidence": sure, "summary": "s", "finding_ids": [RULE.id]}
    )
    return Diagnosis(
        status=status,
        causes=[cause] if status is DiagnosisStatus.DIAGNOSED else [],
        findings=[RULE],
        evidence=[STATUS, LOG, STACK],
        crash=CRASH if crash else None,
    )


def checker() -> Checker:
    return Checker([STATUS, LOG, STACK, ENDPOINTS, RUNBOOK], texts={}, objects=OBJECTS, crash=None)


def proposed(**changes: object) -> Proposed:
    fields: dict[str, object] = {
        "class": "dependency_unavailable",
        "object": "Service shop/db",
        "confirms": "It has no endpoints.",
        "refutes": "It has ready endpoints.",
        "tool": "get_endpoints",
        "arguments": {"name": "db"},
    }
    return Proposed.model_validate(fields | changes)


def admitted(*items: Proposed, found: Diagnosis | None = None) -> Admitted:
    return admit(items, OBJECTS, checker(), found or diagnosis())


def candidate(**changes: object) -> Candidate:
    (only,) = admitted(proposed(**changes)).candidates
    return only


def test_a_hypothesis_keeps_what_would_tell() -> None:
    item = candidate()
    assert item.hypothesis == Hypothesis(
        cause_class=CauseClass.DEPENDENCY_UNAVAILABLE,
        object=DB,
        confirms="It has no endpoints.",
        refutes="It has ready endpoints.",
        verdict="not_tested",
        because="it was not tested",
    )
    assert (item.tool, item.arguments) == ("get_endpoints", {"name": "db"})


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Service shop/db", DB),
        ("service shop/db", DB),
        ("Service/db", DB),
        ("Service db", DB),
        ("Service/shop/db", DB),
        ("Service other/db", None),
        ("Secret shop/db", None),
        ("db", None),
        ("", None),
        ("Service shop/db/x", None),
        ("Deployment shop/cart", CART.model_copy(update={"container": None})),
    ],
)
def test_which_object_is_meant(said: str, meant: ObjectRef | None) -> None:
    assert find_object(said, OBJECTS) == meant


def test_an_object_that_several_namespaces_have_is_not_guessed() -> None:
    other = DB.model_copy(update={"namespace": "bank"})
    assert find_object("Service db", [DB, other]) is None
    assert find_object("Service bank/db", [DB, other]) == other


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"class": "sabotage"}, "closed list"),
        ({"class": "unknown"}, "closed list"),
        ({"class": "null_dereference"}, "no such crash"),
        ({"object": "Deployment shop/invented"}, "object was not observed"),
        ({"object": "Service kube-system/db"}, "object was not observed"),
        ({"container": "sidecar"}, "container was not observed"),
    ],
)
def test_what_may_not_be_tested(changes: dict[str, object], reason: str) -> None:
    found = admitted(proposed(**changes))
    assert found.candidates == [] and reason in found.refused[0].reason


def test_a_healthy_object_gets_no_hypothesis() -> None:
    assert admitted(proposed(), found=diagnosis(status=DiagnosisStatus.HEALTHY)).candidates == []


def test_a_crash_class_needs_a_crash_that_the_rules_saw() -> None:
    wild = proposed(**{"class": "wild_pointer", "object": "Deployment shop/cart"})
    assert len(admitted(wild, found=diagnosis(crash=True)).candidates) == 1
    assert admitted(wild, found=diagnosis(crash=True, status=DiagnosisStatus.UNKNOWN)).candidates == []


def test_what_the_rules_named_or_what_was_said_already_is_left_out_without_blame() -> None:
    again = proposed(**{"class": "native_crash", "object": "Deployment shop/cart"})
    found = admitted(again, proposed(), proposed(), found=diagnosis(crash=True))
    assert len(found.candidates) == 1 and found.refused == []


def test_hypotheses_are_bounded() -> None:
    names = ["bad_change", "bad_rollout", "oom_killed", "evicted", "disk_full", "node_lost"]
    assert len(admitted(*(proposed(**{"class": name}) for name in names)).candidates) == MAX_HYPOTHESES


@pytest.mark.parametrize(
    "text",
    [
        "The administrator approved it.",
        "See https://evil.example/fix.",
        "Run kubectl delete namespace shop.",
        "The log names Deployment/invented.",
    ],
)
def test_expectations_that_would_mislead_a_reader_are_not_shown(text: str) -> None:
    assert candidate(confirms=text, refutes=text).hypothesis.confirms == ""


def verdict(**changes: object) -> Verdict:
    fields: dict[str, object] = {
        "verdict": "confirmed",
        "statement": "The service db has no addresses.",
        "citations": cite(ENDPOINTS, "addresses: none"),
        "confidence": 0.95,
    }
    return Verdict.model_validate(fields | changes)


@pytest.mark.parametrize(("rule", "cap"), [(0.8, CONFIDENCE_CAP), (0.4, 0.36)])
def test_a_confirmed_one_ranks_below_the_rules_and_carries_no_facts(rule: float, cap: float) -> None:
    judged = judge(candidate(), verdict(), checker())
    assert judged.hypothesis.verdict == "confirmed" and judged.hypothesis.evidence_ids == [ENDPOINTS.id]
    (cause,), (finding,) = causes_of([judged], diagnosis(sure=rule), model="openai:m")
    assert cause.cause_class is CauseClass.DEPENDENCY_UNAVAILABLE and cause.object == DB and cause.facts == {}
    assert cause.confidence == pytest.approx(cap) and cause.confidence < rule
    assert finding.source == "model" and finding.rule == "model:openai:m" and cause.finding_ids == [finding.id]


@pytest.mark.parametrize("confidence", [-3.0, float("nan"), float("inf"), 17.0])
def test_odd_confidences(confidence: float) -> None:
    (cause,), _ = causes_of([judge(candidate(), verdict(confidence=confidence), checker())], diagnosis(), model="m")
    assert 0 <= cause.confidence <= CONFIDENCE_CAP


def test_a_refuted_one_is_ruled_out_and_no_cause() -> None:
    judged = judge(candidate(), verdict(verdict="refuted"), checker())
    assert causes_of([judged], diagnosis(), model="m") == ([], [])
    (sentence,) = ruled_out_by([judged])
    assert sentence == (
        "dependency_unavailable in Service shop/db, tested by the model: The service db has no addresses."
    )


@pytest.mark.parametrize("said", ["confirmed", "refuted"])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"citations": []}, "cites nothing"),
        ({"citations": [Citation(evidence_id="ev_0", quote="addresses: none")]}, "does not exist"),
        ({"citations": cite(ENDPOINTS, "addresses: 10.0.0.9")}, "quote is not in"),
        ({"statement": ""}, "empty"),
        ({"statement": "It has 77 connections."}, "number 77"),
        ({"statement": "It was approved."}, "approving"),
        ({"citations": cite(STATUS, "exitCode: 139"), "statement": "It ended."}, "names the object"),
        ({"citations": cite(RUNBOOK, "db has no endpoints"), "statement": "It has none."}, "names the object"),
    ],
)
def test_a_verdict_that_is_not_borne_is_undecided(changes: dict[str, object], reason: str, said: str) -> None:
    judged = judge(candidate(), verdict(verdict=said, **changes), checker())
    assert judged.hypothesis.verdict == "undecided" and judged.hypothesis.evidence_ids == []
    assert judged.fault is not None and reason in judged.fault and judged.stated
    assert "77" not in judged.hypothesis.because  # the model's words are not shown
    assert causes_of([judged], diagnosis(), model="m") == ([], []) and ruled_out_by([judged]) == []


def test_what_a_log_says_of_another_object_proves_nothing() -> None:
    framed = candidate(**{"class": "application_error", "object": "Deployment shop/payroll"})
    said = Verdict(verdict="confirmed", statement="The fault is there.", citations=cite(LOG, "Deployment/payroll"))
    judged = judge(framed, said, checker())
    assert judged.hypothesis.verdict == "undecided" and judged.fault == "nothing that it cites names the object"


@pytest.mark.parametrize("said", ["undecided", "CONFIRMED!", "", "yes"])
def test_anything_else_is_undecided_and_states_nothing(said: str) -> None:
    judged = judge(candidate(), verdict(verdict=said), checker())
    assert judged.hypothesis.verdict == "undecided" and not judged.stated and judged.fault is None


def test_one_that_was_not_tested_says_why() -> None:
    judged = untested(candidate(), "no tokens were left")
    assert (judged.hypothesis.verdict, judged.hypothesis.because) == ("not_tested", "no tokens were left")


def test_closure() -> None:
    rules = with_closure(diagnosis())
    assert rules.closure == 1.0
    assert with_closure(Diagnosis(status=DiagnosisStatus.HEALTHY)).closure is None
    # two statements of the rules (a finding, a cause), and a model of which one in six statements stands
    (cause,), (finding,) = causes_of([judge(candidate(), verdict(), checker())], diagnosis(), model="m")
    joint = rules.model_copy(
        update={
            "causes": [*rules.causes, cause],
            "findings": [*rules.findings, finding],
            "model_statements": ModelStatements(kept=1, total=6),
        }
    )
    assert with_closure(joint).closure == pytest.approx(3 / 8)
    # a claim whose evidence is gone is open, whoever made it
    assert with_closure(rules.model_copy(update={"evidence": [LOG]})).closure == 0.5
