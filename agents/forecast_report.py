"""From a history and its trained predictor to an answer: instances, trend, and how far to believe them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from diagnosis.metrics.forecast.drift import Drift
from diagnosis.metrics.forecast.history import MAX_LOAD, History
from diagnosis.metrics.forecast.instances import size
from diagnosis.metrics.forecast.predictor import Choice, Predictor
from errors import InvalidInput
from incidents.forecast import BackTestReport, DriftReport, Prediction, ServiceInfo, Trend, TrendPoint
from settings import ForecastService

_FRESH_SECONDS = 900.0
"""A load of the history that was measured longer ago is not the present one."""
_ASKED = timedelta(seconds=90)
"""So near the moment an answer to what the load is counts as that."""
LONGEST = timedelta(days=7)


@dataclass(frozen=True)
class Bounds:
    per_instance: float
    least: int
    most: int
    quantile: float


@dataclass(frozen=True)
class Known:
    """What is known of a service. `predictor` fits `history`; `why` says why there is none. `present` is when the load
    was asked for by itself, and the answer."""

    history: History | None = None
    predictor: Predictor | None = None
    why: str = "no history is configured: set forecast.services"
    trained_at: datetime | None = None
    drift: Drift | None = None
    present: tuple[datetime, float] | None = None


def predict(
    known: Known,
    bounds: Bounds,
    *,
    service: str | None,
    at: datetime,
    horizon: timedelta,
    current: float | None,
    reasons: list[str],
) -> Prediction:
    """The answer at a time. `reasons` are added to those that show here.

    Raises InvalidInput when neither the present load nor the one to come is known.
    """
    if current is not None and not 0 <= current <= MAX_LOAD:
        raise InvalidInput("current_qps must be a load: not negative, and a number")
    reasons = list(reasons)
    past = _past(known.history, at)
    if current is None:
        current = _present(known, past, at)
    forecast = lower = higher = upper = None
    choice: Choice | None = None
    target = at + horizon
    if known.predictor is None or past is None:
        reasons.append(known.why if known.predictor is None else "the history begins after the time that is asked for")
    else:
        steps = max(1, math.floor((target.timestamp() - past.end) / past.step) + 1)
        if steps > known.predictor.longest:
            reasons.append(
                f"the history ends {_ago(target.timestamp() - past.end)} before the time that is asked for, and it is "
                f"long enough for forecasts of {_ago(known.predictor.longest * past.step)}"
            )
        else:
            choice = known.predictor.choice(steps)
            band = known.predictor.predict(past, steps)
            forecast, lower, higher, upper = (
                round(float(part[-1]), 6) for part in (band.forecast, band.lower, band.higher, band.upper)
            )
            reasons += _doubts(known, choice)
    sizing = size(current, upper, per_instance=bounds.per_instance, least=bounds.least, most=bounds.most)
    if sizing.reactive is None and sizing.forecast is None:
        raise InvalidInput(f"current_qps is needed: {'; '.join(reasons)}")
    if current is None:
        reasons.append(f"the load of that time is not known: {_newest(past)}")
    if sizing.branch == "maximum":
        reasons.append(f"max_instances is {bounds.most}; the load asks for more")
    return Prediction(
        service=service,
        instances=sizing.instances,
        decided_by=sizing.branch,
        reactive_instances=sizing.reactive,
        forecast_instances=sizing.forecast,
        per_instance=bounds.per_instance,
        min_instances=bounds.least,
        max_instances=bounds.most,
        current_qps=current,
        timestamp=at,
        target_time=target,
        horizon=horizon.total_seconds(),
        forecast_qps=forecast,
        lower_qps=lower,
        higher_qps=higher,
        upper_qps=upper,
        quantile=bounds.quantile,
        confidence=_measured(choice.coverage) if choice else None,
        model_version=_version(choice, known),
        trained_at=known.trained_at if known.predictor else None,
        history_days=round(known.history.days, 2) if known.history else 0.0,
        back_test=back_test_report(choice) if choice else None,
        drift=drift_report(known.drift),
        features=_features(past, at),
        reasons=reasons,
    )


def trend(
    known: Known,
    bounds: Bounds,
    *,
    service: str | None,
    at: datetime,
    hours: int,
    current: float | None,
    reasons: list[str],
) -> Trend:
    """The next hours: of each the greatest load to come, and the instances for it."""
    reasons = list(reasons)
    past = _past(known.history, at)
    if current is None:
        current = _present(known, past, at)
    points: list[TrendPoint] = []
    choice: Choice | None = None
    if known.predictor is None or past is None:
        reasons.append(known.why if known.predictor is None else "the history begins after the time that is asked for")
    else:
        end = at.timestamp() + hours * 3600
        steps = max(1, math.ceil((end - past.end) / past.step))
        band = known.predictor.predict(past, steps)
        reached = len(band.times)
        choice = known.predictor.choice(reached)
        for hour in range(hours):
            begin = at.timestamp() + hour * 3600
            inside = np.flatnonzero((band.times >= begin - past.step / 2) & (band.times < begin + 3600 - past.step / 2))
            if not len(inside):
                continue
            top = inside[np.argmax(band.upper[inside])]
            upper = float(band.upper[top])
            sized = size(None, upper, per_instance=bounds.per_instance, least=bounds.least, most=bounds.most)
            points.append(
                TrendPoint(
                    timestamp=datetime.fromtimestamp(begin, UTC),
                    qps=round(float(band.forecast[top]), 6),
                    lower_qps=round(float(band.lower[top]), 6),
                    higher_qps=round(float(band.higher[top]), 6),
                    upper_qps=round(upper, 6),
                    instances=sized.instances,
                )
            )
        if reached < steps:
            reasons.append(f"the history is long enough for forecasts of {_ago(reached * past.step)} after its end")
        reasons += _doubts(known, choice)
    return Trend(
        service=service,
        hours_ahead=hours,
        timestamp=at,
        current_qps=current,
        points=points,
        max_instances_needed=max((point.instances for point in points), default=None),
        quantile=bounds.quantile,
        confidence=_measured(choice.coverage) if choice else None,
        model_version=_version(choice, known),
        back_test=back_test_report(choice) if choice else None,
        reasons=reasons,
    )


def service_info(service: ForecastService, known: Known) -> ServiceInfo:
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


def back_test_report(choice: Choice) -> BackTestReport:
    return BackTestReport(
        range=choice.range,
        members=list(choice.members),
        mae=round(choice.mae, 6),
        seasonal_naive=choice.reference,
        seasonal_naive_mae=round(choice.reference_mae, 6),
        skill=round(choice.skill, 4),
        beats_seasonal_naive=choice.beats_reference,
        mase={name: round(score, 4) for name, score in choice.scores.items() if math.isfinite(score)},
        origins=choice.origins,
        coverage=_measured(choice.coverage),
        interval_coverage=_measured(choice.interval_coverage),
    )


def drift_report(drift: Drift | None) -> DriftReport | None:
    if drift is None:
        return None
    within, mae = round(drift.within, 4), round(drift.mae, 6)
    return DriftReport(drifted=drift.drifted, within=within, mae=mae, usual_mae=round(drift.usual_mae, 6))


def _doubts(known: Known, choice: Choice) -> list[str]:
    found = list(known.history.notes) if known.history else []
    if not choice.beats_reference:
        found.append(
            f"the forecast is no better than {choice.reference} in the back-test: its mean error is {choice.mae:.4g}, "
            f"that of {choice.reference} {choice.reference_mae:.4g}"
        )
    if known.drift is not None and known.drift.drifted:
        found.append(
            f"the load drifts from its history: {known.drift.within:.0%} of the newest day is within the interval "
            f"that should hold {known.drift.expected:.0%}"
        )
    return found


def _past(history: History | None, at: datetime) -> History | None:
    """What was known at a time; None when nothing was."""
    if history is None:
        return None
    points = math.floor((at.timestamp() - history.start) / history.step) + 1
    return history if points >= len(history) else history.until(points) if points > 0 else None


def _present(known: Known, past: History | None, at: datetime) -> float | None:
    if known.present is not None and abs(at - known.present[0]) <= _ASKED:  # it may be asked for by this very question
        return known.present[1]
    if past is None:
        return None
    newest = float(past.values[-1])
    fresh = at.timestamp() - past.end <= max(_FRESH_SECONDS, 2 * past.step)
    return newest if fresh and math.isfinite(newest) else None


def _newest(past: History | None) -> str:
    if past is None:
        return "nothing was measured by then"
    return f"the newest of the history is of {datetime.fromtimestamp(past.end - past.step, UTC):%Y-%m-%d %H:%M} UTC"


def _features(past: History | None, at: datetime) -> dict[str, float | None]:
    found: dict[str, float | None] = {"hour": at.hour + at.minute / 60, "weekday": float(at.weekday())}
    for name, ago in (("qps_1h_ago", 3600.0), ("qps_1d_ago", 86_400.0), ("qps_1w_ago", 604_800.0)):
        load = None
        if past is not None:
            index = math.floor((at.timestamp() - ago - past.start) / past.step)
            if 0 <= index < len(past) and math.isfinite(past.values[index]):
                load = float(past.values[index])
        found[name] = load
    return found


def _version(choice: Choice | None, known: Known) -> str:
    if choice is None:
        return "reactive"
    return f"{choice.name} @ {known.trained_at:%Y-%m-%dT%H:%M:%SZ}" if known.trained_at else choice.name


def _measured(share: float) -> float | None:
    return round(share, 4) if math.isfinite(share) else None


def _ago(seconds: float) -> str:
    return f"{seconds / 86_400:.1f} days" if seconds >= 172_800 else f"{seconds / 3600:.1f} hours"
