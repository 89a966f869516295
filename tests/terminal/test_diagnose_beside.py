"""`paramedic diagnose snapshot` with runbooks, the service's memory and a model, as the service reads them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from incidents.database import Database
from incidents.models import CauseClass, Diagnosis, IncidentStatus, Via
from incidents.store import IncidentStore
from terminal.diagnose_workload import snapshot
from tests.standins.command import paramedic
from tests.standins.llm import LlmStandIn, Say

ROOT = Path(__file__).parents[2]
CASE = ROOT / "tests" / "fixtures" / "snapshots" / "oom_killed"
RUNBOOK = "---\napplies_to: oom_killed\n---\n# OOMKilled\n\nThe memory limit of a container is too low: raise it.\n"
app = typer.Typer()
app.command()(snapshot)


def diagnosed(*options: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, [str(CASE), "--json", *options])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def by_rules() -> dict[str, Any]:
    return diagnosed("--rules-only")


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PARAMEDIC_DATA_DIR", str(tmp_path / "data"))
    yield tmp_path / "data"


def remembering(migrated: Path, folder: Path, by_rules: dict[str, Any]) -> None:
    """The database of a service that has seen the same before."""
    folder.mkdir()
    shutil.copy(migrated, folder / "paramedic.db")
    known = Diagnosis.model_validate(by_rules)

    async def fill() -> None:
        database = await Database.open(f"sqlite+aiosqlite:///{folder / 'paramedic.db'}")
        store = IncidentStore(database, folder / "evidence")
        target = known.causes[0].object.model_copy(update={"container": None})
        incident = await store.create(target, "it restarts", requested_by="api:robot", via=Via.API)
        await store.update(incident.id, status=IncidentStatus.DIAGNOSED, diagnosis=known)
        await database.close()

    asyncio.run(fill())


def test_where_nothing_is_configured_nothing_is_added_or_made(data_dir: Path, by_rules: dict[str, Any]) -> None:
    assert diagnosed() == by_rules
    assert not data_dir.exists()


def test_runbooks_and_memory_are_beside_the_same_causes(
    data_dir: Path, by_rules: dict[str, Any], migrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remembering(migrated, data_dir, by_rules)
    books = data_dir.parent / "books"
    books.mkdir()
    (books / "memory.md").write_text(RUNBOOK)
    monkeypatch.setenv("PARAMEDIC_RUNBOOKS__FOLDER", str(books))
    found = diagnosed()
    assert sorted(item["kind"] for item in found["recalled"]) == ["incident", "runbook"]
    assert all(item["borne_out"] is not False for item in found["recalled"])
    assert (found["causes"], found.keys()) == (by_rules["causes"], by_rules.keys())
    assert diagnosed("--rules-only") == by_rules


def test_a_model_is_asked_and_one_that_fails_costs_nothing(
    data_dir: Path, by_rules: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with LlmStandIn() as server:
        monkeypatch.setenv("PARAMEDIC_LLM__MODEL", "ollama:scripted:8b")
        monkeypatch.setenv("PARAMEDIC_LLM__BASE_URL", server.ollama_url)
        server.script = [Say("no JSON at all")] * 9
        done = paramedic("diagnose", "snapshot", CASE, "--json", environment=os.environ)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        asked = len(server.requests)
        assert asked
        assert diagnosed("--rules-only") == by_rules
        assert len(server.requests) == asked
    assert found["causes"] == by_rules["causes"]
    assert [line for line in found["unseen"] if "model" in line]


def test_a_database_that_is_none_is_said_and_costs_nothing(data_dir: Path, by_rules: dict[str, Any]) -> None:
    data_dir.mkdir()
    (data_dir / "paramedic.db").write_text("this is no database, whatever its name says" * 100)
    found = diagnosed()
    assert found["causes"] == by_rules["causes"]
    assert [line for line in found["unseen"] if line.startswith("only the rules were asked: the database at ")]
    assert CauseClass(found["causes"][0]["class"]) is CauseClass.OOM_KILLED
