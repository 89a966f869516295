"""Load prediction of the configured services: histories are read and kept, forecasts trained by schedule, both behind
the answers: a question waits for them no longer than it may.

A fitted model is never stored: what is stored is the history, and a predictor is trained from it again in seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from agents.forecast_report import Bounds, Known, predict, service_info, trend
from agents.load_source import LoadSource
from diagnosis.metrics.forecast.candidates import candidates
from diagnosis.metrics.forecast.drift import drift
from diagnosis.metrics.forecast.history import History
from diagnosis.metrics.forecast.predictor import train
from errors import InvalidInput, NotFound, ParamedicError, ToolFailed
from incidents.database import utcnow
from incidents.forecast import ForecastHealth, ForecastInfo, Prediction, Trend
from incidents.load_histories import LoadHistories
from settings import ForecastService, ForecastSettings
from tools.prometheus.client import Prometheus

PATIENCE = 2.0
"""Seconds that a question waits for a newer history or a first training: KEDA gives up after three."""
_REFRESH = timedelta(seconds=30)
_TICK_SECONDS = 60.0
log = structlog.get_logger(__name__)


@dataclass
class _State:
    """One service. `history` is the newest; that of `known` is older while a predictor of another grid is trained.
    `trouble` is what the newest reading ended with."""

    service: ForecastService
    source: LoadSource
    known: Known = field(default_factory=lambda: Known(why="it is not trained yet"))
    history: History | None = None
    read_at: datetime | None = None
    trained_at: datetime | None = None  # of the newest attempt
    trouble: ParamedicError | None = None
    reading: asyncio.Task[None] | None = None
    training: asyncio.Task[None] | None = None


class Forecaster:
    """Answers for the services of `[forecast]`. Methods raise NotFound for a service that is not configured.

    `patience` is how many seconds a question that can be answered at all waits for a better answer; None: to the end.
    """

    def __init__(
        self,
        settings: ForecastSettings,
        prometheus: Prometheus | None,
        folder: Path,
        *,
        now: Callable[[], datetime] = utcnow,
        patience: float | None = None,
    ) -> None:
        self._settings, self._now, self._patience = settings, now, patience
        stored = LoadHistories(folder)
        self._states = {
            service.name: _State(service, LoadSource(service, settings, prometheus, stored))
            for service in settings.services
        }
        self._turn = asyncio.Semaphore(1)

    async def close(self) -> None:
        """Stop what goes on behind the answers."""
        under_way = [task for state in self._states.values() for task in (state.reading, state.training) if task]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

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
        reasons = await self._refresh(state, answerable=current is not None)
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

    def retrain(self, service: str | None = None) -> list[str]:
        """Have forecasts trained anew behind the answers, of one service or of all. Returns whose."""
        asked = self._state(service) if service is not None else None
        chosen = [asked] if asked is not None else list(self._states.values())
        for state in chosen:
            state.trained_at = None
            if state.read_at is not None:
                state.read_at -= _REFRESH
            self._read(state)
        return [state.service.name for state in chosen]

    def info(self) -> ForecastInfo:
        return ForecastInfo(
            services=[service_info(state.service, state.known) for state in self._states.values()],
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
        """Read and train by schedule, for ever: cancel it to stop."""
        while self._states:
            for state in self._states.values():
                task = self._read(state)
                if task is not None:
                    await asyncio.wait({task})
            await asyncio.sleep(_TICK_SECONDS)

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

    async def _refresh(self, state: _State, *, answerable: bool = False) -> list[str]:
        """Wait, within the patience, for what is due. `answerable`: without any history too. What is missing after it
        comes back as sentences."""
        loop = asyncio.get_running_loop()
        until = None if self._patience is None else loop.time() + self._patience
        reading = self._read(state)
        if reading is not None:
            await asyncio.wait({reading}, timeout=_left(until, loop.time()))
            if not reading.done() and not answerable and state.known.history is None:
                await asyncio.wait({reading})  # there is nothing to answer with
        if state.training is not None and (until is None or state.known.predictor is None):
            await asyncio.wait({state.training}, timeout=_left(until, loop.time()))
        found: list[str] = []
        if _under_way(reading):
            found.append("the newest history is still being read")
        if state.trouble is not None and state.known.history is not None:  # else it is the reason already
            found.append(f"the history could not be brought up to date: {state.trouble}")
        if _under_way(state.training):
            found.append(f"{'a newer' if state.known.predictor else 'the'} forecast is being trained")
        return found

    def _read(self, state: _State) -> asyncio.Task[None] | None:
        """The reading that is under way, or a new one when that is due. It begins a training when that is due too."""
        if state.reading is None or state.reading.done():
            now = self._now()
            if state.read_at is not None and timedelta(0) <= now - state.read_at < _REFRESH:
                return None
            state.reading = asyncio.create_task(self._bring_up(state, now), name=f"load of {state.service.name}")
        return state.reading

    async def _bring_up(self, state: _State, now: datetime) -> None:
        """Raises nothing: what goes wrong is the service's trouble."""
        first, state.read_at = state.read_at is None, now
        fresh = False
        try:
            if first:
                state.history = await state.source.kept()
                if state.history is not None and now.timestamp() - state.history.end < self._settings.retrain_seconds:
                    await self._settle(state, now, fresh=True)  # a server that hangs does not delay the first forecast
            fresh = await self._fetch(state, now)
            state.trouble = None
        except ParamedicError as error:
            state.trouble = error
        except Exception as error:  # one service that nobody foresaw must not end the others
            log.exception("a load could not be read", service=state.service.name)
            state.trouble = ToolFailed(f"the load could not be read: {type(error).__name__}")
        await self._settle(state, now, fresh=fresh)

    async def _settle(self, state: _State, now: datetime, *, fresh: bool) -> None:
        """Answer from the newest history, and begin a training when that is due."""
        if state.history is None:
            state.known = replace(state.known, why=str(state.trouble or state.known.why))
            return
        known = state.known
        if known.predictor is None or (known.predictor.step == state.history.step and state.service.csv is None):
            state.known = replace(known, history=state.history)
        if (fresh or state.trained_at is None) and not _under_way(state.training) and await self._due(state, now):
            state.trained_at = now
            state.training = asyncio.create_task(self._train(state, now), name=f"training of {state.service.name}")

    async def _fetch(self, state: _State, now: datetime) -> bool:
        """Whether there is anything new."""
        present = await state.source.present(now)
        state.known = replace(state.known, present=None if present is None else (now, present))
        found = await state.source.read(state.history, now)
        if found is None:
            return False
        state.history = found
        return True

    async def _due(self, state: _State, now: datetime) -> bool:
        known, history = state.known, state.history
        assert history is not None
        if known.predictor is None or state.trained_at is None or known.predictor.step != history.step:
            return True
        try:
            state.known = replace(known, drift=await asyncio.to_thread(drift, known.predictor, history))
        except Exception:  # a history that nobody foresaw: the schedule below still decides
            log.exception("whether a load drifts is not known", service=state.service.name)
        ago = now - state.trained_at
        drifted = state.known.drift is not None and state.known.drift.drifted
        # a load that left its habits is learnt anew at once, but not again and again
        return (
            state.service.csv is not None  # another table
            or ago.total_seconds() >= self._settings.retrain_seconds
            or history.end - known.predictor.until >= self._settings.retrain_seconds
            or (drifted and ago >= timedelta(hours=1))
        )

    async def _train(self, state: _State, now: datetime) -> None:
        """Raises nothing. The older forecast answers until this ends, with the history that it fits."""
        history = state.history
        assert history is not None
        try:
            async with self._turn:
                predictor, why = await asyncio.to_thread(
                    train, history, quantile=self._settings.quantile, boosting=self._settings.boosting
                )
        except Exception as error:  # a history that nobody foresaw: the older predictor, or the present load, answers
            log.exception("training failed", service=state.service.name)
            state.known = replace(state.known, why=f"training failed: {type(error).__name__}")
            return
        newest = state.history if state.history and state.history.step == history.step else history
        state.known = replace(state.known, history=newest, predictor=predictor, why=why, trained_at=now)
        try:
            await state.source.keep(history)
        except OSError as error:
            log.warning("a load's history was not stored", service=state.service.name, error=error.strerror)


def _under_way(task: asyncio.Task[None] | None) -> bool:
    return task is not None and not task.done()


def _left(until: float | None, now: float) -> float | None:
    return None if until is None else max(0.0, until - now)
