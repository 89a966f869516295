"""Histories from a real Prometheus, from one that fails, and from one that comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from agents.forecaster import Forecaster
from diagnosis.metrics.forecast.predictor import train
from diagnosis.metrics.series import FloatArray
from errors import InvalidInput, NotFound, ToolFailed, ToolTimeout
from incidents.forecast import Prediction
from incidents.load_histories import LoadHistories
from settings import ForecastService, ForecastSettings, PrometheusSettings
from tools.prometheus.client import Prometheus

DAYS = 24
STEP = 600
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
QUERY = 'sum(requests{service="shop"})'


def wave(times: FloatArray) -> FloatArray:
    found: FloatArray = 130 + 100 * np.sin(2 * np.pi * times / 86_400) + 20 * (times // 86_400 % 7 < 2)
    return found


def settings(**changes: object) -> ForecastSettings:
    shop = {"name": "shop", "query": QUERY, "per_instance": 50.0, "lead_seconds": 3600.0}
    return ForecastSettings(
        services=[ForecastService(**(shop | changes))], step_seconds=STEP, history_days=60, boosting=False
    )  # fmt: skip


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus whose storage has three weeks of two pods' load, by promtool."""
    if not shutil.which("prometheus") or not shutil.which("promtool"):
        pytest.skip("prometheus is not installed")
    folder = tmp_path_factory.mktemp("prometheus")
    times = np.arange(NOW.timestamp() - DAYS * 86_400, NOW.timestamp() + 1, 300)
    loads = wave(times) * (1 + 0.03 * np.random.default_rng(0).standard_normal(len(times)))
    lines = ["# TYPE requests gauge"]
    for pod in ("a", "b"):
        lines += [
            f'requests{{service="shop",pod="{pod}"}} {load / 2:.3f} {at:.0f}'
            for at, load in zip(times, loads, strict=True)
        ]
    (folder / "load.txt").write_text("\n".join([*lines, "# EOF", ""]))
    create = [
        "promtool",
        "tsdb",
        "create-blocks-from",
        "--max-block-duration=960h",
        "openmetrics",
        str(folder / "load.txt"),
        str(folder / "data"),
    ]
    subprocess.run(create, check=True, stdout=subprocess.DEVNULL)
    (folder / "prometheus.yml").write_text("{}")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", "--log.level=error"]
    command += ["--storage.tsdb.retention.time=90d", f"--web.listen-address=127.0.0.1:{port}"]
    with subprocess.Popen(["prometheus", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        with httpx.Client(trust_env=False, timeout=10) as client:
            for _ in range(1200):
                with contextlib.suppress(httpx.HTTPError):
                    if client.get(f"{url}/-/ready").status_code == 200:
                        break
                time.sleep(0.05)
        yield url
        process.terminate()


async def test_history_of_a_real_prometheus_forecasts_and_outlives_it(prometheus: str, tmp_path: Path) -> None:
    clock = NOW
    async with Prometheus(PrometheusSettings(url=prometheus, timeout=60)) as server:
        forecaster = Forecaster(settings(), server, tmp_path, now=lambda: clock)
        found = await forecaster.predict()
        truth = wave(np.array([found.target_time.timestamp()]))[0]
        assert found.forecast_qps == pytest.approx(truth, rel=0.1)
        assert found.current_qps == pytest.approx(wave(np.array([NOW.timestamp()]))[0], rel=0.12)
        assert found.reasons == [] and found.back_test and found.back_test.beats_seasonal_naive
        assert DAYS - 0.5 < found.history_days < DAYS + 0.5
        for hours, trained in ((1, NOW), (7, NOW + timedelta(hours=7))):  # every six hours
            clock = NOW + timedelta(hours=hours)
            assert (await forecaster.predict()).trained_at == trained
        again = await forecaster.predict(at=NOW - timedelta(hours=5))
        assert again.current_qps == pytest.approx(wave(np.array([NOW.timestamp() - 5 * 3600]))[0], rel=0.12)

    # another process, with a server that is gone: the stored history still forecasts, and says what it is
    clock = NOW + timedelta(hours=2)
    gone = Prometheus(PrometheusSettings(url="http://127.0.0.1:1", timeout=2))
    with pytest.raises(ToolFailed):  # the history of another server is not this one's
        await Forecaster(settings(), gone, tmp_path, now=lambda: clock).predict()
    gone.url = prometheus
    later = Forecaster(settings(), gone, tmp_path, now=lambda: clock)
    found = await later.predict()
    assert found.forecast_qps == pytest.approx(wave(np.array([found.target_time.timestamp()]))[0], rel=0.15)
    assert (found.current_qps, found.reactive_instances, found.decided_by) == (None, None, "forecast")
    assert "could not be brought up to date: Prometheus could not be asked" in found.reasons[0]
    assert later.health().status == "degraded"
    other = Forecaster(settings(query="sum(other)"), gone, tmp_path, now=lambda: clock)
    with pytest.raises(ToolFailed):  # the history of another query is not this one's
        await other.predict()
    await gone.close()


async def test_a_query_of_many_series_of_none_and_of_nonsense(prometheus: str, tmp_path: Path) -> None:
    async with Prometheus(PrometheusSettings(url=prometheus, timeout=60)) as server:
        for query, said in (
            ("requests", "gives 2 series; it must give one"),
            ("sum(nothing)", "no value of the query"),
            ("sum(", "refused a query"),
        ):
            forecaster = Forecaster(settings(query=query), server, tmp_path, now=lambda: NOW)
            with pytest.raises((InvalidInput, ToolFailed), match=said):
                await forecaster.predict()
            found = await forecaster.predict(current=120)
            assert found.instances == 3 and any(said in reason for reason in found.reasons)


@contextlib.contextmanager
def silent() -> Iterator[str]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


async def test_a_server_that_is_slow_is_waited_for_once(tmp_path: Path) -> None:
    with silent() as url:
        async with Prometheus(PrometheusSettings(url=url, timeout=0.3)) as server:
            forecaster = Forecaster(settings(), server, tmp_path, now=lambda: NOW)
            with pytest.raises(ToolTimeout, match="did not answer within"):
                await forecaster.predict()
            asked: list[float] = []
            server.range = lambda *_: asked.append(1)  # type: ignore[method-assign,assignment]
            assert (await forecaster.predict(current=10)).instances == 1
            assert asked == [], "it was asked again at once"


async def test_a_table_that_changes_is_read_and_learnt_anew(tmp_path: Path) -> None:
    file = tmp_path / "load.csv"
    clock = NOW

    def write(factor: float) -> None:
        times = np.arange(NOW.timestamp() - 9 * 86_400, NOW.timestamp(), 3600)
        rows = zip(times, factor * wave(times), strict=True)
        file.write_text("time,value\n" + "".join(f"{at:.0f},{load}\n" for at, load in rows))

    write(1.0)
    forecaster = Forecaster(settings(query=None, csv=file), None, tmp_path, now=lambda: clock)
    first = await forecaster.predict()
    clock += timedelta(seconds=5)
    assert forecaster.retrain() == forecaster.retrain("shop") == ["shop"]
    assert (await forecaster.predict()).trained_at == clock, "it was asked for, though nothing is new"
    write(10.0)
    clock += timedelta(minutes=2)
    second = await forecaster.predict()
    assert first.forecast_qps and second.forecast_qps == pytest.approx(10 * first.forecast_qps, rel=0.05)
    file.write_text("time,value\nx,y\n")
    clock += timedelta(minutes=2)
    third = await forecaster.predict()
    assert third.forecast_qps == second.forecast_qps and "line 2: 'x' is no time" in third.reasons[0]
    with pytest.raises(NotFound):
        await forecaster.predict("other")


async def test_drift_is_said_and_learnt_from(tmp_path: Path) -> None:
    file = tmp_path / "load.csv"
    clock = NOW

    def write(until: datetime, factor: float) -> None:
        times = np.arange(NOW.timestamp() - 20 * 86_400, until.timestamp(), 3600)
        loads = wave(times) * (1 + 0.03 * np.random.default_rng(0).standard_normal(len(times)))
        loads = np.where(times >= NOW.timestamp(), factor * loads, loads)
        file.write_text("time,value\n" + "".join(f"{at:.0f},{x}\n" for at, x in zip(times, loads, strict=True)))

    write(NOW, 1.0)
    forecaster = Forecaster(settings(query=None, csv=file), None, tmp_path, now=lambda: clock)
    first = await forecaster.predict()
    clock += timedelta(hours=7)
    assert (await forecaster.predict()).trained_at == first.trained_at, "there is nothing new to learn"
    clock = NOW + timedelta(days=1)
    write(clock, 3.0)
    drifted = await forecaster.predict()
    assert drifted.drift and drifted.drift.drifted and drifted.drift.within < 0.5
    assert any("the load drifts from its history" in reason for reason in drifted.reasons)
    assert drifted.trained_at == clock and forecaster.info().services[0].drift == drifted.drift


def test_stored_histories_are_numbers_or_nothing(tmp_path: Path) -> None:
    stored = LoadHistories(tmp_path)
    times, loads = np.arange(5.0), np.arange(5.0) * 2
    stored.save("shop", times, loads)
    found = stored.load("shop")
    assert found is not None and (found[1] == loads).all()
    assert stored.load("other") is None
    evil = np.array([json.dumps], dtype=object)
    np.savez(tmp_path / "shop.npz", times=evil, loads=evil, allow_pickle=True)
    assert stored.load("shop") is None
    for rubbish in (b"", b"PK\x03\x04", b"text"):
        (tmp_path / "shop.npz").write_bytes(rubbish)
        assert stored.load("shop") is None


async def test_a_question_waits_for_no_training_and_many_begin_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "load.csv"
    clock = NOW
    go, begun = threading.Event(), 0

    def slowly(*given: Any, **options: Any) -> Any:
        nonlocal begun
        begun += 1
        assert go.wait(100)
        return train(*given, **options)

    def write(until: datetime) -> None:
        times = np.arange(NOW.timestamp() - 9 * 86_400, until.timestamp(), 600)
        file.write_text(
            "time,value\n" + "".join(f"{at:.0f},{x:.2f}\n" for at, x in zip(times, wave(times), strict=True))
        )

    monkeypatch.setattr("agents.forecaster.train", slowly)
    write(NOW)
    forecaster = Forecaster(settings(query=None, csv=file), None, tmp_path, now=lambda: clock, patience=0.05)
    while True:  # until the table is read: without it there is nothing to answer with
        with contextlib.suppress(InvalidInput):
            first = await forecaster.predict()
            break
    assert (first.decided_by, first.forecast_qps) == ("reactive", None)
    assert "the forecast is being trained" in first.reasons
    go.set()
    patient = await until(forecaster, lambda found: found.forecast_qps is not None)
    go.clear()
    clock += timedelta(minutes=10)
    write(clock)  # another table is learnt anew
    await until(forecaster, lambda found: "a newer forecast is being trained" in found.reasons)
    answers = await asyncio.gather(*(forecaster.predict() for _ in range(5)))
    assert {answer.trained_at for answer in answers} == {patient.trained_at}, "the older one answers"
    assert begun == 2
    go.set()
    newer = await until(forecaster, lambda found: found.trained_at == clock)
    assert begun == 2 and not any("being trained" in reason for reason in newer.reasons)
    await forecaster.close()


async def until(forecaster: Forecaster, seen: Callable[[Prediction], bool]) -> Prediction:
    for _ in range(1200):
        found = await forecaster.predict()
        if seen(found):
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"it did not come to it: {found}")


async def test_the_present_load_is_that_of_the_moment_and_not_of_the_grid(prometheus: str, tmp_path: Path) -> None:
    async with Prometheus(PrometheusSettings(url=prometheus, timeout=60)) as server:
        clock = NOW + timedelta(seconds=123)

        def ticking() -> datetime:
            nonlocal clock
            clock += timedelta(microseconds=1)
            return clock

        of_the_clock = settings(query="floor(vector(time() % 600))")  # nought wherever the grid asks
        found = await Forecaster(of_the_clock, server, tmp_path, now=ticking).predict()
        assert (found.current_qps, found.reactive_instances) == (123, 3)
        negative = await Forecaster(settings(query="vector(-5)"), server, tmp_path, now=lambda: clock).predict(
            current=1
        )
        assert any("no measured value" in reason for reason in negative.reasons)


async def test_a_prometheus_that_hangs_delays_no_forecast(prometheus: str, tmp_path: Path) -> None:
    clock = NOW
    with silent() as url:
        async with (
            Prometheus(PrometheusSettings(url=prometheus, timeout=60)) as server,
            Prometheus(PrometheusSettings(url=url, timeout=30)) as hangs,
        ):
            await Forecaster(settings(), server, tmp_path, now=lambda: clock).predict()
            hangs.url = prometheus
            later = Forecaster(settings(), hangs, tmp_path, now=lambda: clock, patience=0.1)
            found = await until(later, lambda found: found.forecast_qps is not None)  # from what was kept
            assert "the newest history is still being read" in found.reasons
            await later.close()
