"""A figure as a document: SVG, an HTML page that needs nothing else, or PNG."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from html import escape

from diagnosis.metrics.charts.canvas import Anchor, Point, SvgCanvas
from diagnosis.metrics.charts.figure import (
    EVENTS_TITLE,
    PANEL_HEIGHT,
    WIDTH,
    draw,
    events_shown,
    groups,
    heading,
    height,
    panel,
    span_of,
    title,
    when,
)
from errors import ToolMissing
from incidents.metric_charts import ChartedSeries
from incidents.metric_report import MetricReport

_PANEL_WIDTH = 440
"""Of a panel on a page, which is scaled to its place: on a telephone to five sixths."""
_CAPTION = 160
"""Characters above a panel on a page, where they go on below."""
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;color:#111827;background:#f3f4f6;margin:0;padding:24px}"
    "main{max-width:1000px;margin:auto}h1{font-size:20px;margin:0}h2{font-size:16px;margin:16px 0 8px}"
    ".found{color:#b91c1c}.no_root_cause{color:#15803d}.unknown{color:#a16207}"
    ".panels{display:grid;grid-template-columns:1fr 1fr;gap:8px 16px}"
    "figure{margin:0;min-width:0;background:#fff;border-radius:8px;padding:8px}figcaption{font-weight:600;font-size:13px}"
    "figure svg{display:block;width:100%;height:auto}small{color:#6b7280}"
    "table{border-collapse:collapse;width:100%;background:#fff}"
    "td,th{border-bottom:1px solid #e5e7eb;padding:6px 8px;text-align:left;vertical-align:top}"
    "td.n{font-variant-numeric:tabular-nums}ul{color:#6b7280}p{white-space:pre-wrap}"
    "h1,h2,p,li,td,figcaption{overflow-wrap:anywhere}"
    "@media(max-width:640px){body{padding:12px}.panels{grid-template-columns:1fr}thead{display:none}"
    "table,tbody,tr,td{display:block}tr{border-bottom:1px solid #e5e7eb;padding:6px 0}"
    "td{border:0;padding:0 8px}td:empty{display:none}td::before{content:attr(data-of) ' ';color:#6b7280}}"
    # a panel's colours are its own: turned around in the dark, with their hues kept
    "@media(prefers-color-scheme:dark){body{background:#111827;color:#e5e7eb}table{background:#1f2937}"
    "td,th,tr{border-color:#374151}ul,small,td::before{color:#9ca3af}figure{background:#1a1a1a}"
    ".found{color:#f87171}.no_root_cause{color:#4ade80}.unknown{color:#facc15}"
    "figure svg{filter:invert(.9) hue-rotate(180deg)}}"
)
STYLE_POLICY = f"'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
"""What a content security policy must allow as style for the page."""
_SCALE = 2
"""Pixels of a PNG for each of the figure: screens are fine today."""


def svg(report: MetricReport, charts: Sequence[ChartedSeries]) -> str:
    canvas = SvgCanvas(WIDTH, height(report, charts), "Metrics around the incident")
    draw(canvas, report, charts)
    return canvas.document()


def html(report: MetricReport, charts: Sequence[ChartedSeries]) -> str:
    """One page with the figure, the summary and the ranking. No script; nothing is loaded from anywhere. Panels stand
    beside or below each other as the window has room."""
    said, _, details = heading(report)
    notes = "".join(f"<li>{escape(line)}</li>" for line in report.data_quality.warnings)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><title>Metrics around the incident</title>'
        f"<style>{_STYLE}</style></head><body><main>"
        f"<h1 class={report.status.value}>{_shown(said)}</h1><small>{_shown(details)}</small>"
        f"<p>{_shown(report.summary)}</p>{_panels(report, charts)}{_events(report)}{_ranking(report)}"
        f"{f'<ul>{notes}</ul>' if notes else ''}</main></body></html>\n"
    )


def _panels(report: MetricReport, charts: Sequence[ChartedSeries]) -> str:
    parts, span = [], span_of(charts)
    for group in groups(charts):
        parts.append(f"<h2>{group[0].rank}. {_shown(group[0].entity)}</h2><div class=panels>")
        for one in group:
            named = title(one, _CAPTION)
            canvas = SvgCanvas(_PANEL_WIDTH, PANEL_HEIGHT, named)
            panel(canvas, 0, 0, _PANEL_WIDTH, one, report, span)
            parts.append(f"<figure><figcaption>{_shown(named)}</figcaption>{canvas.document()}</figure>")
        parts.append("</div>")
    return "".join(parts)


def _events(report: MetricReport) -> str:
    listed = "".join(
        f"<li>{event.moment.at:%H:%M:%S} {_shown(event.moment.text)} <small>{when(event)}</small></li>"
        for event in events_shown(report)
    )
    return f"<h2>{EVENTS_TITLE}</h2><ol>{listed}</ol>" if listed else ""


def _ranking(report: MetricReport) -> str:
    rows = "".join(
        f"<tr><td data-of=#>{workload.rank}</td><td>{_shown(workload.entity)}</td>"
        f"<td class=n data-of=Score>{workload.score:.2f}</td>"
        f"<td class=n data-of=Onset>{f'{workload.onset:%H:%M:%S}' if workload.onset else ''}</td>"
        f"<td>{_shown(workload.because)}</td><td>{_shown(' → '.join(workload.path))}</td></tr>"
        for workload in report.workloads
    )
    heads = "<th>#<th>Workload<th>Score<th>Onset<th>Why<th>From the symptom"
    return f"<h2>Ranking</h2><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>" if rows else ""


def _shown(text: str) -> str:
    return escape("".join(char if char.isprintable() or char == "\n" else " " for char in text))


def png(report: MetricReport, charts: Sequence[ChartedSeries]) -> bytes:
    """Raises ToolMissing without Pillow, which the extra `metrics` installs."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        raise ToolMissing("a PNG needs Pillow: install paramedic[metrics], or ask for SVG or HTML") from None

    image = Image.new("RGB", (WIDTH * _SCALE, height(report, charts) * _SCALE), "#ffffff")
    pen = ImageDraw.Draw(image)

    class Painter:
        def rect(self, x: float, y: float, width: float, height: float, fill: str, *, tip: str = "") -> None:
            if width > 0 and height > 0:
                pen.rectangle(_scaled([(x, y), (x + width, y + height)]), fill=fill)

        def line(self, points: Sequence[Point], colour: str, *, width: float = 1, dashed: bool = False) -> None:
            for part in _dashes(points) if dashed and len(points) == 2 else [points]:
                pen.line(_scaled(part), fill=colour, width=max(1, round(width * _SCALE)), joint="curve")

        def polygon(self, points: Sequence[Point], fill: str, *, tip: str = "") -> None:
            pen.polygon(_scaled(points), fill=fill)

        def text(
            self, x: float, y: float, text: str, *, size: int = 12, colour: str = "#111827", anchor: Anchor = "start",
            bold: bool = False,
        ) -> None:  # fmt: skip
            plain = "".join(char if char.isprintable() else " " for char in text)
            side = {"start": "l", "middle": "m", "end": "r"}[anchor]
            pen.text(
                (x * _SCALE, y * _SCALE), plain, fill=colour, anchor=f"{side}s",
                font=ImageFont.load_default(size * _SCALE), stroke_width=1 if bold else 0, stroke_fill=colour,
            )  # fmt: skip

    draw(Painter(), report, charts)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _scaled(points: Sequence[Point]) -> list[Point]:
    return [(x * _SCALE, y * _SCALE) for x, y in points]


def _dashes(points: Sequence[Point]) -> list[list[Point]]:
    """A straight line as dashes of four pixels."""
    (x1, y1), (x2, y2) = points
    length = max(abs(x2 - x1), abs(y2 - y1), 1e-6)
    cuts = [at / length for at in range(0, int(length), 7)]
    return [
        [
            (x1 + (x2 - x1) * cut, y1 + (y2 - y1) * cut),
            (x1 + (x2 - x1) * min(1, cut + 4 / length), y1 + (y2 - y1) * min(1, cut + 4 / length)),
        ]
        for cut in cuts
    ]
