"""How far each series went from its usual: a robust two-sided shift in units of its own noise.

The scale of a series is the largest of its median absolute deviation, of how far medians as short as the incident's
stray in the baseline by themselves, and of a small share of its own size. So no score depends on a unit, none is
infinite, and a series that is always restless has to do more than it always does. (The robust score with a floor is
that of rca literature's simple baselines, e.g. BARO's RobustScorer, arXiv 2405.09330; medians over blocks as the noise
of a shift at the same time scale are this module's own.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from diagnosis.metrics.series import BoolArray, FloatArray

FLOOR = 0.05
"""Of the baseline's median: a smaller relative change is none, however still the series was."""
_SPAN_FLOOR = 0.005
"""Of the largest value: bounds the score at 200 where the baseline is zero."""
_MAD = 1.4826  # a normal distribution's standard deviation in median absolute deviations
_RESTLESS = 0.75
_RESTLESS_SIGMA = 1.1503  # the same quantile of a normal distribution's absolute values
_BLOCKS, _BLOCKS_OF_ALL = 32, 64
_SPARSE = 0.8
_FEWEST, _TOLD = 3, 10
"""Values before the onset that a series needs: ten, or half of a shorter baseline. One that has just begun is at its
beginning, not at its usual."""
_JUST_BEFORE = 3
"""Bins before the onset. A change from the baseline that is none from these counts half: it is what an earlier
disturbance left."""


@dataclass(frozen=True, eq=False)
class Shift:
    """One number a series. `score` is non-negative and finite, `sign` 1 or -1; NaN medians where nothing was."""

    score: FloatArray
    sign: FloatArray
    before: FloatArray
    after: FloatArray
    scale: FloatArray


@dataclass(frozen=True, eq=False)
class Blocks:
    """What is shared by every onset that is looked at: medians of overlapping blocks of one width all over a matrix
    (column i is of the bins from `starts[i]` on), whether it has no gap, and whether it has a zero."""

    width: int
    starts: npt.NDArray[np.intp]
    medians: FloatArray
    whole: bool
    zeros: bool

    @classmethod
    def of(cls, values: FloatArray, width: int, whole: bool) -> Blocks:
        """`before` takes what lies before an onset."""
        starts = evenly(max(0, values.shape[1] - width + 1), _BLOCKS_OF_ALL)
        return cls(width, starts, _medians_at(values, starts, width), whole, bool((values == 0).any()))

    def before(self, end: int) -> FloatArray:
        """The medians of blocks that end before a bin."""
        return self.medians[:, : int(self.starts.searchsorted(end - self.width, "right"))]


def shifts(
    values: FloatArray,
    onset: int,
    ends: Sequence[int],
    usual_end: int | None = None,
    every: Blocks | None = None,
    floors: FloatArray | None = None,
) -> Shift:
    """Compare columns [onset, end) of a (series, bins) matrix with those before `usual_end`, by default all before the
    onset; of several ends, ascending, that counts for each series with which it shows most. The noise is that of blocks
    as wide as the first; `every` holds such of the whole matrix where several onsets are looked at. `floors` is for
    each series what its noise counts as at least. Series without a value after the onset, or with fewer before it than
    tell what is usual, have score zero."""
    end_of_usual = onset if usual_end is None else min(usual_end, onset)
    usual = values[:, :end_of_usual]
    whole = every is not None and every.whole  # then nothing has to be looked for that gaps would need
    before = median(usual)
    scale = np.maximum(_MAD * median(_distance(usual, before)), FLOOR * np.abs(before))
    if floors is not None:
        scale = np.fmax(scale, floors)
    width = ends[0] - onset
    shared = every is not None and every.width == width and end_of_usual >= 3 * width
    blocks = every.before(end_of_usual) if shared and every is not None else _block_medians(usual, width)
    if blocks.shape[1] >= 4:
        scale = np.fmax(scale, quantile(_distance(blocks, before), _RESTLESS) / _RESTLESS_SIGMA)
    scale = np.fmax(scale, _SPAN_FLOOR * _largest(values[:, : ends[-1]]))
    # a series that is nearly always zero: a single increment counts, which a median would not see, unless there were
    # as many at other times. What holds for most of the incident is compared with what held as long before: a short
    # burst earlier, as when the program started, does not hide it
    sparse = _sparse(usual) if every is None or every.zeros else None
    rare = scale
    if sparse is not None:
        rare = np.fmax(scale, _busiest(usual, ends[0] - onset))
        held = np.fmax.reduce(blocks, axis=1, initial=0.0) if blocks.shape[1] else rare
        scale = np.where(sparse, np.fmax(scale, held), scale)
    just_before = median(values[:, max(0, onset - _JUST_BEFORE) : onset])
    needed = max(_FEWEST, min(_TOLD, usual.shape[1] // 2))
    told = usual.shape[1] >= needed if whole else (~np.isnan(usual)).sum(axis=1) >= needed
    after = np.array([_held(values[:, onset:end], whole) for end in ends])
    units = np.broadcast_to(scale, after.shape)
    if sparse is not None:
        single = sparse & (after == 0)
        after = np.where(single, np.array([_mean(values[:, onset:end]) for end in ends]), after)
        units = np.where(single, rare, scale)
    change, fresh = after - before, after - just_before
    if not whole:
        fresh = np.where(np.isnan(fresh), change, fresh)
    far = np.abs(change)
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = (far + np.where(change * fresh > 0, np.minimum(far, np.abs(fresh)), 0.0)) / 2 / units
    scores = np.where(np.isfinite(scores) & told, scores, 0.0)
    most = scores.argmax(axis=0), np.arange(len(values))
    sign = np.where(after[most] >= before, 1.0, -1.0)
    return Shift(scores[most], sign, before, after[most], units[most])


def _distance(values: FloatArray, middle: FloatArray) -> FloatArray:
    found: FloatArray = values - middle[:, None]
    return np.abs(found, out=found)


def _sparse(usual: FloatArray) -> BoolArray | None:
    """Series that are nearly always zero; None when none is."""
    zero = usual == 0
    if not zero.any():
        return None
    sparse: BoolArray = zero.sum(axis=1) >= _SPARSE * np.maximum(1, (~np.isnan(usual)).sum(axis=1))
    return sparse if sparse.any() else None


def median(values: FloatArray) -> FloatArray:
    """Along rows, without NaN; NaN for a row of them. numpy's nanmedian takes fifty times as long on small rows."""
    return quantile(values, 0.5)


@lru_cache(maxsize=256)
def evenly(length: int, most: int) -> npt.NDArray[np.intp]:
    """Indices of a sequence, at most so many, from its first to its last."""
    found = np.unique(np.linspace(0, length - 1, min(length, most)).astype(np.intp))
    found.flags.writeable = False
    return found


def quantile(values: FloatArray, share: float) -> FloatArray:
    """Along rows, without NaN, between neighbours linear."""
    rows, columns = values.shape
    if columns == 0:
        return np.full(rows, np.nan)
    ordered = values.copy()
    ordered.sort(axis=1)  # on few columns the function np.sort takes twice as long
    if not np.isnan(ordered[:, -1]).any():  # NaN sorts last: here there is none, and all rows have the same places
        at = (columns - 1) * share
        lower = ordered[:, int(at)]
        if at == int(at):
            return lower.copy()  # a view would hold all of the sorted values
        between: FloatArray = lower + (ordered[:, int(at) + 1] - lower) * (at - int(at))
        return between
    count = columns - np.isnan(ordered).sum(axis=1)
    place = np.maximum(count - 1, 0) * share
    low = place.astype(np.intp)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    index = np.arange(rows)
    lower = ordered[index, low]
    found: FloatArray = lower + (ordered[index, high] - lower) * (place - low)
    return found


def _held(now: FloatArray, whole: bool) -> FloatArray:
    """The medians of what came after the onset. Any one value may be a spike, so one that gaps left alone says nothing:
    NaN."""
    found = median(now)
    if whole or now.shape[1] < 2:
        return found
    return np.where(now.shape[1] - np.isnan(now).sum(axis=1) < 2, np.nan, found)


def _largest(values: FloatArray) -> FloatArray:
    if values.shape[1] == 0:
        return np.full(len(values), np.nan)
    found: FloatArray = np.abs(values).max(axis=1)
    if np.isnan(found).any():
        found = np.fmax.reduce(np.abs(values), axis=1, initial=0.0)
    return found


def _mean(values: FloatArray) -> FloatArray:
    known: BoolArray = ~np.isnan(values)
    counts = known.sum(axis=1)
    sums = np.where(known, values, 0.0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _busiest(values: FloatArray, width: int) -> FloatArray:
    """The largest mean of a block of a width, or of as many values as there are."""
    width = max(1, min(width, values.shape[1]))
    if not values.shape[1]:
        return np.zeros(len(values))
    sums = np.cumsum(np.where(np.isnan(values), 0.0, np.abs(values)), axis=1)
    sums = np.concatenate((np.zeros((len(values), 1)), sums), axis=1)
    found: FloatArray = (sums[:, width:] - sums[:, :-width]).max(axis=1) / width
    return found


def _block_medians(values: FloatArray, width: int) -> FloatArray:
    """Medians of overlapping blocks as wide as the incident, at most a third of the baseline, at most `_BLOCKS`."""
    length = values.shape[1]
    width = max(1, min(width, length // 3))
    count = length - width + 1
    if count < 4 or width < 1:
        return np.empty((len(values), 0))
    return _medians_at(values, evenly(count, _BLOCKS), width)


def _medians_at(values: FloatArray, starts: npt.NDArray[np.intp], width: int) -> FloatArray:
    # of a wide block the median of thirty values tells as much
    columns = starts[:, None] + evenly(width, 15)
    chosen = values[:, columns]
    return median(chosen.reshape(-1, chosen.shape[2])).reshape(len(values), -1)
