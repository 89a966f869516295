"""Results survive: a stopped evaluation goes on, a killed one loses at most its last line."""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import Conflict, InvalidInput
from evals.harness import jobs
from evals.results import Store
from evals.scenario import chosen, sources
from tests.evals.results_made_up import result


def test_results_are_not_mixed_unless_asked(tmp_path: Path) -> None:
    Store.open(tmp_path, resume=False).add(result())
    with pytest.raises(Conflict, match="--resume"):
        Store.open(tmp_path, resume=False)
    assert Store.open(tmp_path, resume=True).done() == {("one", "paramedic", 0)}


def test_only_what_is_left_is_run_again(tmp_path: Path) -> None:
    store = Store.open(tmp_path, resume=False)
    store.add(result("healthy", 0))
    store.add(result("healthy", 1, error="the cluster was down"))
    todo = jobs(chosen(sources(), ["healthy"], False), 3, True)
    assert [job.repetition for job in todo if job.key not in store.done()] == [1, 2]


def test_a_second_try_replaces_the_first(tmp_path: Path) -> None:
    store = Store.open(tmp_path, resume=False)
    store.add(result(error="the cluster was down"))
    store.add(result())
    (found,) = store.all()
    assert found.error is None


def test_a_torn_last_line_is_left_out_and_written_over(tmp_path: Path) -> None:
    store = Store.open(tmp_path, resume=False)
    store.add(result())
    with store.file.open("a") as file:
        file.write('{"scenario": "tw')
    store = Store.open(tmp_path, resume=True)
    assert [found.scenario for found in store.all()] == ["one"]
    store.add(result("three"))
    assert [found.scenario for found in Store.open(tmp_path, resume=True).all()] == ["one", "three"]


def test_a_bad_line_is_told_with_its_place(tmp_path: Path) -> None:
    store = Store.open(tmp_path, resume=False)
    store.file.write_text("not json\n" + result().model_dump_json(by_alias=True) + "\n")
    with pytest.raises(InvalidInput, match="line 1"):
        Store.open(tmp_path, resume=True)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    store = Store.open(tmp_path, resume=False)
    made = result(collateral=["Secret/x"], open_claims=["«quoted»"], usd=None)
    store.add(made)
    assert store.all() == [made]
