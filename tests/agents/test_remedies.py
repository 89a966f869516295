"""Which action answers which cause, as a table; and what is left to people."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from agents.k8s_fixer import core_sha256, evidence_need
from agents.remedies import remedies
from incidents.crash_report import CoreFile, CrashReport
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
from incidents.plan import (
    ChangeProbe,
    ChangeResources,
    EvidenceNeed,
    HelmRollbackAction,
    HelmUninstallAction,
    RollbackRevision,
)
from tools.helm.client import Revision

API = ObjectRef(kind="Deployment", namespace="shop", name="api", container="main")
EARLIER: dict[str, Fact] = {"healthy_revision": 3, "current_revision": 4, "healthy_because": "two pods ran ready"}
HELM: dict[str, Fact] = {"helm_release": "store", "helm_namespace": "shop"}


def diagnosis(cause_class: CauseClass, facts: dict[str, Fact], confidence: float = 0.9) -> Diagnosis:
    evidence = Evidence.of(EvidenceKind.OBJECT, "GET …", "seen", datetime(2026, 1, 2, tzinfo=UTC))
    finding = Finding.of("rule", "claim", [evidence])
    cause = Cause(
        cause_class=cause_class, object=API, confidence=confidence, summary="It.", finding_ids=[finding.id], facts=facts
    )
    return Diagnosis(status=DiagnosisStatus.DIAGNOSED, causes=[cause], findings=[finding], evidence=[evidence])


def revision(number: int, status: str) -> Revision:
    return Revision(number=number, status=status, chart="c-1", app_version="1", description="", updated="")


TABLE = [
    (
        CauseClass.WRONG_LIVENESS_PROBE,
        {"probe": "liveness", "field": "port", "observed": 81, "suggested": 8080},
        ChangeProbe(target=API.model_copy(update={"container": None}), container="main", probe="liveness", port=8080),
    ),
    (
        CauseClass.WRONG_READINESS_PROBE,
        {"field": "path", "suggested": "/ready"},
        ChangeProbe(
            target=API.model_copy(update={"container": None}), container="main", probe="readiness", path="/ready"
        ),
    ),
    (
        CauseClass.WRONG_STARTUP_PROBE,
        {"field": "timing", "suggested_failure_threshold": 30},
        ChangeProbe(
            target=API.model_copy(update={"container": None}), container="main", probe="startup", failure_threshold=30
        ),
    ),
    (
        CauseClass.OOM_KILLED,
        {"memory_limit": "24Mi", "suggested_memory_limit": "48Mi"},
        ChangeResources(target=API.model_copy(update={"container": None}), container="main", memory_limit="48Mi"),
    ),
    *[
        (cause, EARLIER, RollbackRevision(target=API.model_copy(update={"container": None}), revision=3))
        for cause in (
            CauseClass.NULL_DEREFERENCE,
            CauseClass.NATIVE_CRASH,
            CauseClass.BAD_IMAGE,
            CauseClass.BAD_COMMAND,
            CauseClass.MISSING_CONFIG_KEY,
            CauseClass.BAD_ROLLOUT,
            CauseClass.APPLICATION_ERROR,
        )
    ],
]


@pytest.mark.parametrize(("cause", "facts", "action"), TABLE)
def test_the_first_remedy(cause: CauseClass, facts: dict[str, Fact], action: object) -> None:
    assert remedies(diagnosis(cause, facts), {})[0].action == action


@pytest.mark.parametrize("cause", list(CauseClass))
def test_without_an_observed_value_or_revision_nothing_is_invented(cause: CauseClass) -> None:
    found = remedies(diagnosis(cause, {}), {})
    assert [remedy.action for remedy in found] == [None]
    assert found[0].proposal().title


@pytest.mark.parametrize("cause", [CauseClass.NULL_DEREFERENCE, CauseClass.NATIVE_CRASH, CauseClass.ABORT])
def test_a_bug_in_code_is_reported_and_never_configured_away(cause: CauseClass) -> None:
    facts: dict[str, Fact] = {"field": "port", "suggested": 1, "suggested_memory_limit": "1Gi", **EARLIER}
    found = remedies(diagnosis(cause, facts), {})
    assert {type(remedy.action) for remedy in found} == {RollbackRevision, type(None)}
    assert "owners" in found[-1].title


def test_a_guess_is_not_acted_upon() -> None:
    assert remedies(diagnosis(CauseClass.BAD_IMAGE, EARLIER, confidence=0.4), {}) == []


def test_a_cause_that_no_template_brought_in_is_not_rolled_back() -> None:
    found = remedies(diagnosis(CauseClass.UNSCHEDULABLE, EARLIER), {})
    assert [remedy.action for remedy in found] == [None]


def test_a_release_goes_back_to_the_last_revision_that_was_deployed() -> None:
    history = [revision(1, "superseded"), revision(2, "failed"), revision(3, "deployed")]
    found = remedies(diagnosis(CauseClass.NATIVE_CRASH, {**HELM, **EARLIER}), {("shop", "store"): history})
    release = ObjectRef(kind="HelmRelease", namespace="shop", name="store")
    assert found[0].action == HelmRollbackAction(target=release, revision=1)


def test_a_first_revision_that_crashes_can_only_be_removed() -> None:
    histories = {("shop", "store"): [revision(1, "deployed")]}
    found = remedies(diagnosis(CauseClass.NATIVE_CRASH, HELM), histories)
    assert isinstance(found[0].action, HelmUninstallAction)
    assert not any(
        isinstance(item.action, HelmUninstallAction)
        for item in remedies(diagnosis(CauseClass.BAD_IMAGE, HELM), histories)
    )


def test_a_native_crash_needs_its_core_and_other_causes_do_not() -> None:
    crash = diagnosis(CauseClass.NATIVE_CRASH, {})
    assert evidence_need(crash) is EvidenceNeed.CORE
    assert evidence_need(diagnosis(CauseClass.OOM_KILLED, {})) is EvidenceNeed.NONE
    assert core_sha256(crash) is None
    whole = CrashReport(core=CoreFile(sha256="ab", size=1))
    cut = CrashReport(core=CoreFile(sha256="ab", size=1, truncated=True))
    assert core_sha256(crash.model_copy(update={"crash": whole})) == "ab"
    assert core_sha256(crash.model_copy(update={"crash": cut})) is None
