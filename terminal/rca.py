"""`paramedic rca`: which workload's measurements changed first and most, from Prometheus or from files."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from diagnosis.metrics.series import MetricSeries
    from incidents.metric_report import MetricReport
    from tools.prometheus.rca.look import Look

_DURATION = re.compile(r"(\d{1,6})(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_MOST_SECONDS = 366 * 86_400
_METRICS_SHOWN, _WORKLOADS_SHOWN, _EVENTS_SHOWN = 4, 5, 8
_USUAL = timedelta(minutes=30)
_CHARTS = (".html", ".svg", ".png")


def rca(
    since: Annotated[
        str | None,
        typer.Option("--since", help="How far back from the end, such as 30m, 2h or 1d; default: 30m, of files all"),
    ] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Only this namespace")] = None,
    start: Annotated[str | None, typer.Option("--start", help="Instead of --since: 2026-11-20T10:00:00Z")] = None,
    end: Annotated[str | None, typer.Option("--end", help="Default: now, or where the files end")] = None,
    metrics: Annotated[
        list[str] | None, typer.Option("--metric", "-m", help="A name or PromQL (files: a name); repeatable")
    ] = None,
    symptom: Annotated[str, typer.Option("--symptom", help="What was noticed, in your own words")] = "",
    source: Annotated[
        Path | None, typer.Option("--from", help="CSV or saved Prometheus JSON instead of a server: file or folder")
    ] = None,
    prometheus: Annotated[str | None, typer.Option("--prometheus", help="Its URL; default: prometheus.url")] = None,
    chart: Annotated[Path | None, typer.Option("--chart", help="Write the charts to FILE.html, .svg or .png")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout")] = False,
) -> None:
    """Find the root cause in measurements, or say that there is none. Reads only.

    Exit status: 0 found, or nothing changed; 1 too little was seen to say; 2 bad usage or input; 3 no answer.
    """
    from errors import InvalidInput
    from incidents.metric_report import MetricStatus

    if chart is not None:
        _checked(chart)
    if since is not None and start is not None:
        raise InvalidInput("--since and --start both say where to begin: give one of them")
    length = _length(since) if since is not None else None
    begin, stop = (_time("--start", start) if start else None), (_time("--end", end) if end else None)
    if source is not None:
        if prometheus is not None:
            raise InvalidInput("--from reads files and --prometheus a server: give one of them")
        found = _files(source, begin, stop, length, namespace, metrics or [], symptom)
    else:
        from datetime import UTC

        begin = begin or (stop or datetime.now(UTC)) - (length or _USUAL)
        found = _server(begin, stop, namespace, metrics or [], symptom, prometheus)
    if chart is not None:
        _write(chart, found)
    if as_json:
        typer.echo(found.report.model_dump_json(indent=2))
    else:
        _show(found.report)
    if found.report.status is MetricStatus.UNKNOWN:
        raise typer.Exit(1)


def _files(
    source: Path,
    start: datetime | None,
    end: datetime | None,
    length: timedelta | None,
    namespace: str | None,
    metrics: list[str],
    symptom: str,
) -> Look:
    from datetime import UTC

    from diagnosis.metrics.config import RcaConfig
    from diagnosis.metrics.load import load_series
    from errors import InvalidInput
    from tools.prometheus.rca.look import answered

    _tell(f"reading {source}")
    loaded = load_series(source)
    series = _asked_for(loaded.series, namespace, metrics)
    window = None
    if end is not None and start is None and length is None:
        raise InvalidInput("with --end and files, --start or --since is needed too")
    if start is not None or length is not None:
        last = end or datetime.fromtimestamp(
            max((float(one.times[-1]) for one in series if len(one)), default=0.0), UTC
        )
        window = (start or last - (length or _USUAL), last)
    _tell(f"analyzing {len(series)} series")
    return answered(
        series,
        window=window,
        edges=loaded.edges,
        symptom=symptom,
        config=RcaConfig(),
        unseen=loaded.unseen,
    )


def _asked_for(series: list[MetricSeries], namespace: str | None, metrics: list[str]) -> list[MetricSeries]:
    """Those of a namespace and of these names; what is about no namespace (a node, a whole system) stays."""
    from diagnosis.metrics.subject import subject_of
    from errors import InvalidInput

    have = {one.name for one in series}
    if unknown := [name for name in metrics if name not in have]:
        some = ", ".join(sorted(have)[:5])
        raise InvalidInput(
            f"--metric {unknown[0][:100]!r} is no name in these files, which have {some}: PromQL needs a server"
        )
    if metrics:
        series = [one for one in series if one.name in metrics]
    if namespace is None:
        return series
    spaces = {subject.namespace for one in series for subject in (subject_of(one.labels),)}
    if namespace not in spaces:
        known = ", ".join(sorted(spaces - {""})[:5])
        raise InvalidInput(
            f"--namespace {namespace[:100]!r}: the files have {known or 'no label that names a namespace'}"
        )
    return [one for one in series if subject_of(one.labels).namespace in ("", namespace)]


def _server(
    start: datetime, end: datetime | None, namespace: str | None, metrics: list[str], symptom: str, url: str | None
) -> Look:
    import asyncio
    from datetime import UTC

    from diagnosis.metrics.config import RcaConfig
    from errors import ToolFailed
    from settings import load_settings
    from tools.kubernetes.client import Cluster
    from tools.prometheus.client import Prometheus
    from tools.prometheus.rca.look import Question, look

    settings = load_settings(**({"prometheus": {"url": url}} if url else {}))
    found: list[Look] = []

    async def run() -> None:  # returns nothing: asyncio.run makes a repr of what its task returned
        cluster = None
        if namespace is not None:
            try:
                cluster = await Cluster.connect(settings.kubernetes)
            except ToolFailed as error:
                _tell(f"no cluster tells what happened: {error}")
        try:
            async with Prometheus(settings.prometheus) as server:
                question = Question(start, end or datetime.now(UTC), namespace, metrics, symptom)
                found.append(await look(server, question, cluster=cluster, config=RcaConfig(), progress=_tell))
        finally:
            if cluster is not None:
                await cluster.close()

    asyncio.run(run())
    return found.pop()


def _length(text: str) -> timedelta:
    from errors import InvalidInput

    found = _DURATION.fullmatch(text.strip())
    if found is None or not int(found[1]):
        raise InvalidInput(f"--since {text[:40]!r} is no duration such as 30m, 2h or 1d")
    seconds = int(found[1][:12]) * _SECONDS[found[2]]
    if seconds > _MOST_SECONDS:
        raise InvalidInput(f"--since {text[:40]!r} is longer than a year")
    return timedelta(seconds=seconds)


def _time(option: str, text: str) -> datetime:
    from errors import InvalidInput

    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"{option} {text[:60]!r} is no time of ISO 8601, such as 2026-11-20T10:00:00Z") from None
    if at.tzinfo is None:
        raise InvalidInput(f"{option} {text} has no time zone: write {text}Z for UTC, or an offset such as +02:00")
    if not 1970 < at.year < 9999:
        raise InvalidInput(f"{option} {text} is not between 1971 and 9998")
    return at


def _checked(chart: Path) -> None:
    from errors import InvalidInput

    if chart.suffix.lower() not in _CHARTS:
        raise InvalidInput(f"--chart {chart.name[:60]!r} ends with none of {', '.join(_CHARTS)}")
    if not chart.absolute().parent.is_dir():
        raise InvalidInput(f"--chart: there is no folder {chart.absolute().parent}")


def _write(chart: Path, found: Look) -> None:
    from diagnosis.metrics.charts import render
    from errors import InvalidInput

    kind = chart.suffix.lower()
    if kind == ".png":
        content = render.png(found.report, found.charts)
    else:
        content = (render.html if kind == ".html" else render.svg)(found.report, found.charts).encode()
    try:
        chart.write_bytes(content)
    except OSError as error:
        raise InvalidInput(f"--chart {chart}: {error.strerror}") from None
    _tell(f"charts in {chart}")


def _show(report: MetricReport) -> None:
    from terminal.plain import plain

    typer.echo(f"{plain(report.summary)}\n")
    for workload in report.workloads[:_WORKLOADS_SHOWN]:
        since = f"  since {workload.onset:%Y-%m-%d %H:%M:%S} UTC" if workload.onset else ""
        typer.echo(plain(f"{workload.rank}. {workload.object}  score {workload.score:.2f}{since}"))
        typer.echo(plain(f"   {workload.because}"))
        if len(workload.path) > 1:
            typer.echo(plain(f"   from the symptom: {' → '.join(workload.path)}"))
        for change in workload.metrics[:_METRICS_SHOWN]:
            unit = f" {change.unit}" if change.unit else ""
            values = (
                f"{change.baseline_median:.4g} → {change.incident_value:.4g}{unit}"
                if change.baseline_median is not None and change.incident_value is not None
                else change.direction.value
            )
            where = change.labels.get("pod") or change.labels.get("node") or ""
            typer.echo(plain(f"   {change.direction.value:5} {change.name}  {values}  {where}".rstrip()))
    if report.events:
        typer.echo("\nNear the onset (UTC)")
    for event in sorted(report.events[:_EVENTS_SHOWN], key=lambda each: each.moment.at):
        before = event.seconds_before_onset
        when = f"{abs(before):.0f} s {'before' if before >= 0 else 'after'}"
        typer.echo(plain(f"   {event.moment.at:%H:%M:%S}  {when:14} {event.moment.text}"))
    for line in report.data_quality.warnings:
        typer.echo(plain(f"not seen: {line}"), err=True)


def _tell(text: str) -> None:
    from terminal.plain import plain

    typer.echo(plain(text), err=True)
