"""From results to figures. A scenario whose state check a baseline passes says nothing about repairs and is left out
of them; a run that could not be made counts for nobody and is told."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from math import comb
from statistics import median
from typing import Any

from pydantic import BaseModel, Field

from evals.results import Result


class Line(BaseModel):
    """Figures of one group (or of all). Shares are None where there is nothing to share."""

    group: str
    scenarios: int = 0
    runs: int = 0
    class_right: float | None = None
    object_right: float | None = None
    right: float | None = None
    at_large_right: float | None = None
    pass_k: dict[int, float] = Field(default_factory=dict, description="k to the chance that k runs are all right")
    offered: float | None = Field(default=None, description="Of runs that an action can repair")
    fixed: float | None = Field(default=None, description="State check passed, of runs that an action can repair")
    right_and_fixed: float | None = None
    wrong_actions: int = Field(default=0, description="Approved, and the state check failed or there was nothing to do")
    undone: int = Field(default=0, description="Approved, did not help, and was taken back by the gate itself")
    claimed: int = Field(default=0, description="Told as fixed, and the state check says that it is not")
    collateral: int = 0


class Score(BaseModel):
    """Everything that the report shows."""

    lines: list[Line] = Field(default_factory=list)
    total: Line
    closure: float | None = None
    claims: int = 0
    open_claims: list[str] = Field(default_factory=list)
    blamed_bystanders: int = 0
    baselines: dict[str, dict[str, int]] = Field(default_factory=dict)
    void: list[str] = Field(default_factory=list, description="Scenarios that a baseline passes")
    not_run: dict[str, str] = Field(default_factory=dict)
    confusion: dict[str, dict[str, int]] = Field(default_factory=dict, description="Truth to answer to runs")
    seconds: dict[str, float] = Field(default_factory=dict, description="Medians and the 95th percentile")
    tokens: int = 0
    usd: float | None = 0.0


def score(results: Sequence[Result]) -> Score:
    made = [result for result in results if result.error is None]
    runs = [result for result in made if result.mode == "paramedic"]
    void = sorted({result.scenario for result in made if result.mode != "paramedic" and result.passed})
    groups: dict[str, list[Result]] = defaultdict(list)
    for result in runs:
        groups[result.group].append(result)
    claims = sum(result.claims for result in runs)
    confusion: dict[str, Counter[str]] = defaultdict(Counter)
    for result in runs:
        confusion[result.truth.class_][result.answer.class_ if result.answer else "failed"] += 1
    return Score(
        lines=[line(group, found, void) for group, found in sorted(groups.items())],
        total=line("all", runs, void),
        closure=sum(result.closed for result in runs) / claims if claims else None,
        claims=claims,
        open_claims=[f"{result.scenario}: {text}" for result in runs for text in result.open_claims],
        blamed_bystanders=sum(result.blamed_bystander for result in runs),
        baselines=_baselines(made),
        void=void,
        not_run={f"{r.scenario} ({r.mode})": r.error for r in results if r.error is not None},
        confusion={truth: dict(sorted(answers.items())) for truth, answers in sorted(confusion.items())},
        seconds=_times(runs),
        tokens=sum(result.tokens for result in runs),
        usd=None if any(result.usd is None for result in runs) else sum(result.usd or 0.0 for result in runs),
    )


def line(group: str, runs: Sequence[Result], void: Sequence[str]) -> Line:
    repairable = [result for result in runs if result.remedy == "action" and result.scenario not in void]
    return Line(
        group=group,
        scenarios=len({result.scenario for result in runs}),
        runs=len(runs),
        class_right=_share(result.class_right for result in runs),
        object_right=_share(result.class_right if _placeless(result) else result.object_right for result in runs),
        right=_share(is_right(result) for result in runs),
        at_large_right=_share(is_right_at_large(result) for result in runs),
        pass_k=pass_k(runs),
        offered=_share(result.offered is not None for result in repairable),
        fixed=_share(result.fix == "verified" for result in repairable),
        right_and_fixed=_share(result.fix == "verified" and is_right(result) for result in repairable),
        wrong_actions=sum(result.fix == "failed" for result in runs),
        undone=sum(result.fix == "undone" for result in runs),
        claimed=sum(result.fix == "failed" and result.incident_status == "fixed" for result in runs),
        collateral=sum(bool(result.collateral) for result in runs),
    )


def is_right(result: Result) -> bool:
    """Class, object and container; of `healthy` and `unknown`, that it was said."""
    return result.class_right if _placeless(result) else result.right


def is_right_at_large(result: Result) -> bool:
    """The same of the question without a target."""
    if _placeless(result):
        return result.at_large is not None and result.at_large.class_ == result.truth.class_
    return result.at_large_right


def _placeless(result: Result) -> bool:
    return result.truth.object is None


def pass_k(runs: Sequence[Result]) -> dict[int, float]:
    """For each k up to the fewest repetitions: the mean over scenarios of C(right, k) / C(runs, k), the unbiased
    estimate of the chance that k runs are all right (Yao et al. 2024, tau-bench)."""
    by_scenario: dict[str, list[bool]] = defaultdict(list)
    for result in runs:
        by_scenario[result.scenario].append(is_right(result))
    if not by_scenario:
        return {}
    fewest = min(len(found) for found in by_scenario.values())
    return {
        k: sum(comb(sum(found), k) / comb(len(found), k) for found in by_scenario.values()) / len(by_scenario)
        for k in range(1, fewest + 1)
    }


def _share(values: Iterable[bool]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None


def _baselines(made: Sequence[Result]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for mode in ("do_nothing", "blind_restart"):
        tried = [result for result in made if result.mode == mode]
        found[mode] = {"scenarios": len(tried), "passed": sum(bool(result.passed) for result in tried)}
    return found


def _times(runs: Sequence[Result]) -> dict[str, float]:
    found: dict[str, float] = {}
    columns: dict[str, list[float]] = {
        "rules_ms": [result.rules_ms for result in runs],
        "diagnosis_seconds": [result.diagnosis_seconds for result in runs],
        "repair_seconds": [result.seconds for result in runs if result.offered],
        "setup_seconds": [result.setup_seconds for result in runs],
    }
    for name, values in columns.items():
        if values:
            found[f"{name}_median"] = round(median(values), 2)
            found[f"{name}_p95"] = round(sorted(values)[min(len(values) - 1, int(len(values) * 0.95))], 2)
    return found


def as_json(results: Sequence[Result]) -> dict[str, Any]:
    """The JSON report: the figures and every run."""
    return {
        "schema_version": "1.0",
        "score": score(results).model_dump(mode="json"),
        "runs": [result.model_dump(mode="json", by_alias=True) for result in results],
    }
