"""Figures from results whose figures are known by hand."""

from __future__ import annotations

import pytest

from evals.scoring import is_right, pass_k, score
from tests.evals.results_made_up import answer, result, truth


def test_right_needs_class_object_and_container() -> None:
    truths = [truth()]
    assert answer().right(truths) == (True, True, True)
    assert answer(container="other").right(truths) == (True, True, False)
    assert answer(container=None).right(truths) == (True, True, False)
    assert answer(object="Deployment/bank").right(truths) == (True, False, False)
    assert answer("bad_image").right(truths) == (False, False, False)
    assert answer("bad_image").right([*truths, truth("bad_image")]) == (True, True, True)


def test_a_half_right_alternative_does_not_hide_a_better_one() -> None:
    truths = [truth(container="a"), truth(container="till")]
    assert answer().right(truths) == (True, True, True)
    assert answer().right(truths[::-1]) == (True, True, True)


def test_pass_k_is_the_chance_that_k_runs_are_all_right() -> None:
    runs = [result("one", n, right) for n, right in enumerate([True, True, True, False])]
    assert pass_k(runs) == {1: 0.75, 2: 0.5, 3: 0.25, 4: 0.0}
    runs += [result("two", n) for n in range(2)]
    assert pass_k(runs) == {1: pytest.approx(0.875), 2: 0.75}
    assert pass_k([]) == {}


def test_unknown_and_healthy_are_right_when_they_are_said() -> None:
    control = truth("healthy", None, None)
    said = answer("healthy", None, None)
    right = result(truth=control, answer=said, class_right=True, object_right=False, right=False)
    wrong = result(truth=control, answer=answer("unknown", None, None), right=False)
    assert is_right(right)
    assert not is_right(wrong)
    assert score([right, wrong]).total.right == 0.5


def test_a_repair_that_a_baseline_also_gives_counts_for_nothing() -> None:
    lucky = result("lucky", fix="verified", offered="restart")
    earned = result("earned", fix="verified", offered="raise the limit")
    missed = result("missed", fix="not_offered")
    base = [result("lucky", mode="blind_restart", passed=True), result("lucky", mode="do_nothing", passed=False)]
    found = score([lucky, earned, missed, *base])
    assert found.void == ["lucky"]
    assert found.total.fixed == 0.5
    assert found.total.offered == 0.5
    assert found.baselines == {
        "do_nothing": {"scenarios": 1, "passed": 0},
        "blind_restart": {"scenarios": 1, "passed": 1},
    }
    assert found.total.runs == 3


def test_a_fix_by_luck_is_not_right_and_fixed() -> None:
    found = score([result(right=False, fix="verified", offered="something")])
    assert (found.total.fixed, found.total.right_and_fixed) == (1.0, 0.0)


def test_wrong_actions_collateral_and_bystanders_are_counted() -> None:
    runs = [
        result(remedy="none", fix="failed", offered="restart"),
        result(collateral=["Deployment/neighbour"], blamed_bystander=True),
    ]
    found = score(runs)
    assert (found.total.wrong_actions, found.total.collateral, found.blamed_bystanders) == (1, 1, 1)


def test_closure_is_a_share_of_all_claims() -> None:
    found = score([result(claims=4, closed=4), result("two", claims=6, closed=4, open_claims=["x"])])
    assert found.closure == 0.8
    assert found.open_claims == ["two: x"]
    assert score([]).closure is None


def test_what_could_not_be_run_counts_for_nobody_and_is_told() -> None:
    found = score([result(), result("two", error="no node", right=False)])
    assert found.total.runs == 1
    assert found.total.right == 1.0
    assert found.not_run == {"two (paramedic)": "no node"}


def test_confusion_is_by_truth_and_first_answer() -> None:
    found = score([result(), result("two", right=False), result("three", right=False, answer=None)])
    assert found.confusion == {"oom_killed": {"oom_killed": 1, "bad_image": 1, "failed": 1}}


def test_money_is_unknown_when_a_price_is() -> None:
    assert score([result(usd=0.25), result("two", usd=0.5)]).usd == 0.75
    assert score([result(usd=0.25), result("two", usd=None)]).usd is None
