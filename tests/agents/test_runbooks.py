"""Runbooks beside a diagnosis: which passages fit, what they are checked by, and that failing they cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agents.runbooks import check, runbook_tool, with_runbooks
from incidents.models import (
    Cause,
    CauseClass,
    Diagnosis,
    DiagnosisStatus,
    Evidence,
    EvidenceKind,
    Finding,
    Incident,
    ObjectRef,
)
from settings import RunbookSettings
from tests.agents.conftest import AT
from tools.runbooks.library import Runbooks
from tools.runbooks.passages import Scope

PRICES = ObjectRef(kind="Deployment", namespace="shop", name="prices", container="web")
OOM = CauseClass.OOM_KILLED
Library = Callable[..., Runbooks]


@pytest.fixture
def library(tmp_path: Path) -> Library:
    def make(**files: str) -> Runbooks:
        folder = tmp_path / "books"
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / f"{name}.md").write_text(text, encoding="utf-8")
        return Runbooks(RunbookSettings(folder=folder), tmp_path / "data")

    return make


def diagnosed(cause_class: CauseClass = OOM, log: str = "killed", **facts: str) -> Diagnosis:
    seen = Evidence.of(EvidenceKind.LOG, "log of shop/prices-1", log, AT)
    finding = Finding.of("rule", "it was found", [seen], object=PRICES)
    cause = Cause(
        cause_class=cause_class,
        object=PRICES,
        confidence=0.9,
        summary="The container failed.",
        finding_ids=[finding.id],
        facts={**facts},
    )
    return Diagnosis(status=DiagnosisStatus.DIAGNOSED, causes=[cause], findings=[finding], evidence=[seen])


async def recalled(runbooks: Runbooks, incident: Incident, diagnosis: Diagnosis) -> list[str]:
    found = await with_runbooks(runbooks, incident.model_copy(update={"target": PRICES}), diagnosis)
    return [item.source.partition(".md")[0] for item in found.recalled]


async def test_a_passage_is_quoted_with_its_source(library: Library, incident: Incident) -> None:
    books = library(memory="# Memory\n\n## OOMKilled containers\npassword=hunter2hunter2\nRead the graph first.\n")
    found = await with_runbooks(books, incident, diagnosed())
    (item,) = found.recalled
    assert (item.kind, item.source) == ("runbook", "memory.md#OOMKilled containers (lines 3–5)")
    assert "Read the graph first." in item.text and "hunter2" not in item.text
    assert "OOMKilled" in item.why
    assert (item.borne_out, item.checked) == (
        None,
        "its front matter does not say what it is for: nothing to check it by",
    )
    (evidence,) = [piece for piece in found.evidence if piece.id in item.evidence_ids]
    assert (evidence.kind, evidence.source, evidence.excerpt) == (EvidenceKind.RUNBOOK, item.source, item.text)


@pytest.mark.parametrize(
    ("cause", "log", "text"),
    [
        (OOM, "", "# 容器内存溢出\n先看监控。"),
        (CauseClass.CONNECTIONS_EXHAUSTED, "", "# 数据库\n\n连接数耗尽时先看 pg_stat_activity。"),
        (CauseClass.WRONG_LIVENESS_PROBE, "", "# Health checks\nA livenessProbe must not ask the database."),
        (CauseClass.APPLICATION_ERROR, "java.sql.SQLTransientException", "# Prices\nSQLTransientException: ask"),
        (CauseClass.MOUNT_FAILED, "FailedMount", "# Storage\nOf prices: FailedMount is its quota."),
        (CauseClass.EVICTED, "", "# 驱逐\n腾出磁盘。"),
    ],
)  # fmt: skip
async def test_what_fits(library: Library, incident: Incident, cause: CauseClass, log: str, text: str) -> None:
    assert await recalled(library(book=text), incident, diagnosed(cause, log)) == ["book"]


@pytest.mark.parametrize(
    "text",
    [
        "# Onboarding\nWhen a pod restarts or a container fails, look at the logs of the deployment in its namespace.",
        "# 入职指南\n服务重启时查看日志，容器故障请联系值班。",
        "# Web tier\nThe web servers are in the shop.",
        "# Prices\nThe list of prices is updated at night.",  # the name alone
        "# Memory of meetings\nTake notes.",
        "# Limits of travel\nAsk before booking.",
        "# Disk full\nno space left on device",
    ],
)
async def test_a_common_word_is_no_reason(library: Library, incident: Incident, text: str) -> None:
    assert await recalled(library(book=text, good="# OOMKilled\nx"), incident, diagnosed()) == ["good"]


async def test_words_of_many_runbooks_are_not_rare(library: Library, incident: Incident) -> None:
    books = {f"b{number}": f"# Book {number}\nprices and SQLTransientException" for number in range(9)}
    diagnosis = diagnosed(CauseClass.APPLICATION_ERROR, "SQLTransientException")
    assert await recalled(library(**books), incident, diagnosis) == []


async def test_three_passages_of_different_runbooks_at_most(library: Library, incident: Incident) -> None:
    books = {f"b{number}": "# OOMKilled\nx\n\n## OOMKilled again\ny" for number in range(5)}
    found = await recalled(library(**books), incident, diagnosed())
    assert len(found) == 3 == len(set(found))


async def test_front_matter_is_checked_and_ranks(library: Library, incident: Incident) -> None:
    books = library(
        plain="# OOMKilled OOMKilled OOMKilled",
        other="---\napplies_to: disk_full\n---\n# Disk\nNot when OOMKilled.",
        bank="---\napplies_to: oom_killed\nnamespace: bank\n---\n# OOMKilled in the bank",
        ours="---\napplies_to: [oom_killed, evicted]\nkind: deployment\nnamespace: sh*\nowner: [price*]\n---\nAsk Ann.",
    )
    found = await with_runbooks(books, incident, diagnosed())
    by_name = {item.source.partition(".md")[0]: item for item in found.recalled}
    assert list(by_name)[:2] == ["ours", "plain"]
    ours = by_name["ours"]
    assert ours.borne_out is True and ours.text == "Ask Ann."
    assert ours.checked == (
        "it is for oom_killed or evicted, kind deployment, namespace sh*, owner price*; "
        "the diagnosis names oom_killed of Deployment shop/prices container web"
    )
    third = list(by_name.values())[2]
    assert third.borne_out is False and third.checked.startswith("it is for ")


@pytest.mark.parametrize(
    ("scope", "borne_out"),
    [
        (Scope(), None),
        (Scope(applies_to=("oom_killed",)), True),
        (Scope(applies_to=("evicted",)), False),
        (Scope(namespace=("shop",)), True),
        (Scope(kind=("StatefulSet",)), False),
        (Scope(kind=("Deployment",)), True),
        (Scope(owner=("[",)), False),
        (Scope(owner=("*a*a*a*a*a*a*a*a*a*a*a*a*a*b",)), False),
    ],
)
def test_check(scope: Scope, borne_out: bool | None) -> None:
    assert check(scope, diagnosed().causes)[0] is borne_out
    assert check(Scope(kind=("Pod",)), []) == (False, "it is for any cause, kind Pod; the diagnosis names no cause")


async def test_unknown_is_looked_up_by_what_was_seen(library: Library, incident: Incident) -> None:
    known = diagnosed(log="SQLTransientException in prices")
    unknown = known.model_copy(update={"status": DiagnosisStatus.UNKNOWN, "causes": []})
    assert await recalled(library(b="# SQLTransientException\nprices"), incident, unknown) == ["b"]


@pytest.mark.parametrize("status", [DiagnosisStatus.HEALTHY, DiagnosisStatus.FAILED])
async def test_nothing_is_looked_up_without_trouble(
    library: Library, incident: Incident, status: DiagnosisStatus
) -> None:
    diagnosis = diagnosed().model_copy(update={"status": status})
    assert await with_runbooks(library(b="# OOMKilled"), incident, diagnosis) is diagnosis
    assert await with_runbooks(None, incident, diagnosed()) == diagnosed()


async def test_trouble_with_the_runbooks_is_said_and_costs_nothing(
    library: Library, incident: Incident, tmp_path: Path
) -> None:
    books = library(b="# OOMKilled")
    (tmp_path / "books").rename(tmp_path / "gone")
    found = await with_runbooks(books, incident, diagnosed())
    assert found.causes == diagnosed().causes and found.recalled == []
    assert len(found.unseen) == 1 and "cannot be read" in found.unseen[0]
    (tmp_path / "data" / "runbooks.db").unlink()
    (tmp_path / "data" / "runbooks.db").mkdir()
    found = await with_runbooks(books, incident, diagnosed())
    assert found.unseen == ["the runbooks could not be searched: " + found.unseen[0].partition("searched: ")[2]]


async def test_a_models_tool(library: Library) -> None:
    tool = runbook_tool(library(memory="# OOMKilled\nRead the graph."), "inc_1")
    (found,) = await tool.run(tool.args(query="OOMKilled pods"))  # type: ignore[union-attr]
    assert (found.kind, found.source) == (EvidenceKind.RUNBOOK, "memory.md#OOMKilled (lines 1–2)")
    (nothing,) = await tool.run(tool.args(query="kafka"))  # type: ignore[union-attr]
    assert "no runbook" in nothing.text


async def test_what_another_specialist_quoted_counts(library: Library, incident: Incident) -> None:
    books = library(**{f"b{number}": "# OOMKilled\nx" for number in range(4)})
    first = await with_runbooks(books, incident, diagnosed())
    two = first.model_copy(update={"recalled": first.recalled[:2]})
    second = await with_runbooks(books, incident, diagnosed(), beside=two)
    assert len(second.recalled) == 1 and second.recalled[0].source not in {item.source for item in two.recalled}
    assert (await with_runbooks(books, incident, diagnosed(), beside=first)).recalled == []
