"""Where a service's load comes from: a query of Prometheus, or a table. What a query gave is kept on disk."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from diagnosis.metrics.forecast.history import DAY, History
from diagnosis.metrics.forecast.table import read_load
from diagnosis.metrics.series import FloatArray
from errors import InvalidInput
from incidents.load_histories import LoadHistories
from settings import ForecastService, ForecastSettings
from tools.prometheus.client import Prometheus
from tools.prometheus.history import read_history, read_present

MAX_CSV_BYTES = 256 << 20


class LoadSource:
    """One service's load. Methods raise InvalidInput for what cannot be used, ToolFailed when Prometheus fails."""

    def __init__(
        self,
        service: ForecastService,
        settings: ForecastSettings,
        prometheus: Prometheus | None,
        stored: LoadHistories,
    ) -> None:
        self._service, self._settings, self._prometheus, self._stored = service, settings, prometheus, stored
        self._csv_changed = 0.0

    async def kept(self) -> History | None:
        """What an earlier process kept of the query's answers; None of a table."""
        if self._service.query is None:
            return None
        stored = await asyncio.to_thread(self._stored.load, self._key)
        if stored is None:
            return None
        return await asyncio.to_thread(History.of, *stored, step=self._settings.step_seconds)

    async def keep(self, history: History) -> None:
        """For the next process. Raises OSError."""
        if self._service.query is not None:
            await asyncio.to_thread(self._stored.save, self._key, *_points(history, 0.0))

    async def present(self, now: datetime) -> float | None:
        """The load at this moment; None when there is none, or a table has it."""
        if self._service.query is None or self._prometheus is None:
            return None
        return await read_present(self._prometheus, self._service.query, now)

    async def read(self, before: History | None, now: datetime) -> History | None:
        """The history up to now; None when there is nothing newer than `before`, which this gave earlier."""
        if self._service.csv is not None:
            return await self._read_table(self._service.csv, before)
        if self._prometheus is None:
            raise InvalidInput("no Prometheus is configured: set prometheus.url")
        begin = now - timedelta(days=self._settings.history_days)
        times, loads = _points(before, begin.timestamp())
        # the newest points again: a rate over the last minutes was not complete when it was read
        since = datetime.fromtimestamp(times[-1], UTC) - timedelta(hours=1) if len(times) else begin
        assert self._service.query is not None
        step = timedelta(seconds=self._settings.step_seconds)
        at, found = await read_history(self._prometheus, self._service.query, since, now, step)
        if not len(at):
            if before is None:
                raise InvalidInput("Prometheus has no value of the query within the configured history")
            return None
        earlier = times < at.min()
        times, loads = np.concatenate((times[earlier], at)), np.concatenate((loads[earlier], found))
        return await asyncio.to_thread(History.of, times, loads, step=self._settings.step_seconds)

    async def _read_table(self, file: Path, before: History | None) -> History | None:
        try:
            about = await asyncio.to_thread(file.stat)
            if about.st_mtime == self._csv_changed and before is not None:
                return None
            history = await asyncio.to_thread(read_csv, file, self._settings, column=self._service.column)
        except OSError as error:
            raise InvalidInput(f"the table {file.name} cannot be read: {error.strerror}") from None
        self._csv_changed = about.st_mtime
        return history

    @property
    def _key(self) -> str:
        """Of what is kept: that of another query, or of another server, is another load."""
        source = f"{self._prometheus.url if self._prometheus else ''}\n{self._service.query}"
        return f"{self._service.name}-{hashlib.sha256(source.encode()).hexdigest()[:16]}"


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


def _points(history: History | None, begin: float) -> tuple[FloatArray, FloatArray]:
    """Measured points from `begin` on."""
    if history is None:
        return np.empty(0), np.empty(0)
    times: FloatArray = history.start + np.arange(len(history), dtype=np.float64) * history.step
    kept = ~np.isnan(history.values) & (times >= begin)
    return times[kept], history.values[kept]
