"""What a model may cost, with the service as a process: it is not asked below a value, nor when the month's budget is
used up, also after a restart; in the next month it is. The rules' diagnosis says each time why it was not.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.standins import crashing
from tests.standins.llm import KEY, OPENAI_MODEL, LlmStandIn, Say
from tests.standins.programs import environment, free_port, process, until

pytestmark = [pytest.mark.gdb, pytest.mark.system, pytest.mark.timeout(400)]
_OF_A_CALL = (50_000, 0)  # tokens: five dollars, the whole budget of a month


@pytest.fixture
def model() -> Iterator[LlmStandIn]:
    crashing.require_tools()
    with LlmStandIn() as running:
        yield running


@asynccontextmanager
async def service(folder: Path, model: LlmStandIn, **more: Any) -> AsyncIterator[httpx.AsyncClient]:
    port = free_port()
    given = {
        "KUBERNETES__ENABLED": "false",
        "API__PORT": port,
        "CORE__ROOTS": json.dumps([str(crashing.folder()), str(crashing.program().parent)]),
        "LLM__MODEL": f"openai:{OPENAI_MODEL}",
        "LLM__BASE_URL": model.openai_url,
        "LLM__API_KEY": KEY,
        "LLM__PRICES": json.dumps({OPENAI_MODEL: {"input": 100.0, "output": 100.0}}),
        "LLM__USD_PER_MONTH": 5.0,
        **more,
    }
    async with (
        process("service", ["serve"], environment(folder, given), folder),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=120) as client,
    ):

        async def ready() -> bool:
            try:
                return (await client.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await until(ready, "the service")
        yield client


async def diagnosed(client: httpx.AsyncClient, mode: str) -> str:
    """Everything that the diagnosis of such a crash could not see; its cause is always named."""
    core = {"path": str(crashing.core(mode)), "executable": str(crashing.program())}
    answer = await client.post("/api/v1/autofix", json={"core": core, "event": "it crashed"})
    assert answer.status_code == 202, answer.text

    async def ended() -> dict[str, Any] | None:
        shown: dict[str, Any] = (await client.get(answer.json()["links"]["self"])).json()
        return shown["diagnosis"] if shown["incident"]["status"] == "diagnosed" else None

    found = await until(ended, mode)
    assert found["causes"], "the rules' diagnosis stands"
    return " ".join(found["unseen"])


async def test_a_value_and_a_month_limit_what_the_model_costs(tmp_path: Path, model: LlmStandIn) -> None:
    model.script = [Say("ready", usage=_OF_A_CALL)]
    async with service(tmp_path, model, LLM__MIN_VALUE=6.9) as client:
        assert "of 10, below llm.min_value (6.9)" in await diagnosed(client, "abort")
        assert not model.requests, "not worth it"
        assert "month's budget" in await diagnosed(client, "smash"), "the first call took all of it"
        asked = len(model.requests)
        assert asked == 1
        assert "the month's budget of $5.00 is used up ($5.00 spent)" in await diagnosed(client, "double_free")
    async with service(tmp_path, model) as client:
        assert "the month's budget of $5.00 is used up ($5.00 spent)" in await diagnosed(client, "unmapped")
    assert len(model.requests) == asked, "nothing was asked, also after a restart"
    with sqlite3.connect(tmp_path / "service" / "paramedic.db") as database:  # as if all that were of last month
        assert database.execute("UPDATE model_usage SET at = datetime(at, 'start of month', '-1 day')").rowcount == 1
    async with service(tmp_path, model) as client:
        assert "budget" not in await diagnosed(client, "jump")
    assert len(model.requests) > asked and not model.rejected
