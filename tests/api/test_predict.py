"""Load prediction over real HTTP: a table as history, every way to ask, and every way to ask wrongly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from graph.services import open_services
from settings import ApiKey, ForecastService, ForecastSettings, Settings
from tests.standins.keda import Scaler
from tests.standins.parts import Served, served

STEP = 3600
KEY = "reader-key-0123456789"


def table(days: float, end: datetime) -> str:
    """A day's wave between 30 and 230 that ends at `end`."""
    times = np.arange(end.timestamp() - days * 86_400, end.timestamp(), STEP)
    loads = 130 + 100 * np.sin(2 * np.pi * times / 86_400) + np.random.default_rng(1).normal(0, 4, len(times))
    return "time,qps\n" + "".join(f"{at:.0f},{load:.2f}\n" for at, load in zip(times, loads, strict=True))


@pytest.fixture(scope="module")
def now() -> datetime:
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


@pytest.fixture
async def service(tmp_path: Path, now: datetime) -> AsyncIterator[Served]:
    (tmp_path / "shop.csv").write_text(table(30, now))
    (tmp_path / "young.csv").write_text(table(1, now))
    bounds = {"per_instance": 50.0, "min_instances": 1, "max_instances": 9}
    forecast = ForecastSettings(
        boosting=False,
        services=[
            ForecastService(name="shop", csv=tmp_path / "shop.csv", lead_seconds=7200, **bounds),
            ForecastService(name="young", csv=tmp_path / "young.csv", **bounds),
            ForecastService(name="absent", csv=tmp_path / "nothing.csv", **bounds),
            ForecastService(name="live", query="sum(rate(requests_total[5m]))", **bounds),
        ],
    )
    key = ApiKey(name="keda", sha256=hashlib.sha256(KEY.encode()).hexdigest(), scopes=["read"])
    settings = Settings(
        data_dir=tmp_path / "data", kubernetes={"enabled": False}, forecast=forecast, api={"port": 0, "keys": [key]}
    )
    async with open_services(settings) as services, served(services) as running:
        running.client.headers["Authorization"] = f"Bearer {KEY}"
        yield running


async def ask(running: Served, path: str = "", **query: Any) -> dict[str, Any]:
    answer = await running.client.get(f"/api/v1/predict{path}", params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_every_way_to_ask(service: Served, now: datetime) -> None:
    found = await ask(service, current_qps=40)
    assert found["service"] == "shop" and found["horizon"] == 7200
    assert found["lower_qps"] < found["forecast_qps"] < found["higher_qps"] < found["upper_qps"]
    assert found["instances"] == max(found["reactive_instances"], found["forecast_instances"])
    expected = 130 + 100 * np.sin(2 * np.pi * datetime.fromisoformat(found["target_time"]).timestamp() / 86_400)
    assert abs(found["forecast_qps"] - expected) < 45
    assert found["reactive_instances"] == 1 and abs(found["confidence"] - 0.95) < 0.06
    test = found["back_test"]
    assert test["beats_seasonal_naive"] and test["skill"] > 0 and test["mase"]["seasonal naive (day)"] > 0
    assert not found["reasons"] and found["features"]["qps_1d_ago"] is not None

    body = {"current_qps": 900, "timestamp": now.isoformat(), "include_confidence": False, "horizon": 0}
    posted = await service.client.post("/api/v1/predict", json=body)
    high = posted.json()
    assert posted.status_code == 200 and high["confidence"] is None
    assert (high["instances"], high["decided_by"], high["reactive_instances"]) == (9, "maximum", 18)
    assert "max_instances is 9" in high["reasons"][0]

    past = await ask(service, timestamp=(now - timedelta(days=9)).isoformat(), horizon=43_200)
    assert past["timestamp"].startswith((now - timedelta(days=9)).strftime("%Y-%m-%dT%H"))
    came = 130 + 100 * np.sin(2 * np.pi * datetime.fromisoformat(past["target_time"]).timestamp() / 86_400)
    assert abs(past["forecast_qps"] - came) < 30

    trend = await ask(service, "/trend", hours_ahead=30)
    assert len(trend["points"]) == 30 and trend["max_instances_needed"] == max(p["instances"] for p in trend["points"])
    assert 200 < max(point["qps"] for point in trend["points"]) < 260
    week = (await service.client.post("/api/v1/predict/trend", json={"hours_ahead": 168})).json()
    assert len(week["points"]) > 160 and week["back_test"]["range"] == "week"

    metric = await ask(service, "/keda", service="shop")
    assert set(metric) == {"value", "service", "decided_by"} and 1 <= metric["value"] <= 9
    info = await ask(service, "/info")
    shop = info["services"][0]
    assert [one["range"] for one in shop["models"]] == ["hour", "day", "week"] and shop["drift"] is None
    assert 29 < shop["history_days"] < 31 and "ridge" in info["candidates"]


async def test_keda_scales_by_the_documented_object(service: Served) -> None:
    text = (Path(__file__).parents[2] / "docs" / "forecast.md").read_text()
    spec = yaml.safe_load(text.partition("```yaml")[2].partition("```")[0])["spec"]
    expected = (await ask(service, "/keda", service="shop"))["value"]
    scaler = Scaler(spec, {"token": KEY}, service.url, replicas=20)
    assert await scaler.poll() == expected and scaler.failures == 0

    stranger = Scaler(spec, {"token": "wrong"}, service.url, replicas=4)
    assert [await stranger.poll() for _ in range(4)] == [4, 4, 4, 6], "its fallback"
    trigger = spec["triggers"][0]["metadata"]
    for name in ("absent", "live", "unknown", "../x"):  # nothing is known, no Prometheus, not configured, no name
        spec["triggers"][0]["metadata"] = trigger | {"url": trigger["url"].replace("=shop", f"={name}")}
        failing = Scaler(spec, {"token": KEY}, service.url, replicas=3)
        assert (await failing.poll(), failing.failures) == (3, 1), name


async def test_too_little_is_known_the_reactive_answer_and_why(service: Served) -> None:
    young = await ask(service, service="young", current_qps=120)
    assert (young["instances"], young["decided_by"], young["confidence"]) == (3, "reactive", None)
    assert "the history is of 1.0 days; a forecast needs 3" in young["reasons"]
    assert young["model_version"] == "reactive" and young["forecast_qps"] is None
    for name, why in (("absent", "nothing.csv cannot be read"), ("live", "no Prometheus is configured")):
        found = await ask(service, service=name, current_qps=120)
        assert found["instances"] == 3 and any(why in reason for reason in found["reasons"])
        refused = await service.client.get("/api/v1/predict", params={"service": name})
        assert refused.status_code == 400 and why in refused.json()["detail"], refused.text
    assert (await ask(service, "/trend", service="young"))["points"] == []
    health = await ask(service, "/health")
    assert health["status"] == "degraded" and "no Prometheus" in health["services"]["live"]
    future = (datetime.now(UTC) + timedelta(days=6)).isoformat()
    late = await ask(service, timestamp=future, horizon=604_800, current_qps=120)
    assert late["instances"] == 3 and "long enough for forecasts of 7.0 days" in late["reasons"][0]


WRONG: list[tuple[str, object, str]] = [
    ("timestamp", "2026-01-01T00:00:00", "timezone"),
    ("timestamp", "tomorrow", "timestamp"),
    ("timestamp", "2400-01-01T00:00:00Z", "a week from now"),
    ("timestamp", "0001-01-01T00:00:00+10:00", "timestamp"),
    ("current_qps", -1, "greater than or equal to 0"),
    ("current_qps", float("nan"), "current_qps"),
    ("current_qps", float("inf"), "current_qps"),
    ("current_qps", 1e300, "less than or equal to"),
    ("current_qps", "many", "current_qps"),
    ("horizon", -1, "horizon"),
    ("horizon", 604_801, "horizon"),
    ("service", "../shop", "service"),
    ("colour", "red", "unknown field"),
]


async def test_wrong_fields_get_one_problem(service: Served) -> None:
    for field, value, said in WRONG:
        answers = [
            await service.client.post(
                "/api/v1/predict", content=json.dumps({field: value}), headers={"Content-Type": "application/json"}
            )
        ]
        if field != "colour":  # what is not known is ignored in a query
            answers.append(await service.client.get("/api/v1/predict", params={field: str(value)}))
        for answer in answers:
            assert answer.status_code in (400, 422) and said in answer.json()["detail"], (field, value, answer.text)


async def test_who_may_ask_and_what_is_not_there(service: Served) -> None:
    unknown = await service.client.get("/api/v1/predict", params={"service": "other"})
    assert unknown.status_code == 404 and "shop, young" in unknown.json()["detail"]
    for hours in (0, 169, "x"):
        wrong = await service.client.get("/api/v1/predict/trend", params={"hours_ahead": hours})
        assert wrong.status_code == 422
    for path in ("propose", "models/reload"):
        refused = await service.client.post(f"/api/v1/predict/{path}", json={})
        assert refused.status_code == 403 and "autofix" in refused.json()["detail"]
    del service.client.headers["Authorization"]
    for path in ("", "/trend", "/info", "/health", "/keda"):
        assert (await service.client.get(f"/api/v1/predict{path}")).status_code == 401


async def test_nothing_configured_is_reactive_as_the_older_system_asked(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, kubernetes={"enabled": False}, api={"port": 0})
    async with open_services(settings) as services, served(services) as running:
        found = await ask(running, current_qps=250)
        assert (found["instances"], found["service"], found["decided_by"]) == (3, None, "reactive")
        assert "no history is configured" in found["reasons"][0]
        assert (await running.client.get("/api/v1/predict")).status_code == 400
        assert (await ask(running, "/health"))["status"] == "not_configured"
        assert (await running.client.post("/api/v1/predict/propose", json={})).status_code == 404
        reloaded = await running.client.post("/api/v1/predict/models/reload")
        assert (reloaded.status_code, reloaded.json()) == (202, {"services": []})
        unknown = await running.client.post("/api/v1/predict/models/reload", json={"service": "shop"})
        assert unknown.status_code == 404 and "forecast.services" in unknown.json()["detail"]
