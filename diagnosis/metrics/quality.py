"""What an answer rests on, and what weakens it."""

from __future__ import annotations

from collections.abc import Sequence

from diagnosis.metrics.grid import Grid
from diagnosis.metrics.history import ENOUGH
from diagnosis.metrics.series import MetricSeries
from incidents.metric_report import DataQuality

_MISSING = 0.2


def quality_of(
    series: Sequence[MetricSeries],
    used: Sequence[MetricSeries],
    grid: Grid,
    onset: int,
    usual_end: int,
    contaminated: bool,
    history: str,
    lacking: bool,
) -> DataQuality:
    """`history` says what is missing of it, empty for nothing; `lacking` whether so much that nothing can be said."""
    warnings = [history] if history else []
    cut = len(series) - len(used)
    if cut:
        warnings.append(f"only the first {len(used)} of {len(series)} series were analyzed")
    if grid.unusable:
        warnings.append(f"{grid.unusable} series have fewer than five values in the range")
    too_short = usual_end < ENOUGH or lacking
    if usual_end < ENOUGH:
        warnings.append(f"the baseline has only {usual_end} samples: {ENOUGH} or more tell what is usual")
    if grid.missing_share > _MISSING:
        warnings.append(f"{grid.missing_share:.0%} of the samples are missing")
    if contaminated:
        warnings.append("the baseline holds an earlier disturbance: what is usual is known less well")
    return DataQuality(
        series=len(series),
        used=len(grid.series),
        cut=cut,
        unusable=grid.unusable,
        step_seconds=round(grid.step, 6),
        missing_share=round(grid.missing_share, 4),
        baseline_samples=usual_end,
        incident_samples=grid.bins - onset,
        baseline_too_short=too_short,
        baseline_contaminated=contaminated,
        warnings=warnings,
    )
