"""Charts: well formed whatever is in the names, gaps stay gaps, and each form is what it says."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from diagnosis.metrics.analyze import analyze
from diagnosis.metrics.charts import render
from diagnosis.metrics.charts.figure import number, title
from diagnosis.metrics.charts.points import MAX_POINTS, charted
from diagnosis.metrics.series import MetricSeries
from incidents.metric_charts import ChartedSeries
from incidents.metric_report import MetricReport
from incidents.models import Moment, MomentKind, ObjectRef

HOSTILE = '<script>alert(1)</script>&"\x00\x1b[31m\u202e'
BEGAN = datetime(2026, 11, 20, 12, tzinfo=UTC)


def found(points: int = 400) -> tuple[MetricReport, list[ChartedSeries]]:
    """One workload of three, whose latency jumps; with a gap."""
    rng = np.random.default_rng(1)
    times = BEGAN.timestamp() + 15.0 * np.arange(points)
    jump = int(points * 0.8)
    series = []
    for name in ("web", "cart", HOSTILE):
        values = 10 + rng.normal(0, 0.3, points)
        if name == HOSTILE:
            values[jump:] += 40
            values[50:60] = np.nan
        labels = {"namespace": "shop", "workload": name}
        series.append(MetricSeries.of("latency", labels, times, values, unit="ms"))
    at = BEGAN + timedelta(seconds=15.0 * (jump - 2))
    about = ObjectRef(kind="Deployment", namespace="shop", name="web")
    moment = Moment(at=at, kind=MomentKind.ROLLOUT, object=about, text=f"rollout {HOSTILE}", evidence_ids=["ev_1"])
    window = (BEGAN + timedelta(seconds=15 * points * 0.75), BEGAN + timedelta(seconds=15 * points))
    report = analyze(series, window=window, moments=[moment])
    return report, charted(report, series)


def test_every_form_is_whole_and_holds_no_markup_of_others() -> None:
    report, charts = found()
    assert report.workloads and charts[0].rank == 1
    drawing = ElementTree.fromstring(render.svg(report, charts))
    texts = [element.text or "" for element in drawing.iter() if element.tag.endswith("text")]
    assert any("onset" in text for text in texts) and any("latency" in text for text in texts)
    assert not list(drawing.iter("{http://www.w3.org/2000/svg}script"))
    page = render.html(report, charts)
    assert "<script" not in page and "&lt;script" in page and "\x00" not in page and "\u202e" not in page
    with Image.open(io.BytesIO(render.png(report, charts[:2]))) as image:
        assert image.width == 2000 and len(image.getcolors(1 << 24) or []) > 20
    empty = report.model_copy(update={"workloads": [], "events": []})
    ElementTree.fromstring(render.svg(empty, []))


def test_events_stand_in_the_order_of_time_and_a_page_fits_a_telephone() -> None:
    report, charts = found()
    event = report.events[0]
    times = [event.moment.at + timedelta(seconds=seconds) for seconds in (0, -200, 90, -30)]
    moved = [
        event.model_copy(update={"moment": event.moment.model_copy(update={"at": at, "text": f"event {number}"})})
        for number, at in enumerate(times)
    ]
    report = report.model_copy(update={"events": moved})
    for drawn in (render.svg(report, charts), render.html(report, charts)):
        # in the figure of panels too, where a tip is at each mark
        places = re.findall(r"event (\d)", drawn)
        assert places[-4:] == ["1", "3", "0", "2"]
        assert places == ["1", "3", "0", "2"] * (len(places) // 4)
    page = render.html(report, charts)
    assert "max-width:640px" in page and "overflow-x" not in page
    widths = [int(width) for width in re.findall(r'<svg [^>]*?width="(\d+)"', page)]
    assert len(widths) == len(charts) and max(widths) < 500 and "figure svg{display:block;width:100%" in page


def test_points_are_thinned_and_gaps_and_spikes_stay() -> None:
    report, charts = found(4000)
    top = charts[0]
    assert len(top.times) == len(top.values) <= MAX_POINTS
    assert max(value for value in top.values if value is not None) > 49
    assert top.low is not None and top.high is not None and 9 < top.low < top.high < 11.5
    _, charts = found(280)
    lines = [line for line in render.svg(report, charts[:1]).splitlines() if 'stroke="#1d4ed8"' in line]
    assert len(lines) == 2, "the gap is drawn over"


def test_numbers_are_short() -> None:
    assert [number(value) for value in (0.0, 0.00234, 12.34, 2_340, 1.5e9, -2e6)] == [
        "0", "0.00234", "12.3", "2.34k", "1.5G", "-2M",
    ]  # fmt: skip


def test_a_long_title_keeps_its_form_whose_it_is_and_its_unit() -> None:
    _, charts = found()
    name, labels = "traces_service_graph_request_client_seconds:p90", {"client": "cart"}
    long = title(charts[0].model_copy(update={"name": name, "labels": labels, "unit": "s"}))
    assert long.endswith("…:p90 · called by cart (s)") and len(long) <= 66
    hostile = title(charts[0].model_copy(update={"name": "x" * 200, "labels": {"pod": "p" * 90}, "unit": "s" * 99}))
    assert len(hostile) <= 66
