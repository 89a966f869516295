"""The value score ranks: what is worth more has more, and nothing ordinary is worth everything."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from diagnosis.crashes.value import evidence_quality, value_score
from incidents.crash_report import CoreFile, CrashReport, Frame, Thread
from incidents.crash_verdicts import CrashSeverity


def report(severity: str | None = "NOT_EXPLOITABLE", names: int = 4, **more: Any) -> CrashReport:
    frames = [
        Frame(
            frame=index,
            function=f"f{index}" if index < names else None,
            file="a.c" if index < names else None,
            line=index + 1 if index < names else None,
            in_app=True,
        )
        for index in range(4)
    ]
    rated = CrashSeverity(type=severity, short_description="x", description="x", explanation="x") if severity else None
    return CrashReport(threads=[Thread(frames=frames)], severity=rated, **more)


def total(crash: CrashReport, **more: Any) -> float:
    return value_score(crash, **more).total


def test_an_ordinary_fresh_crash_is_worth_six_to_seven() -> None:
    assert 6.0 <= total(report()) <= 7.0


def test_what_is_worth_more_ranks_higher() -> None:
    ranking = [
        total(report("EXPLOITABLE"), pods_last_hour=8),
        total(report("EXPLOITABLE")),
        total(report("PROBABLY_EXPLOITABLE")),
        total(report()),
        total(report(), earlier=1),
        total(report(), earlier=100),
        total(report(cause_class="external_signal"), earlier=100),
    ]
    assert ranking == sorted(ranking, reverse=True)
    assert len(set(ranking)) == len(ranking)
    assert total(report(names=0)) < total(report()) - 2
    assert total(report(core=CoreFile(size=10, missing_bytes=30, truncated=True))) < total(report()) - 1


def test_evidence_is_satyrs_quality() -> None:
    assert evidence_quality(report()) == 1.0
    assert evidence_quality(report(names=0)) == 0.0
    assert evidence_quality(CrashReport()) == 0.0
    half = report(names=2)
    idle = Thread(frames=[Frame(frame=0)] * 4)
    assert evidence_quality(half) == 0.25 * 0.5 + 0.35 * 0.5 + 0.4 * 0.5
    assert evidence_quality(half.model_copy(update={"threads": [*half.threads, idle]})) == 0.25 * 0.25 + 0.75 * 0.5


@given(
    st.sampled_from(["EXPLOITABLE", "NOT_EXPLOITABLE", "odd", None]),
    st.integers(0, 4),
    st.integers(0, 10**9),
    st.none() | st.integers(0, 10**6),
    st.booleans(),
)
def test_components_add_up_and_the_total_is_kept_in_bounds(
    severity: str | None, names: int, earlier: int, pods: int | None, truncated: bool
) -> None:
    crash = report(severity, names, core=CoreFile(truncated=truncated))
    score = value_score(crash, earlier=earlier, pods_last_hour=pods)
    assert score.total == round(min(max(sum(score.components.values()), 0), 10), 2)
