"""A crash of little value is not given to the model, and the incident says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.gdb_analyst import GdbAnalyst
from agents.known_crashes import KnownCrashes
from incidents.database import Database
from incidents.models import CoreRef, ObjectRef, Via
from incidents.store import IncidentStore
from incidents.usage import UsageStore
from settings import LlmSettings, Settings
from tests.standins import crashing
from tests.standins.scripted_model import ScriptedChatModel
from tools.llm.models import Models

pytestmark = pytest.mark.gdb


@pytest.mark.parametrize(("least", "asked"), [(0.0, True), (10.0, False)])
async def test_only_what_is_worth_it_is_given_to_the_model(
    database: Database, incidents: IncidentStore, tmp_path: Path, least: float, asked: bool
) -> None:
    crashing.require_tools()
    settings = Settings(
        data_dir=tmp_path, core={"roots": [str(crashing.folder())]}, llm={"model": "openai:x", "min_value": least}
    )
    client = ScriptedChatModel(script=[])
    models = Models(LlmSettings(model="openai:x", api_key="none"), UsageStore(database), client=client)
    known = KnownCrashes(database, incidents, 3600)
    analyst = GdbAnalyst(incidents, settings, tmp_path, models, known)
    incident = await incidents.create(
        ObjectRef(kind="Process", name="crashing"),
        "crash",
        requested_by="ann",
        via=Via.API,
        core=CoreRef(path=str(crashing.core("offset", 0))),
    )
    found = await analyst.run(incident, None)
    assert found.crash is not None and found.crash.value_score is not None
    said = [text for text in found.unseen if "llm.min_value" in text]
    steps = [step.text for step in await incidents.steps(incident.id) if step.type == "model.skipped"]
    assert bool(client.calls) is asked
    assert (said == [] and steps == []) if asked else (len(said) == 1 and steps == said)
    assert [item.rule for item in found.findings].count("crash.history") == 1, "valued twice, told once"
