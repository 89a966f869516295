"""One time series, cleaned once where it comes in, so that no later step meets an unsorted or infinite value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
import numpy.typing as npt

from errors import InvalidInput

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

MAX_POINTS = 200_000
"""Of one series: a week at a step of three seconds. The newest are kept."""
LAST_SECOND = 253_370_764_799.0
"""9998-12-31: later ones are no times, and a zone's offset may still be added."""
_MAX_TEXT = 300
_COUNTER_ENDINGS = ("_total", "_count", "_sum", "_bucket")


class Kind(StrEnum):
    GAUGE = "gauge"
    COUNTER = "counter"  # grows until its process begins again
    QUANTILE = "histogram-quantile"  # of a histogram, in the histogram's own unit


@dataclass(frozen=True, eq=False)
class MetricSeries:
    """A series. `times` are seconds since 1970 (UTC), ascending and without duplicates; `values` are as long, NaN where
    nothing was measured. `source` is the file or the query that it comes from. Make one with `of`."""

    name: str
    labels: Mapping[str, str]
    times: FloatArray
    values: FloatArray
    kind: Kind = Kind.GAUGE
    unit: str | None = None
    source: str = ""
    typed: bool = False  # the kind was told by who measured, not guessed from the name
    least: float = 0.0  # in its unit: nobody would notice a smaller change

    @classmethod
    def of(
        cls,
        name: str,
        labels: Mapping[str, str],
        times: Sequence[float] | FloatArray,
        values: Sequence[float] | FloatArray,
        *,
        kind: Kind | None = None,
        unit: str | None = None,
        source: str = "",
        least: float = 0.0,
    ) -> MetricSeries:
        """Any order of times; of points at one time the last counts; infinite values are gaps. Without a `kind` the
        name's ending decides as OpenMetrics has it (`_total`, `_count`, `_sum` and `_bucket` are counters).

        Raises InvalidInput when `times` and `values` differ in length or are not numbers, or a time is past the year
        9998.
        """
        try:
            at = np.asarray(times, dtype=np.float64).reshape(-1)
            measured = np.asarray(values, dtype=np.float64).reshape(-1)
        except (TypeError, ValueError, OverflowError):
            raise InvalidInput(f"the series {plain(name)[:100]!r} has times or values that are no numbers") from None
        if len(at) != len(measured):
            raise InvalidInput(
                f"the series {plain(name)[:100]!r} has {len(at)} times and {len(measured)} values: each needs one"
            )
        if at.size and np.nanmax(np.where(np.isfinite(at), np.abs(at), 0.0)) > LAST_SECOND:
            raise InvalidInput(f"the series {plain(name)[:100]!r} has times that are no seconds since 1970")
        if not np.isfinite(at).all():
            known = np.isfinite(at)
            at, measured = at[known], measured[known]
        if len(at) > 1 and not (np.diff(at) > 0).all():
            order = np.argsort(at, kind="stable")
            at, measured = at[order], measured[order]
            last = np.append(np.diff(at) > 0, True)
            at, measured = at[last], measured[last]
        at, measured = at[-MAX_POINTS:], measured[-MAX_POINTS:]
        if not np.isfinite(measured).all():
            measured = np.where(np.isfinite(measured), measured, np.nan)
        typed = kind is not None
        if kind is None:
            kind = Kind.COUNTER if name.endswith(_COUNTER_ENDINGS) else Kind.GAUGE
        clean = {plain(str(key)): plain(str(value)) for key, value in labels.items()}
        return cls(plain(name) or "unnamed", clean, at, measured, kind, unit, source, typed, least)

    @cached_property
    def key(self) -> str:
        """The name with its labels, as Prometheus writes it; unique within an input."""
        inside = ",".join(f'{name}="{value}"' for name, value in sorted(self.labels.items()))
        return f"{self.name}{{{inside}}}" if inside else self.name

    def __len__(self) -> int:
        return len(self.times)


def plain(text: str) -> str:
    """Outside text as one printable line: control and format characters become spaces, the rest is cut."""
    cut = text[:_MAX_TEXT]
    return cut if cut.isprintable() else "".join(sign if sign.isprintable() else " " for sign in cut).strip()
