"""`paramedic diagnose snapshot|workload`: exit codes, one document on stdout, one line on stderr."""

from __future__ import annotations

import io
import json
import os
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from diagnosis.closure import with_closure
from diagnosis.workloads.diagnose import diagnose
from diagnosis.workloads.load import load_snapshot
from errors import InvalidInput
from incidents.models import CauseClass, Hypothesis, ModelStatements, ObjectRef
from terminal.diagnose_workload import target_of
from terminal.render import plain, show_diagnosis
from tests.standins import command

ROOT = Path(__file__).parents[2]
SNAPSHOTS = ROOT / "tests" / "fixtures" / "snapshots"


def paramedic(*arguments: str, afresh: bool = False) -> subprocess.CompletedProcess[str]:
    own = {"PARAMEDIC_KUBERNETES__ENABLED": "false", "PARAMEDIC_DATA_DIR": "/nonexistent"}  # no incidents of before
    environment = {**os.environ, **own}
    return command.paramedic(*arguments, environment=environment, afresh=afresh)


def test_json_is_one_document_and_nothing_else() -> None:
    done = paramedic("diagnose", "snapshot", str(SNAPSHOTS / "oom_killed"), "--json", afresh=True)
    assert done.returncode == 0
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert document["causes"][0]["class"] == "oom_killed"
    assert document["schema_version"]


@pytest.mark.parametrize(("name", "code"), [("healthy", 0), ("unknown_silent_exit", 1)])
def test_exit_codes_of_answers(name: str, code: int) -> None:
    assert paramedic("diagnose", "snapshot", str(SNAPSHOTS / name)).returncode == code


def test_bad_input_is_one_line_and_exit_2(tmp_path: Path) -> None:
    done = paramedic("diagnose", "snapshot", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("paramedic: ") and done.stderr.count("\n") == 1


def test_no_cluster_is_said() -> None:
    done = paramedic("diagnose", "workload", "deploy/web", "-n", "shop")
    assert (done.returncode, done.stdout) == (3, "")
    assert "no cluster" in done.stderr


def test_names_as_kubectl_takes_them() -> None:
    assert str(target_of("sts/db", "shop")) == "StatefulSet shop/db"
    for wrong in ("web", "deploy/", "deploy/a/b", "gateway/x"):
        with pytest.raises(InvalidInput):
            target_of(wrong, "shop")


def shown(name: str) -> str:
    output = io.StringIO()
    show_diagnosis(Console(file=output, width=80), diagnose(load_snapshot(SNAPSHOTS / name)))
    return output.getvalue()


def test_people_see_what_a_model_tested_and_what_share_the_evidence_bears() -> None:
    assert "The evidence bears 100% of what was stated" in shown("application_error")
    found = diagnose(load_snapshot(SNAPSHOTS / "application_error"))
    tested = Hypothesis(
        cause_class=CauseClass.EVICTED,
        object=ObjectRef(kind="Pod", namespace="shop", name="a\x1b[31m"),
        verdict="refuted",
        because="It runs.",
        evidence_ids=["ev_1"],
    )
    statements = ModelStatements(kept=0, total=len(found.findings) + len(found.causes))
    output = io.StringIO()
    show_diagnosis(
        Console(file=output, width=200),
        with_closure(found.model_copy(update={"hypotheses": [tested], "model_statements": statements})),
    )
    assert "- refuted: evicted in Pod shop/a\\x1b[31m: It runs. [ev_1]" in output.getvalue()
    said = f"The evidence bears 50% of what was stated; of {statements.total} statements of a model, 0"
    assert said in output.getvalue()


def test_people_see_cause_quotation_source_and_next_step() -> None:
    text = shown("application_error")
    for part in ("application_error", "confidence", "is not a number", "kubectl logs -n ", "Next steps"):
        assert part in text


def test_sources_are_never_cut() -> None:
    source = diagnose(load_snapshot(SNAPSHOTS / "native_crash")).evidence[0].source
    assert len(source) > 80
    assert source in shown("native_crash")


def test_outside_text_cannot_drive_the_terminal() -> None:
    assert plain("a\x1b[31mb\x07\u202ec\td\n[bold]e") == "a\\x1b[31mb\\x07\\u202ec    d\n[bold]e"
