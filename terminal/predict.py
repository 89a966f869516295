"""`paramedic predict`: what the load will be, from a table or from Prometheus; no service is needed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from errors import InvalidInput, NotFound
from terminal.plain import plain

if TYPE_CHECKING:
    from incidents.forecast import Prediction, Trend
    from settings import ForecastService, Settings


def predict(
    service: Annotated[str | None, typer.Argument(help="One of forecast.services; by default the first")] = None,
    csv: Annotated[Path | None, typer.Option(help="A table with a time column and a load, instead")] = None,
    column: Annotated[str | None, typer.Option(help="Of the table, where it has several")] = None,
    query: Annotated[str | None, typer.Option(help="PromQL of the whole load, instead")] = None,
    qps: Annotated[float | None, typer.Option(help="The present load; by default the newest measured", min=0)] = None,
    at: Annotated[
        str | None,
        typer.Option(help="When the question is asked, with a zone; by default now, or the end of the table"),
    ] = None,
    horizon: Annotated[float | None, typer.Option(help="Seconds ahead", min=0, max=604_800)] = None,
    trend: Annotated[int | None, typer.Option(help="The next so many hours instead", min=1, max=168)] = None,
    per_instance: Annotated[float | None, typer.Option(help="Load that one instance bears")] = None,
    least: Annotated[int | None, typer.Option("--min", help="Instances", min=0, max=1000)] = None,
    most: Annotated[int | None, typer.Option("--max", help="Instances", min=1, max=1000)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout")] = False,
) -> None:
    """Say how many instances the load to come needs, how that was found, and how good it was in the past.

    Exit status: 0 answered, 2 bad input, 3 a server that did not answer.
    """
    import asyncio

    from settings import load_settings

    settings = load_settings()
    chosen = _service(settings, service, csv, column, query)
    given = {"per_instance": per_instance, "min_instances": least, "max_instances": most}
    chosen = _with(chosen, {name: value for name, value in given.items() if value is not None})
    settings.forecast = settings.forecast.model_copy(update={"services": [chosen]})
    moment = _moment(at)
    found: list[Prediction | Trend] = []

    async def run() -> None:
        from agents.forecaster import Forecaster
        from agents.load_source import read_csv
        from tools.prometheus.measure import monitoring

        asked = moment
        if asked is None and chosen.csv is not None:
            try:
                history = await asyncio.to_thread(read_csv, chosen.csv, settings.forecast, column=chosen.column)
            except OSError as error:
                raise InvalidInput(f"{chosen.csv} cannot be read: {error.strerror}") from None
            asked = datetime.fromtimestamp(history.end, UTC)
        clock = asked or datetime.now(UTC)
        async with monitoring(settings.prometheus, settings.alertmanager) as servers:
            forecaster = Forecaster(
                settings.forecast, servers.prometheus, settings.data_dir / "forecast", now=lambda: clock
            )
            if trend is not None:
                found.append(await forecaster.trend(chosen.name, trend, qps))
            else:
                ahead = timedelta(seconds=horizon) if horizon is not None else None
                found.append(await forecaster.predict(chosen.name, current=qps, horizon=ahead))

    asyncio.run(run())
    if as_json:
        typer.echo(found[0].model_dump_json())
    else:
        _show(found[0])


def _service(
    settings: Settings, name: str | None, csv: Path | None, column: str | None, query: str | None
) -> ForecastService:
    from settings import ForecastService

    if csv is not None and query is not None:
        raise InvalidInput("give --csv or --query, not both")
    if csv is not None or query is not None:
        own = settings.forecast
        return ForecastService(
            name=name or "load", csv=csv, column=column, query=query, per_instance=own.per_instance,
            min_instances=own.min_instances, max_instances=own.max_instances,
        )  # fmt: skip
    for one in settings.forecast.services:
        if name in (None, one.name):
            return one
    raise NotFound(f"no service {name!r} is configured" if name else "give --csv or --query, or set forecast.services")


def _with(service: ForecastService, changes: dict[str, float]) -> ForecastService:
    from pydantic import ValidationError

    from settings import ForecastService

    try:
        return ForecastService.model_validate(service.model_dump() | changes)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(f"{'.'.join(str(part) for part in first['loc']) or 'options'}: {first['msg']}") from None


def _moment(at: str | None) -> datetime | None:
    if at is None:
        return None
    try:
        found = datetime.fromisoformat(at)
    except ValueError:
        raise InvalidInput(f"--at: {plain(at)[:40]!r} is no ISO 8601 time") from None
    if found.tzinfo is None:
        raise InvalidInput("--at needs a time zone, such as 2026-01-31T12:00:00Z")
    return found.astimezone(UTC)


def _show(found: Prediction | Trend) -> None:
    from incidents.forecast import Prediction

    if isinstance(found, Prediction):
        typer.echo(plain(f"{found.instances} instances ({found.decided_by}), each bears {found.per_instance:g}"))
        if found.current_qps is not None:
            typer.echo(f"  present load {found.current_qps:.4g} needs {found.reactive_instances}")
        if found.upper_qps is not None:
            typer.echo(
                f"  at {found.target_time:%Y-%m-%d %H:%M} UTC: {found.forecast_qps:.4g} "
                f"({found.lower_qps:.4g} to {found.higher_qps:.4g}), with {found.quantile:.0%} at most "
                f"{found.upper_qps:.4g}, which needs {found.forecast_instances}"
            )
    else:
        for point in found.points:
            typer.echo(
                f"{point.timestamp:%Y-%m-%d %H:%M}  {point.qps:10.4g}  {point.lower_qps:10.4g} to "
                f"{point.higher_qps:<10.4g}  at most {point.upper_qps:10.4g}  {point.instances} instances"
            )
    if (test := found.back_test) is not None:
        covered = "" if found.confidence is None else f"; covered {found.confidence:.1%} of {found.quantile:.0%}"
        typer.echo(
            f"  {' + '.join(test.members)}: error {test.mae:.4g}, {test.seasonal_naive} {test.seasonal_naive_mae:.4g}, "
            f"over {test.origins} origins{covered}"
        )
    for reason in found.reasons:
        typer.echo(plain(f"  note: {reason}"))
