"""Budgets: checked before a call, exact after it, and kept over a restart."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from errors import BudgetExhausted
from incidents.database import Database
from incidents.usage import UsageStore
from settings import LlmSettings
from tests.standins.llm import Fail, LlmStandIn, Say
from tests.tools.llm.conftest import MakeModels
from tests.tools.llm.test_models import ASK
from tools.llm.budget import Budget

PRICES = {"openai:scripted-large": {"input": 2.0, "output": 10.0}}


class Clock:
    def __init__(self) -> None:
        self.at = datetime(2026, 3, 31, 23, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at


async def test_a_used_up_budget_sends_nothing(make_models: MakeModels, server: LlmStandIn) -> None:
    models = make_models(tokens_per_incident=5000)
    server.script = [Say("ready", usage=(900, 50))]
    await models.ask(ASK, incident_id="inc_1")
    with pytest.raises(BudgetExhausted, match="5000 tokens has 4050 left"):
        await models.ask(ASK, incident_id="inc_1")
    assert len(server.requests) == 1
    await models.ask(ASK, incident_id="inc_2")  # another incident has its own


async def test_streams_have_the_same_budget(make_models: MakeModels, server: LlmStandIn) -> None:
    models = make_models(calls_per_hour=0)
    with pytest.raises(BudgetExhausted):
        _ = [piece async for piece in models.stream(ASK)]
    assert server.requests == []


async def test_repeats_count_as_calls(make_models: MakeModels, server: LlmStandIn) -> None:
    server.script = [Fail(500)] * 3
    with pytest.raises(BudgetExhausted, match="budget of 2 calls"):
        await make_models(calls_per_hour=2).ask(ASK)
    assert len(server.requests) == 2


async def test_budgets_survive_a_restart(tmp_path: Path) -> None:
    settings, clock = LlmSettings(model="openai:m", calls_per_hour=3, tokens_per_incident=10_000), Clock()
    url = f"sqlite+aiosqlite:///{tmp_path / 'p.db'}"
    for _ in range(3):
        database = await Database.open(url)
        budget = Budget("openai:m", settings, UsageStore(database), clock)
        claim = await budget.reserve("inc_1", input_tokens=1000, output_tokens=1000)
        await budget.settle(claim, input_tokens=800, output_tokens=200)
        await database.close()
    database = await Database.open(url)
    budget = Budget("openai:m", settings, UsageStore(database), clock)
    with pytest.raises(BudgetExhausted, match="budget of 3 calls"):
        await budget.reserve("inc_1", input_tokens=1, output_tokens=1)
    clock.at += timedelta(minutes=61)
    with pytest.raises(BudgetExhausted, match="7000 left"):
        await budget.reserve("inc_1", input_tokens=7000, output_tokens=1)
    await budget.reserve("inc_1", input_tokens=6000, output_tokens=1000)
    await database.close()


async def test_a_killed_call_stays_counted_at_its_highest_cost(database: Database) -> None:
    usage, clock = UsageStore(database), Clock()
    budget = Budget("openai:m", LlmSettings(model="openai:m", tokens_per_incident=10_000), usage, clock)
    await budget.reserve("inc_1", input_tokens=5000, output_tokens=4000)  # and never settled
    with pytest.raises(BudgetExhausted, match="1000 left"):
        await budget.reserve("inc_1", input_tokens=1000, output_tokens=4000)


async def test_parallel_calls_cannot_pass_together(database: Database) -> None:
    budget = Budget("openai:m", LlmSettings(model="openai:m", calls_per_hour=5), UsageStore(database), Clock())
    claims = [budget.reserve(f"inc_{n}", input_tokens=1, output_tokens=1) for n in range(20)]
    results = await asyncio.gather(*claims, return_exceptions=True)
    assert sum(not isinstance(result, BudgetExhausted) for result in results) == 5


async def test_money_is_counted_by_calendar_month(database: Database) -> None:
    clock = Clock()
    settings = LlmSettings.model_validate({"model": "openai:scripted-large", "usd_per_month": 0.05, "prices": PRICES})
    budget = Budget("openai:scripted-large", settings, UsageStore(database), clock)
    claim = await budget.reserve(None, input_tokens=10_000, output_tokens=1000)
    await budget.settle(claim, input_tokens=10_000, output_tokens=1000)  # 0.02 + 0.01
    with pytest.raises(BudgetExhausted, match=r"\$0.05 is used up \(\$0.03 spent\)"):
        await budget.reserve(None, input_tokens=10_000, output_tokens=1000)
    clock.at += timedelta(hours=1)  # April
    await budget.reserve(None, input_tokens=10_000, output_tokens=1000)
    assert "$0.0300 of $0.05" in await budget.describe()


async def test_a_model_without_price_costs_unknown_and_not_nothing(database: Database) -> None:
    usage, clock = UsageStore(database), Clock()
    budget = Budget("ollama:m", LlmSettings(model="ollama:m", usd_per_month=0.0), usage, clock)
    claim = await budget.reserve("inc_1", input_tokens=10, output_tokens=10)
    await budget.settle(claim, input_tokens=10, output_tokens=10)
    said = await budget.describe()
    assert "1 calls of unknown cost" in said and "no price in llm.prices" in said
    assert (await usage.spent(None, clock())).unpriced_this_month == 1


def test_a_price_is_found_by_full_name_or_by_name(database: Database) -> None:
    for key in ("openai:m", "m"):
        settings = LlmSettings.model_validate({"model": "openai:m", "prices": {key: {"input": 1, "output": 2}}})
        assert Budget("openai:m", settings, UsageStore(database)).price is not None


async def test_a_server_that_counts_nothing_is_counted_by_estimate(
    make_models: MakeModels, server: LlmStandIn, usage: UsageStore
) -> None:
    server.script = [Say("r" * 300, usage=None)]
    models = make_models()
    await models.ask(ASK, incident_id="inc_1")
    assert (await usage.spent("inc_1", models.budget._now())).incident_tokens > 100
