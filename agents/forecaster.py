"""Load prediction of the configured services: histories are fetched and kept, forecasts trained by schedule.

A fitted model is never stored: what is stored is the history, and a predictor is trained from it again in seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import structlog

from agents.forecast_report import Bounds, Known, back_test_report, drift_report, predict, trend
from diagnosis.metrics.forecast.candidates import candidates
from diagnosis.metrics.forecast.drift import drift
from diagnosis.metrics.forecast.history import DAY, History
from diagnosis.metrics.forecast.predictor import train
from diagnosis.metrics.forecast.table import read_load
from diagnosis.metrics.series import FloatArray
from errors import InvalidInput, NotFound, ParamedicError, ToolFailed
from incidents.database import utcnow
from incidents.forecast import ForecastHealth, ForecastInfo, Prediction, ServiceInfo, Trend
from incidents.load_histories import LoadHistories
from settings import ForecastService, ForecastSettings
from tools.prometheus.client import Prometheus
from tools.prometheus.history import read_history

MAX_CSV_BYTES = 256 << 20
_REFRESH = timedelta(seconds=30)
_TICK_SECONDS = 60.0
log = structlog.get_logger(__name__)


@dataclass
class _State:
    """One service's history and predictor. `trouble` is what the newest refresh ended with."""

    service: ForecastService
    known: Known = field(default_factory=lambda: Known(why="it is not trained yet"))
    loaded: bool = False
    refreshed: datetime | None = None
    trouble: ParamedicError | None = None
    csv_changed: float = 0.0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Forecaster:
    """Answers for the services of `[forecast]`. Methods raise NotFound for a service that is not configured."""

    def __init__(
        self,
        settings: ForecastSettings,
        prometheus: Prometheus | None,
        folder: Path,
        *,
        now: Callable[[], datetime] = utcnow,
    ) -> None:
        self._settings, self._prometheus, self._now = settings, prometheus, now
        self._stored = LoadHistories(folder)
        self._states = {service.name: _State(service) for service in settings.services}
        self._training = asyncio.Semaphore(1)

    async def predict(
        self,
        service: str | None = None,
        *,
        current: float | None = None,
        at: datetime | None = None,
        horizon: timedelta | None = None,
    ) -> Prediction:
        """How many instances `service` (the first one) needs. Raises InvalidInput when neither the present load nor a
        forecast is known, and ToolFailed when that is because Prometheus did not answer."""
        state = self._state(service)
        at = at or self._now()
        if state is None:
            return predict(
                Known(), self._bounds(None), service=None, at=at, horizon=horizon or timedelta(minutes=5),
                current=current, reasons=[],
            )  # fmt: skip
        reasons = await self._refresh(state)
        lead = timedelta(seconds=state.service.lead_seconds)
        try:
            return await asyncio.to_thread(
                predict, state.known, self._bounds(state.service), service=state.service.name, at=at,
                horizon=lead if horizon is None else horizon, current=current, reasons=reasons,
            )  # fmt: skip
        except InvalidInput:
            if isinstance(state.trouble, ToolFailed):
                raise state.trouble from None
            raise

    async def trend(self, service: str | None, hours: int, current: float | None = None) -> Trend:
        """The load of the next `hours` hours."""
        state = self._state(service)
        if state is None:
            return trend(
                Known(), self._bounds(None), service=None, at=self._now(), hours=hours, current=current, reasons=[]
            )
        reasons = await self._refresh(state)
        return await asyncio.to_thread(
            trend, state.known, self._bounds(state.service), service=state.service.name, at=self._now(),
            hours=hours, current=current, reasons=reasons,
        )  # fmt: skip

    def service(self, name: str | None) -> ForecastService:
        """Its settings. Raises NotFound when there is none."""
        state = self._state(name)
        if state is None:
            raise NotFound("no service is configured: set forecast.services")
        return state.service

    def info(self) -> ForecastInfo:
        return ForecastInfo(
            services=[_info(state) for state in self._states.values()],
            candidates=[one.name for one in candidates(boosting=self._settings.boosting)],
            quantile=self._settings.quantile,
            history_days=self._settings.history_days,
            retrain_seconds=self._settings.retrain_seconds,
        )

    def health(self) -> ForecastHealth:
        """From what is known already; nothing is asked."""
        said = {
            name: "ready" if state.known.predictor and not state.trouble else str(state.trouble or state.known.why)
            for name, state in self._states.items()
        }
        if not said:
            return ForecastHealth(status="not_configured", services={})
        ready = all(state.known.predictor is not None for state in self._states.values())
        troubled = any(state.trouble for state in self._states.values())
        return ForecastHealth(status="healthy" if ready and not troubled else "degraded", services=said)

    async def run(self) -> None:
        """Fetch and train by schedule, for ever: cancel it to stop."""
        while self._states:
            for state in self._states.values():
                try:
                    await self._refresh(state)
                except Exception as error:
                    # one service whose history breaks the training must not end that of the others
                    log.warning("load prediction failed", service=state.service.name, exc_info=error)
            await asyncio.sleep(_TICK_SECONDS)

    # --- history and training -------------------------------------------------------------------------------------

    def _state(self, service: str | None) -> _State | None:
        if service is None:
            return next(iter(self._states.values()), None)
        if service not in self._states:
            known = ", ".join(self._states) or "none is"
            raise NotFound(f"no service {service[:80]!r} is configured in forecast.services ({known})")
        return self._states[service]

    def _bounds(self, service: ForecastService | None) -> Bounds:
        source = service or self._settings
        return Bounds(source.per_instance, source.min_instances, source.max_instances, self._settings.quantile)

    async def _refresh(self, state: _State) -> list[str]:
        """Bring the history up to now and train when that is due. What went wrong comes back as sentences."""
        if state.turn.locked() and state.known.predictor is not None:
            return []  # a training takes seconds: until it ends the older one answers
        async with state.turn:
            now = self._now()
            if state.refreshed is None or not timedelta(0) <= now - state.refreshed < _REFRESH:
                state.refreshed = now
                try:
                    fresh = await self._fetch(state, now)
                    state.trouble = None
                except ParamedicError as error:
                    state.trouble, fresh = error, False
                    if state.known.history is None:
                        state.known.why = str(error)
                if state.known.history is not None and (fresh or state.known.trained_at is None):
                    await self._train(state, state.known.history, now)
            if state.trouble is None or state.known.history is None:  # then it is the reason already
                return []
            return [f"the history could not be brought up to date: {state.trouble}"]

    async def _fetch(self, state: _State, now: datetime) -> bool:
        """Whether there is anything new."""
        if state.service.csv is not None:
            return await self._fetch_csv(state, state.service.csv)
        if not state.loaded:
            state.loaded = True
            stored = await asyncio.to_thread(self._stored.load, _key(state.service))
            if stored is not None:
                state.known.history = await asyncio.to_thread(History.of, *stored, step=self._settings.step_seconds)
        if self._prometheus is None:
            raise InvalidInput("no Prometheus is configured: set prometheus.url")
        begin = now - timedelta(days=self._settings.history_days)
        before = state.known.history
        times, loads = _points(before, begin.timestamp())
        # the newest points again: a rate over the last minutes was not complete when it was read
        since = datetime.fromtimestamp(times[-1], UTC) - timedelta(hours=1) if len(times) else begin
        assert state.service.query is not None
        step = timedelta(seconds=self._settings.step_seconds)
        at, found = await read_history(self._prometheus, state.service.query, since, now, step)
        if not len(at):
            if before is None:
                raise InvalidInput("Prometheus has no value of the query within the configured history")
            return False
        kept = times < at.min()
        times, loads = np.concatenate((times[kept], at)), np.concatenate((loads[kept], found))
        state.known.history = await asyncio.to_thread(History.of, times, loads, step=self._settings.step_seconds)
        return True

    async def _fetch_csv(self, state: _State, file: Path) -> bool:
        try:
            about = await asyncio.to_thread(file.stat)
            if about.st_mtime == state.csv_changed and state.known.history is not None:
                return False
            state.known.history = await asyncio.to_thread(read_csv, file, self._settings, column=state.service.column)
        except OSError as error:
            raise InvalidInput(f"the table {file.name} cannot be read: {error.strerror}") from None
        state.csv_changed = about.st_mtime
        state.known.trained_at = None  # another table
        return True

    async def _train(self, state: _State, history: History, now: datetime) -> None:
        known = state.known
        due = known.trained_at is None or now - known.trained_at >= timedelta(seconds=self._settings.retrain_seconds)
        other_grid = known.predictor is not None and known.predictor.step != history.step
        if known.predictor is not None and not other_grid:
            known.drift = await asyncio.to_thread(drift, known.predictor, history)
            drifted = known.drift is not None and known.drift.drifted
            # a load that left its habits is learnt anew at once, but not again and again
            due = due or (drifted and now - (known.trained_at or now) >= timedelta(hours=1))
        if not (due or other_grid or known.predictor is None):
            return
        known.trained_at = now
        try:
            async with self._training:
                known.predictor, known.why = await asyncio.to_thread(
                    train, history, quantile=self._settings.quantile, boosting=self._settings.boosting
                )
        except Exception as error:  # a history that nobody foresaw: the older predictor, or the present load, answers
            log.exception("training failed", service=state.service.name)
            known.why = f"training failed: {type(error).__name__}"
            return
        if state.service.query is not None:
            try:
                await asyncio.to_thread(self._stored.save, _key(state.service), *_points(history, 0.0))
            except OSError as error:
                log.warning("a load's history was not stored", service=state.service.name, error=error.strerror)


def read_csv(file: Path, settings: ForecastSettings, *, column: str | None = None) -> History:
    """The newest `history_days` of a table. Raises InvalidInput that names what is wrong, OSError."""
    if file.stat().st_size > MAX_CSV_BYTES:
        raise InvalidInput(f"{file.name} has more than {MAX_CSV_BYTES >> 20} MiB")
    try:
        times, loads = read_load(file.read_text(encoding="utf-8"), file.name, column=column)
    except UnicodeDecodeError:
        raise InvalidInput(f"{file.name} is no text") from None
    newest = times >= times.max() - settings.history_days * DAY
    return History.of(times[newest], loads[newest], step=settings.step_seconds)


def _key(service: ForecastService) -> str:
    """Of the stored history: that of another query is another load."""
    return f"{service.name}-{hashlib.sha256((service.query or '').encode()).hexdigest()[:16]}"


def _points(history: History | None, begin: float) -> tuple[FloatArray, FloatArray]:
    """Measured points from `begin` on."""
    if history is None:
        return np.empty(0), np.empty(0)
    times: FloatArray = history.start + np.arange(len(history), dtype=np.float64) * history.step
    kept = ~np.isnan(history.values) & (times >= begin)
    return times[kept], history.values[kept]


def _info(state: _State) -> ServiceInfo:
    known, service = state.known, state.service
    history = known.history
    return ServiceInfo(
        service=service.name,
        source="csv" if service.csv else "prometheus",
        per_instance=service.per_instance,
        min_instances=service.min_instances,
        max_instances=service.max_instances,
        lead_seconds=service.lead_seconds,
        target=f"{service.namespace}/{service.workload}" if service.workload else None,
        trained_at=known.trained_at if known.predictor else None,
        history_days=round(history.days, 2) if history else None,
        history_until=datetime.fromtimestamp(history.end, UTC) if history else None,
        step_seconds=history.step if history else None,
        models=[back_test_report(choice) for choice in known.predictor.choices] if known.predictor else [],
        drift=drift_report(known.drift),
        reasons=[known.why] if known.predictor is None else list(history.notes) if history else [],
    )
