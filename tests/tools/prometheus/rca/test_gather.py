"""What is asked of a Prometheus, by one that answers what the test wants: counting first, bounds, and what is said."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from diagnosis.metrics.config import RcaConfig
from diagnosis.metrics.series import MetricSeries
from errors import InvalidInput, ToolFailed, ToolTimeout
from settings import PrometheusSettings
from tools.prometheus.client import Prometheus
from tools.prometheus.rca.catalogue import FIXED, Wanted, of_program
from tools.prometheus.rca.gather import Gathered, gather, joined, placed
from tools.prometheus.rca.look import Question, look
from tools.prometheus.rca.windows import TARGET_POINTS, checked, windows, written

END = datetime(2026, 11, 20, 12, tzinfo=UTC)
START = END - timedelta(minutes=30)
Answer = Callable[[str, dict[str, str]], Any]
"""(path, fields) to the result of a query: a list; or a response of its own."""


@asynccontextmanager
async def server(answer: Answer, timeout: float = 5.0) -> AsyncIterator[tuple[Prometheus, list[str]]]:
    """A Prometheus, and the paths and queries that it was asked."""
    asked: list[str] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        fields = {key: str(value) for key, value in (await request.post()).items()}
        asked.append(f"{request.path} {fields.get('query', '')}")
        result = answer(request.path, fields)
        if asyncio.iscoroutine(result):
            result = await result
        if isinstance(result, web.StreamResponse):
            return result
        kind = "matrix" if request.path.endswith("query_range") or "[10m]" in fields["query"][-6:] else "vector"
        document = {"status": "success", "data": {"resultType": kind, "result": result}}
        return web.Response(text=json.dumps(document))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    settings = PrometheusSettings(url=f"http://127.0.0.1:{runner.addresses[0][1]}", timeout=timeout)
    try:
        async with Prometheus(settings) as client:
            yield client, asked
    finally:
        await runner.cleanup()


def counted(value: float, **labels: str) -> dict[str, Any]:
    return {"metric": labels, "value": [END.timestamp(), str(value)]}


def ranged(fields: dict[str, str], count: int) -> list[dict[str, Any]]:
    times = np.arange(float(fields["start"]), float(fields["end"]) + 1e-6, float(fields["step"]))
    return [
        {
            "metric": {"namespace": "shop", "pod": f"cart-{index}", "container": "web"},
            "values": [[float(at), "1"] for at in times],
        }
        for index in range(count)
    ]


def of_memory(series: int, rows: int, workloads: int) -> Answer:
    """One family: so many series, so many after the sum by pod, so many after the mean by workload."""
    name = "container_memory_working_set_bytes"

    def answer(path: str, fields: dict[str, str]) -> Any:
        query = fields["query"]
        if path.endswith("query_range"):
            if name not in query:
                return []
            return ranged(fields, workloads if "label_replace" in query else rows)
        if query.startswith("count by (__name__, job)"):
            return [counted(series, __name__=name, job="kubelet")] if name in query else []
        if query.startswith("count(") and name in query:
            return [counted(workloads if "label_replace" in query else rows)]
        return []

    return answer


async def gathered(answer: Answer) -> tuple[Gathered, list[str]]:
    async with server(answer) as (client, asked):
        return await gather(client, START, END, namespace="shop"), asked


async def test_what_has_too_many_series_is_averaged_or_left_out_and_said() -> None:
    found, _ = await gathered(of_memory(300, 30, 3))
    assert (len(found.series), found.cut) == (30, 0)
    found, asked = await gathered(of_memory(9_000, 3_000, 20))
    assert (len(found.series), found.cut) == (20, 2_980)
    assert any("3000 series of pods were averaged to 20 of workloads" in line for line in found.unseen)
    assert sum("query_range" in line and "container_memory" in line for line in asked) == 1
    for series, rows, workloads in ((9_000, 3_000, 900), (1_000_000, 900_000, 1)):
        with pytest.raises(InvalidInput, match="too many to look at"):
            await gathered(of_memory(series, rows, workloads))


async def test_what_nobody_would_notice_is_no_change() -> None:
    """Of a hundred periods less than one throttled, or a tenth of a millisecond that became half of one."""
    latency = "shop_request_duration_seconds_bucket"

    def answer(path: str, fields: dict[str, str]) -> Any:
        query = fields["query"]
        if query.startswith("count by (__name__, job)"):
            names = ["container_cpu_cfs_throttled_periods_total", latency] if "process_cpu" in query else []
            return [counted(1, __name__=name, job="kubelet") for name in names]
        if not path.endswith("query_range") or ("throttled" not in query and "duration" not in query):
            return []
        few, many = ("0.0004", "0.004") if "throttled" in query else ("0.0001", "0.0005")
        found = ranged(fields, 1)
        last = found[0]["values"][-1][0]
        found[0]["values"] = [[at, few if at < last - 300 else many] for at, _ in found[0]["values"]]
        return found

    found, _ = await gathered(answer)
    values = {one.name: set(one.values.tolist()) for one in found.series}
    assert values == {
        "container_cpu_throttled_share": {0.01},
        "shop_request_duration_seconds:p90": {0.001},
        "shop_request_duration_seconds:mean": {0.001},
    }
    assert [one.least for one in found.series] == [max(one.values) for one in found.series]


async def test_a_query_with_a_million_series_is_refused_before_it_is_fetched() -> None:
    def answer(path: str, fields: dict[str, str]) -> Any:
        assert not path.endswith("query_range"), "it was fetched"
        return [counted(1_000_000)]

    async with server(answer) as (client, asked):
        with pytest.raises(InvalidInput, match="has 1000000 series, and at most 500 are read"):
            await gather(client, START, END, metrics=['{__name__=~".+"}'])
        with pytest.raises(InvalidInput, match="more than the 50"):
            await gather(client, START, END, metrics=[f"m{number}" for number in range(51)])
        assert len(asked) == 1


async def test_a_slow_or_absent_server_is_one_error() -> None:
    async def slow(path: str, fields: dict[str, str]) -> Any:
        if path.endswith("query_range"):
            await asyncio.sleep(3)
        return [counted(1, __name__="up", job="a"), counted(1, __name__="process_open_fds", job="a")]

    async with server(slow, timeout=0.1) as (client, _):
        with pytest.raises(ToolTimeout, match="answered no query in time"):
            await gather(client, START, END, namespace="shop")
    async with Prometheus(PrometheusSettings(url="http://127.0.0.1:1")) as client:
        with pytest.raises(ToolFailed, match="could not be asked"):
            await look(client, Question(START, END), config=RcaConfig())


async def test_nothing_there_is_said() -> None:
    async with server(lambda path, fields: []) as (client, _):
        with pytest.raises(InvalidInput, match="no series of namespace shop between"):
            await gather(client, START, END, namespace="shop")


RUBBISH: list[list[Any]] = [
    [{"metric": {"__name__": "up", "job": "a"}, "value": [1, value], "values": values}]
    for value, values in (
        ("NaN", []),
        ("+Inf", None),
        ("1e300", [[1e300, "1"]]),
        (None, [["x", "1"]]),
        ("1", [[END.timestamp(), "1e309"], [True], 5, []]),
    )
]
RUBBISH += [["x"], [None], [{"metric": 5}], [{}]]


async def test_answers_that_are_none_are_an_error_or_left_out() -> None:
    for rubbish in RUBBISH:

        def answer(path: str, fields: dict[str, str], rubbish: list[Any] = rubbish) -> Any:
            return rubbish

        async with server(answer) as (client, _):
            with contextlib.suppress(ToolFailed, InvalidInput):
                found = await look(client, Question(START, END), config=RcaConfig())
                assert found.report.status in ("unknown", "no_root_cause")


async def test_one_point_and_only_nan_end_in_unknown() -> None:
    for values in ([[END.timestamp(), "1"]], [[END.timestamp() - second, "NaN"] for second in range(60, 0, -1)]):

        def answer(path: str, fields: dict[str, str], values: list[list[Any]] = values) -> Any:
            if path.endswith("query_range"):
                return [{"metric": {"__name__": "x", "pod": "a-0", "namespace": "shop"}, "values": values}]
            return [counted(1)]

        async with server(answer) as (client, _):
            found = await look(client, Question(START, END, metrics=["x{a='b'}"]), config=RcaConfig())
        assert found.report.status == "unknown" and found.charts == []


async def test_a_prometheus_that_was_just_started_knows_no_root_cause() -> None:
    """Minutes of the thirty that were asked about, all of whose series begin and settle: nothing tells what is usual,
    also where one older series is beside them. With an hour more of the same before, there is one."""
    names = ["go_memstats_heap_sys_bytes", "go_goroutines", "process_resident_memory_bytes",
             "prometheus_tsdb_wal_page_flushes_total", "scrape_duration_seconds"]  # fmt: skip

    def answers(minutes: float, old: bool) -> Answer:
        def series(name: str, instance: str, first: float, step: float, rises: bool) -> dict[str, Any]:
            times = np.arange(END.timestamp() - first * 60, END.timestamp() + 1, step)
            late = times >= END.timestamp() - 75
            values = [f"{(4e7 if rises and on else 1e7) + 1e4 * (place % 3):g}" for place, on in enumerate(late)]
            labels = {"__name__": name, "instance": instance, "job": instance}
            return {"metric": labels, "values": [[at, value] for at, value in zip(times.tolist(), values, strict=True)]}

        def answer(path: str, fields: dict[str, str]) -> Any:
            if "metadata" in path:
                return []
            if not path.endswith("query_range"):
                return [counted(6)] if fields["query"].startswith("count(") else []
            if "__name__" not in fields["query"]:
                return []
            step = float(fields["step"])
            found = [series(name, "self", minutes, step, True) for name in names]
            return [*found, series("go_goroutines", "old", 90, step, False)] if old else found

        return answer

    for minutes, old, status in (
        (2, False, "unknown"),
        (4, False, "unknown"),
        (4, True, "unknown"),
        (62, True, "found"),
    ):
        async with server(answers(minutes, old)) as (client, _):
            found = await look(client, Question(START, END, metrics=['{__name__=~".+"}']), config=RcaConfig())
        assert (found.report.status, minutes) == (status, minutes)
        assert (status == "found") != ("not enough history" in "".join(found.report.data_quality.warnings))
        assert (status == "found") == bool(found.report.workloads)


async def test_what_exporters_say_of_a_metric_counts_more_than_its_name_and_how_it_moves_more_than_nothing() -> None:
    queue, flight, errors = "jobs_requests_total", "calls_in_flight_requests", "mail_errors_total"
    told = {queue: "gauge", flight: "counter", errors: "counter"}
    differ = {queue: ["gauge", "counter"], flight: ["unknown"], errors: []}
    moves = {queue: [5, 3, 8, 6, 2, 9] * 5, flight: list(range(0, 60, 2)), errors: [0, 1, 2, 3] * 7}

    def answers(metadata: dict[str, list[str]] | None) -> Answer:
        def answer(path: str, fields: dict[str, str]) -> Any:
            query = fields.get("query", "")
            if path.endswith("metadata"):
                data = {name: [{"type": kind} for kind in kinds] for name, kinds in (metadata or {}).items()}
                return web.Response(
                    text=json.dumps({"status": "success", "data": data}), status=200 if metadata else 404
                )
            if query.startswith("count by (__name__, job)"):
                return [counted(1, __name__=name, job="a") for name in told] if "namespace=" in query else []
            if query.startswith("count(last_over_time("):
                return [counted(1)] if queue in query else []
            if query.startswith("topk(1, changes("):
                return [counted(20, __name__=name, namespace="shop", pod="a-0") for name in told if name in query]
            if query.endswith("[30m]"):
                name = next(name for name in told if name in query)
                values = [[END.timestamp() - 15 * place, str(value)] for place, value in enumerate(moves[name][::-1])]
                ranges = {"resultType": "matrix", "result": [{"metric": {}, "values": values[::-1]}]}
                return web.Response(text=json.dumps({"status": "success", "data": ranges}))
            return ranged(fields, 1) if path.endswith("query_range") else []

        return answer

    for metadata in ({name: [kind] for name, kind in told.items()}, differ, None):
        found, asked = await gathered(answers(metadata))
        rated = {name for name in told if any("query_range" in line and f"rate({name}" in line for line in asked)}
        assert rated == {flight, errors}, metadata
        plain = [line for line in asked if "query_range" in line and queue in line]
        assert len(plain) == 1 and "sum by (namespace, pod" in plain[0]
        assert {one.name for one in found.series} == set(told)
        probed = sum("topk(1, changes(" in line for line in asked)
        assert probed == (3 if metadata in (differ, None) else 0)
        async with server(answers(metadata)) as (client, asked):
            await gather(client, START, END, metrics=[queue])
            assert any(line.startswith("/api/v1/query_range") and "rate(" not in line for line in asked), metadata


def test_the_windows_hold_the_newest_samples_and_a_baseline() -> None:
    for minutes, interval, step in ((30, 15, 15), (30, 60, 60), (24 * 60, 15, 360), (0.1, 0.1, 0.1)):
        spans = windows(END - timedelta(minutes=minutes), END, interval)
        assert (spans.end, spans.step.total_seconds()) == (END, step)
        assert spans.start - spans.first >= spans.end - spans.start
        assert spans.length / spans.step <= TARGET_POINTS + 2
        assert spans.rate(interval) >= 4 * interval
    assert (written(60.0), written(0.4), written(61.2)) == ("60s", "400ms", "62s")
    with pytest.raises(InvalidInput, match="too short"):
        windows(END - timedelta(seconds=20), END, 15)
    with pytest.raises(InvalidInput, match="no time zone"):
        checked(START.replace(tzinfo=None), END, END)


def test_queries_are_such_as_the_server_understands() -> None:
    by_name = {wanted.name: wanted for wanted in FIXED}
    throttled = by_name["container_cpu_throttled_share"].expression("shop", "60s")
    # what was never throttled has no series of it: nought of the whole
    assert throttled.count("(sum without (cpu, device, interface) (rate(") == 3 and 'namespace="shop"' in throttled
    mesh = by_name["istio_request_duration_milliseconds:p90"].expression('s"}', "60s")
    assert mesh.startswith("histogram_quantile(0.9, sum by (le, source_workload")
    assert 'destination_workload_namespace="s\\"}"' in mesh and 'reporter="source"' in mesh
    assert [item.form for item in of_program("http_request_duration_seconds_bucket", set())] == ["quantile", "mean"]
    assert [item.form for item in of_program("http_requests_total", set())] == ["rate", "errors"]
    assert of_program("node_load1", set()) == of_program("up", set()) == []
    assert of_program("http_request_duration_seconds_count", {"http_requests_total"}) == []
    assert len({(item.name, item.by) for item in FIXED}) == len(FIXED)
    assert isinstance(FIXED[0], Wanted)


def test_calls_of_traces_join_the_one_workload_of_their_name() -> None:
    def one(**labels: str) -> MetricSeries:
        return MetricSeries.of("m", labels, [1.0], [1.0])

    cart, call = one(namespace="shop", pod="cart-0"), one(client="web", server="cart")
    assert placed([cart, call], {}, None)[1].labels == {
        "client": "web",
        "server": "cart",
        "destination_workload_namespace": "shop",
    }
    assert placed([cart, one(namespace="b", pod="cart-0"), call], {}, None)[2].labels == call.labels
    assert len(placed([cart, call, one(client="web", server="other")], {}, "shop")) == 2
    assert placed([one(node="n1"), call], {}, "shop") == []


def test_a_workload_whose_pod_was_replaced_has_a_past() -> None:
    def pod(name: str, first: int, last: int, value: float) -> MetricSeries:
        return MetricSeries.of("cpu", {"namespace": "shop", "pod": name}, range(first, last), [value] * (last - first))

    old, new = pod("cart-5d5f8c7b9c-x2x4z", 0, 6, 0.1), pod("cart-58484f58c6-nr4q6", 5, 10, 1.0)
    (whole,) = joined([old, new, pod("db-0", 0, 10, 0.2)], {})
    assert whole.labels == {"namespace": "shop", "workload": "cart"}
    assert (list(whole.times), list(whole.values)) == (list(range(10)), [0.1] * 5 + [0.55] + [1.0] * 4)
    assert joined([pod("db-0", 0, 10, 0.2), pod("db-1", 0, 10, 0.2)], {}) == []
