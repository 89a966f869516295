"""One crash, one report: the API, the card and the chat tell the same, and its exports too."""

from __future__ import annotations

import asyncio
import html
import json
from pathlib import Path

import pytest

from graph.services import open_services
from settings import Settings
from tests.standins import crashing
from tests.standins.feishu import FeishuStandIn
from tests.standins.parts import served

pytestmark = pytest.mark.gdb
MARKS = "\\`*_{}[]()<>#+-!|~&;"


def spoken(text: str) -> str:
    """A text without the marks that Feishu's Markdown needs escaped."""
    return "".join(char for char in html.unescape(text) if char not in MARKS)


async def test_the_api_the_card_and_the_chat_tell_the_same_crash(tmp_path: Path) -> None:
    crashing.require_tools()
    core, line = crashing.core("thread"), crashing.line_of("thread")
    async with FeishuStandIn(callback_url="http://127.0.0.1:9/api/v1/feishu/callback") as feishu:
        settings = Settings(
            data_dir=tmp_path,
            kubernetes={"enabled": False},
            core={"roots": [str(crashing.folder())]},
            feishu=feishu.settings().model_dump(),
            api={"port": 0},
        )
        async with open_services(settings) as services:
            await services.runner.start()
            async with served(services) as service:
                body = {"core": {"path": str(core)}, "event": "the shop crashed"}
                answer = (await service.client.post("/api/v1/autofix?wait=60", json=body)).json()
                incident, diagnosis = answer["incident"]["id"], answer["diagnosis"]
                crash = diagnosis["crash"]
                for _ in range(1200):
                    await services.notifier.deliver_due()
                    if feishu.messages:
                        break
                    await asyncio.sleep(0.05)
                said = await service.client.post("/diagnose", json={"message": f"why did {incident} crash?"})
                exports = {
                    name: (
                        await service.client.get(f"/api/v1/incidents/{incident}/report", params={"format": name})
                    ).text
                    for name in ("markdown", "casrep", "sarif")
                }
    assert crash["crash_line"].endswith(f"crashing.cpp:{line}")
    assert crash["mechanism"].startswith("null pointer dereference: write of 4 bytes")
    card = spoken(json.dumps(feishu.only_message().card, ensure_ascii=False))
    assert said.status_code == 200, said.text
    events = [json.loads(text.removeprefix("data:")) for text in said.text.splitlines() if text.startswith("data:")]
    chat = spoken("".join(str(event.get("text", "")) for event in events))
    for told in (crash["mechanism"], "Shop::work", f"crashing.cpp:{line}"):
        assert spoken(told) in card
        assert spoken(told) in chat
        assert spoken(told) in spoken(exports["markdown"])
    assert crash["severity"]["type"] in exports["casrep"]
    assert (
        json.loads(exports["sarif"])["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"]["startLine"]
        == line
    )
    assert str(crash["crash_info"]["registers"]["rip"]) not in card  # the card is short
