"""The load of a CSV table: a time column and a column of numbers."""

from __future__ import annotations

import csv
import io
import math
from datetime import UTC, datetime

import numpy as np

from diagnosis.metrics.series import FloatArray, plain
from errors import InvalidInput

MAX_ROWS = 5_000_000
_TIMES = ("time", "timestamp", "ts", "datetime", "date", "@timestamp", "_time")
_VALUES = ("value", "_value", "qps", "load", "requests")
_GAPS = {"", "nan", "null", "none", "na", "n/a", "-"}


def read_load(text: str, source: str, *, column: str | None = None) -> tuple[FloatArray, FloatArray]:
    """(times in seconds since 1970, loads), in the file's order; an empty cell is a gap, NaN.

    Times are ISO 8601 (one without a zone is UTC) or seconds or milliseconds since 1970. `column` names the load; else
    it is called `value`, `qps`, `load` or `requests`, or is the only other one. Raises InvalidInput that names the
    line of what cannot be read.
    """
    lines = csv.reader(io.StringIO(text.removeprefix("\ufeff")))
    times: list[float] = []
    loads: list[float] = []
    try:
        header = [cell.strip() for cell in next(lines, [])]
        clock, value = _columns(header, column, source)
        for row in lines:
            if not any(cell.strip() for cell in row):
                continue
            where = f"{source}, line {lines.line_num}"
            if len(row) != len(header):
                raise InvalidInput(f"{where}: {len(row)} cells, and the header has {len(header)}")
            if len(times) >= MAX_ROWS:
                raise InvalidInput(f"{source} has more than {MAX_ROWS} rows")
            times.append(_time(row[clock], where))
            loads.append(_load(row[value], where))
    except csv.Error as error:
        raise InvalidInput(f"{source}, line {lines.line_num}: it is no CSV table: {error}") from None
    if not times:
        raise InvalidInput(f"{source} has no row below its header")
    return np.array(times), np.array(loads)


def _columns(header: list[str], column: str | None, source: str) -> tuple[int, int]:
    lower = [name.lower() for name in header]
    clock = next((index for index, name in enumerate(lower) if name in _TIMES), None)
    if clock is None:
        raise InvalidInput(f"{source} has no time column: one of {', '.join(_TIMES)} is needed in its first line")
    if column is not None:
        if column not in header:
            raise InvalidInput(f"{source} has no column {plain(column)!r}")
        return clock, header.index(column)
    value = next((index for index, name in enumerate(lower) if name in _VALUES), None)
    if value is None and len(header) == 2:
        value = 1 - clock
    if value is None:
        raise InvalidInput(f"{source} has {len(header)} columns: name the one with the load")
    return clock, value


def _time(cell: str, where: str) -> float:
    try:
        number = float(cell)
    except ValueError:
        try:
            at = datetime.fromisoformat(cell.strip())
            return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            raise InvalidInput(f"{where}: {plain(cell)[:40]!r} is no time") from None
    seconds = number / 1000 if abs(number) >= 1e11 else number
    if not math.isfinite(seconds) or not 0 <= seconds < 1e11:
        raise InvalidInput(f"{where}: {plain(cell)[:40]!r} is no time")
    return seconds


def _load(cell: str, where: str) -> float:
    try:
        return float(cell)
    except ValueError:
        if cell.strip().lower() in _GAPS:
            return math.nan
        raise InvalidInput(f"{where}: {plain(cell)[:40]!r} is no number") from None
