"""Series of one CSV table. What forms there are, `load` says."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from diagnosis.metrics.edges import Edge
from diagnosis.metrics.series import FloatArray, MetricSeries, plain
from errors import InvalidInput

MAX_COLUMNS = 20_000
_TIMES = ("time", "timestamp", "ts", "datetime", "date", "@timestamp", "_time")
_NAMES = ("name", "metric", "__name__", "metric_name")
_VALUES = ("value", "_value", "val")
_ENDS = (("source", "target"), ("caller", "callee"), ("from", "to"))
_GAPS = {"", "nan", "null", "none", "na", "n/a", "-", "+inf", "-inf", "inf"}
_SHAPE = re.compile(r"^(?P<name>[^{]+)\{(?P<labels>.*)\}$", re.DOTALL)
_LABEL = re.compile(r'\s*([\w.-]+)\s*=\s*"((?:[^"\\]|\\.)*)"\s*,?')
_MEASURES = {
    "cpu", "mem", "memory", "disk", "fs", "net", "network", "latency", "request", "requests", "error", "errors", "http",
    "grpc", "rpc", "container", "pod", "node", "process", "go", "jvm", "kube", "kubelet", "istio", "up", "tcp",
    "socket", "load", "queue", "response", "success", "duration", "rate", "total", "syscall", "system", "value",
}  # fmt: skip
"""First words of a column that name what is measured, and so no service."""
_ZONE = re.compile(r" ([+-]\d{2}):?(\d{2})(?: [A-Z]{3,5})?(?: m=.*)?$")  # as Go's time.Time prints itself
_LAST_SECOND = 253_402_300_799.0  # 9999-12-31: later ones are no times
_FRACTION = re.compile(r"(\.\d{1,6})\d*")


@dataclass
class Table:
    series: list[MetricSeries] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)


def read_table(text: str, source: str) -> Table:
    """Raises InvalidInput when it has no header, no time column, or a time that cannot be read."""
    try:
        rows = list(csv.reader(io.StringIO(text)))
    except csv.Error as error:
        raise InvalidInput(f"it is no CSV table: {error}") from None
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    if not rows:
        raise InvalidInput("it is empty")
    header, body = [cell.strip() for cell in rows[0]], rows[1:]
    lower = [name.lower() for name in header]
    if len(header) > MAX_COLUMNS:
        raise InvalidInput(f"it has {len(header)} columns; {MAX_COLUMNS} are read at most")
    for first, second in _ENDS:
        if first in lower and second in lower and not set(lower) & {*_TIMES, *_VALUES}:
            at, to = lower.index(first), lower.index(second)
            ends = [(plain(row[at].strip()), plain(row[to].strip())) for row in body if len(row) > max(at, to)]
            return Table(edges=[Edge(caller, callee) for caller, callee in ends if caller and callee])
    clocks = [index for index, name in enumerate(lower) if name in _TIMES]
    if not clocks:
        raise InvalidInput(f"it has no time column: one of {', '.join(_TIMES)} is needed in the header")
    whole = [row for row in body if len(row) == len(header)]
    table = Table()
    if len(whole) < len(body):
        table.unseen.append(f"{source}: {len(body) - len(whole)} lines with another number of cells were left out")
    if not whole:
        raise InvalidInput("it has a header and no complete line")
    columns = list(zip(*whole, strict=True))
    # a written date says what it means; a number beside it may be in any unit
    clock = next((index for index in clocks if not _is_number(columns[index][0])), clocks[0])
    times = _times(columns[clock])
    taken = set(clocks)
    value = next((index for index, name in enumerate(lower) if name in _VALUES and index not in taken), None)
    called = next((index for index, name in enumerate(lower) if name in _NAMES and index not in taken), None)
    numbers = {index: array for index in range(len(header)) if index not in taken and index != called
               and (array := _numbers(columns[index])) is not None}  # fmt: skip
    if value is not None and called is not None:
        numbers = {index: array for index, array in numbers.items() if index == value}
    marks = [index for index in range(len(header)) if index not in taken and index not in numbers and index != called]
    groups = _groups([columns[index] for index in ([called] if called is not None else []) + marks], len(whole))
    services = _services([header[index] for index in numbers]) if not marks and called is None else {}
    for cells, chosen in groups:
        given = dict(zip([header[index] for index in marks], cells[1:] if called is not None else cells, strict=True))
        for index, array in numbers.items():
            name, labels = _named(cells[0] if called is not None else header[index], services)
            if not name or name.lower() in _VALUES:
                name = source.split(".")[0]
            labels |= {_label_name(key): cell.strip() for key, cell in given.items() if cell.strip()}
            table.series.append(MetricSeries.of(name, labels, times[chosen], array[chosen], source=source))
    return table


def _groups(columns: Sequence[Sequence[str]], rows: int) -> Iterable[tuple[tuple[str, ...], npt.NDArray[np.intp]]]:
    if not columns:
        return [((), np.arange(rows))]
    members: dict[tuple[str, ...], list[int]] = {}
    for row, key in enumerate(zip(*columns, strict=True)):
        members.setdefault(key, []).append(row)
    return [(key, np.array(chosen)) for key, chosen in members.items()]


def _named(column: str, services: dict[str, tuple[str, dict[str, str]]]) -> tuple[str, dict[str, str]]:
    if found := _SHAPE.match(column):
        return found["name"].strip(), dict(_LABEL.findall(found["labels"]))
    if column in services:
        metric, labels = services[column]
        return metric, dict(labels)
    return column, {}


def _services(columns: list[str]) -> dict[str, tuple[str, dict[str, str]]]:
    """Column to metric and labels of those in the form `service_metric`, whose first word is no measure; or in the form
    `caller_callee`, where a name stands on both sides: then the metric has the file's name."""
    parts = {column: column.partition("_")[::2] for column in columns if "_" in column and "{" not in column}
    parts = {column: (first, rest) for column, (first, rest) in parts.items() if first and rest}
    firsts = {first for first, _ in parts.values()}
    if any(first.lower() in _MEASURES for first in firsts):
        return {}
    if firsts & {rest for _, rest in parts.values()}:
        return {
            column: ("", {"source_workload": first, "destination_workload": rest})
            for column, (first, rest) in parts.items()
        }
    return {column: (rest, {"service": first}) for column, (first, rest) in parts.items()}


def _label_name(header: str) -> str:
    """`PodName` and `pod name` are the label `pod`."""
    plainly = header.lower().replace(" ", "").replace("_", "")
    known = {"podname": "pod", "nodename": "node", "servicename": "service", "containername": "container"}
    return known.get(plainly, header)


def _numbers(cells: Sequence[str]) -> FloatArray | None:
    """The column as numbers; None when it holds words, or nothing at all."""
    try:
        return np.array(cells, dtype=np.float64)
    except ValueError:
        pass
    plainly = [cell.strip() for cell in cells]
    gaps = [cell.lower() in _GAPS for cell in plainly]
    try:
        found = np.array([np.nan if gap else float(cell) for cell, gap in zip(plainly, gaps, strict=True)])
    except ValueError:
        return None
    return found if not all(gaps) or all(not cell for cell in plainly) else None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _times(cells: Sequence[str]) -> FloatArray:
    """Seconds since 1970. Numbers may be seconds, or milli-, micro- or nanoseconds by their size; a date without a zone
    is UTC."""
    numbers = _numbers(cells)
    if numbers is not None:
        largest = float(np.nanmax(np.abs(numbers))) if np.isfinite(numbers).any() else 0.0
        for unit in (1e9, 1e6, 1e3):
            if largest >= 1e8 * unit:
                numbers = np.asarray(numbers / unit, dtype=np.float64)
                break
        if np.isfinite(numbers).any() and float(np.nanmax(np.abs(numbers))) > _LAST_SECOND:
            raise InvalidInput("a time lies beyond the year 9999: ISO 8601 or seconds since 1970 are read")
        return numbers
    return np.array([_date(cell.strip()) for cell in cells], dtype=np.float64)


def _date(cell: str) -> float:
    written = _ZONE.sub(r"\1:\2", cell)
    try:
        at = datetime.fromisoformat(_FRACTION.sub(r"\1", written).replace("Z", "+00:00"))
    except ValueError:
        raise InvalidInput(f"{plain(cell)[:40]!r} is no time: ISO 8601 or seconds since 1970 are read") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
