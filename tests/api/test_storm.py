"""A storm of one crash: one incident with a count, one analysis."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from graph.services import open_services
from settings import Settings
from tests.standins import crashing
from tests.standins.parts import served

pytestmark = pytest.mark.gdb


async def test_many_posts_of_one_crash_are_one_incident_and_one_analysis(tmp_path: Path) -> None:
    crashing.require_tools()
    cores = [crashing.core("offset", run) for run in range(3)]  # three processes that crashed in the same way
    settings = Settings(
        data_dir=tmp_path, kubernetes={"enabled": False}, core={"roots": [str(crashing.folder())]}, api={"port": 0}
    )
    async with open_services(settings) as services:
        await services.runner.start()
        async with served(services) as service:

            async def post(core: Path, wait: int = 0, **more: Any) -> dict[str, Any]:
                body = {"core": {"path": str(core)}, "event": "crashed", **more}
                answer = await service.client.post(f"/api/v1/autofix?wait={wait}", json=body)
                assert answer.status_code in (200, 202), answer.text
                found: dict[str, Any] = answer.json()
                return found

            answers = await asyncio.gather(*(post(cores[number % 3]) for number in range(36)))
            assert len({answer["incident"]["id"] for answer in answers}) == 1
            ended = await post(cores[0], wait=60)
            answers = [await post(cores[number]) for number in range(3)]  # also after it has ended
            assert {answer["incident"]["id"] for answer in answers} == {ended["incident"]["id"]}
            assert answers[-1]["incident"]["count"] == 40
            steps = await services.incidents.steps(ended["incident"]["id"])
            assert [step.text for step in steps if step.type == "step.started"] == ["reads the core dump"]
            assert sum(step.type == "reported.again" for step in steps) < 25  # the timeline stays readable

            again = await post(cores[1], wait=60, force=True)
            assert again["incident"]["id"] != ended["incident"]["id"]
            crash = again["diagnosis"]["crash"]
            assert crash["signatures"]["group_id"] == ended["diagnosis"]["crash"]["signatures"]["group_id"]
            assert crash["history"]["count"] == 41
            assert crash["value_score"]["components"]["known_group"] < 0
            assert crash["value_score"]["total"] < ended["diagnosis"]["crash"]["value_score"]["total"]

            # the same crash of a workload is its own incident, named after the first without gdb
            elsewhere = await post(cores[2], wait=60, deployment="shop")
            steps = await services.incidents.steps(elsewhere["incident"]["id"])
            assert [step.type for step in steps].count("crash.known") == 1
            assert_known(elsewhere["diagnosis"], again["diagnosis"])


def assert_known(found: dict[str, Any], first: dict[str, Any]) -> None:
    """Names are the first core's, process and registers this one's, and the report says so."""
    own, known = found["crash"], first["crash"]
    assert found["causes"][0]["class"] == first["causes"][0]["class"]
    assert own["signature"] == known["signature"]
    assert own["crash_line"] == known["crash_line"]
    assert own["process"]["pid"] != known["process"]["pid"]
    assert own["crash_info"]["registers"]["rip"] == own["threads"][0]["frames"][0]["offset"]
    frames = [(frame["function"], frame["line"]) for frame in known["threads"][0]["frames"][:2]]
    assert [(frame["function"], frame["line"]) for frame in own["threads"][0]["frames"][:2]] == frames
    assert own["core"]["sha256"] not in (None, known["core"]["sha256"])
    claims = {finding["rule"]: finding for finding in found["findings"]}
    assert "same build-ids" in claims["crash.known"]["claim"]
    assert f"thread {own['process']['pid']} " in claims["crash.signal"]["claim"]
    evidence = {item["id"] for item in found["evidence"]}
    findings = {finding["id"] for finding in found["findings"]}
    assert all(set(finding["evidence_ids"]) <= evidence for finding in found["findings"])
    assert all(set(cause["finding_ids"]) <= findings for cause in found["causes"])
    assert any("ask with force" in text for text in found["unseen"])
