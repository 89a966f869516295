"""Load prediction on recorded loads, 24 h ahead from rolling origins, beside what needs no forecast.

    python -m benchmarks.forecast [FOLDER] [--days 84] [--no-boosting]

FOLDER (or PARAMEDIC_BENCHMARK_DATA) holds the Numenta Anomaly Benchmark (https://github.com/numenta/NAB, its `data`
folder somewhere below). 56 origins over the newest 28 days of a series; what is known at an origin is its past alone,
`--days` of it; the predictor is trained again every other day. MASE is over the error of the day before as a forecast,
before the first origin. Instances bear a tenth of the load's 95th percentile each: `under` is the share of intervals
with fewer than the load needs, `deficit` the share of needed instance-intervals that was missing, `waste` the share
that was too much. `covered` is the share of loads below the upper quantile (95 %), and within the 80 % interval.
Prints tables and one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from diagnosis.metrics.forecast.backtest import MAX_ORIGINS
from diagnosis.metrics.forecast.history import History
from diagnosis.metrics.forecast.predictor import Predictor, train
from diagnosis.metrics.forecast.seasonal import Forecaster, last_value, repeated
from diagnosis.metrics.forecast.table import read_load
from diagnosis.metrics.series import FloatArray

SERIES = ("realKnownCause/nyc_taxi", "realTweets/Twitter_volume_GOOG", "realAWSCloudwatch/elb_request_count_8c0756")
TEST_DAYS = {"elb_request_count_8c0756": 4}
PLAIN: dict[str, tuple[Forecaster, float]] = {
    "reactive (last value)": (last_value, 1.0),
    "reactive + 30 %": (last_value, 1.3),
    "day naive": (repeated(1, 1, np.median), 1.0),
    "week naive": (repeated(7, 1, np.median), 1.0),
    "mean of 4 weeks": (repeated(7, 4, np.mean), 1.0),
}


def row(
    actual: FloatArray, forecast: FloatArray, given: FloatArray, unit: float, scale: float, hour: int
) -> dict[str, float]:
    """Figures of forecasts (origins, steps) and of the loads `given` that instances were made for."""
    need, have = np.ceil(actual / unit), np.ceil(given / unit)
    wrong = np.abs(forecast - actual)
    return {
        "mase_24h": float(np.nanmean(wrong)) / scale,
        "mase_1h": float(np.nanmean(wrong[:, :hour])) / scale,
        "under": float(np.mean(have < need)),
        "deficit": float(np.maximum(need - have, 0).sum() / need.sum()),
        "waste": float(np.maximum(have - need, 0).sum() / need.sum()),
    }


def measure(whole: History, days: float, test_days: float, boosting: bool) -> dict[str, dict[str, float]]:
    day, points = whole.day, len(whole)
    first = points - round(test_days * day)
    count = min(MAX_ORIGINS, round(2 * test_days))
    origins = np.linspace(first, points - day, count).astype(int)
    actual = np.stack([whole.filled[origin : origin + day] for origin in origins])
    before = whole.filled[:first]
    scale = float(np.mean(np.abs(before[day:] - before[:-day])))
    unit = float(np.percentile(whole.filled, 95)) / 10
    hour = max(1, day // 24)
    found = {}
    for name, (forecaster, headroom) in PLAIN.items():
        made = np.stack([forecaster(whole.until(int(origin)), day) for origin in origins])
        found[name] = row(actual, made, made * headroom, unit, scale, hour)
    predictor: Predictor | None = None
    bands, spent = [], []
    for number, origin in enumerate(origins):
        known = _last(whole.until(int(origin)), round(days * day))
        if number % 4 == 0:
            began = time.process_time()
            predictor, why = train(known, boosting=boosting)
            spent.append(time.process_time() - began)
            if predictor is None:
                raise SystemExit(f"no predictor: {why}")
        assert predictor is not None
        bands.append(predictor.predict(known, day))
    assert predictor is not None
    forecast, upper, lower, higher = (
        np.stack([getattr(band, name) for band in bands]) for name in ("forecast", "upper", "lower", "higher")
    )
    found["forecast"] = row(actual, forecast, forecast, unit, scale, hour)
    found["forecast, upper quantile"] = row(actual, forecast, upper, unit, scale, hour) | {
        "covered_95": float(np.mean(actual <= upper)),
        "covered_80": float(np.mean((lower <= actual) & (actual <= higher))),
        "train_cpu_seconds": float(np.mean(spent)),
    }
    print(f"  answered by: {', '.join(f'{one.range}: {one.name}' for one in predictor.choices)}")
    return found


def _last(history: History, points: int) -> History:
    cut = max(0, len(history) - points)
    return History(history.start + cut * history.step, history.step, history.values[cut:], history.filled[cut:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=os.environ.get("PARAMEDIC_BENCHMARK_DATA"))
    parser.add_argument("--days", type=float, default=84.0, help="of history that is known at an origin")
    parser.add_argument("--no-boosting", action="store_true")
    arguments = parser.parse_args()
    if not arguments.folder:
        print("left out: name the folder of the Numenta Anomaly Benchmark, or set PARAMEDIC_BENCHMARK_DATA")
        return
    result: dict[str, object] = {"benchmark": "forecast", "history_days": arguments.days}
    for name in SERIES:
        file = next(iter(sorted(Path(arguments.folder).glob(f"**/{name}.csv"))), None)
        if file is None:
            print(f"{name}: not below {arguments.folder}")
            continue
        times, loads = read_load(file.read_text(encoding="utf-8"), file.name)
        short = name.rpartition("/")[2]
        history = History.of(times, loads)
        print(f"{short}: {history.days:.0f} days at {history.step / 60:g} min")
        found = measure(history, arguments.days, TEST_DAYS.get(short, 28), not arguments.no_boosting)
        print(f"  {'':<26}MASE 24 h   (1 h)   under  deficit   waste")
        for method, figures in found.items():
            under, deficit, waste = (100 * figures[key] for key in ("under", "deficit", "waste"))
            print(
                f"  {method:<26}{figures['mase_24h']:9.3f} {figures['mase_1h']:7.3f} "
                f"{under:6.1f}% {deficit:7.1f}% {waste:6.1f}%"
            )
        own = found["forecast, upper quantile"]
        print(
            f"  covered: {own['covered_95']:.1%} of 95 %, {own['covered_80']:.1%} of 80 %; "
            f"training {own['train_cpu_seconds']:.1f} s of CPU"
        )
        result[short] = {method: {key: round(value, 4) for key, value in row.items()} for method, row in found.items()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
