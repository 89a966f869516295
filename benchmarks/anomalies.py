"""Anomaly detection, streaming, on the Numenta Anomaly Benchmark: one alert an episode beside plain detectors.

    python -m benchmarks.anomalies [--data FOLDER]      or PARAMEDIC_BENCH_DATA=FOLDER

FOLDER holds `nab/data` and `nab/labels/combined_windows.json`: https://github.com/numenta/NAB, folders `data` and
`labels`. The scorer is written from NAB's description (Lavin & Ahmad, arXiv 1510.03336): a window's earliest detection
counts, weighted by how early it is; false ones cost the more the farther they are from a window; the first 15 % of a
file are probation; one threshold for all files, the best. The set's own detectors' outputs are not needed: as a check
of the scorer it computes NAB's Windowed Gaussian anew, published as 39.6 / 20.9 / 47.4.

The form of the streaming score (value, level, spread; a quiet time of 144 samples) was chosen on all files of this set;
its threshold on each half of the files is given to the other half in the line `other half`.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from diagnosis.metrics.series import FloatArray
from diagnosis.metrics.streaming import QUIET, scores

# reward of a true, cost of a false positive, cost of a missed window
PROFILES = {"standard": (1.0, 0.11, 1.0), "low_fp": (1.0, 0.22, 1.0), "low_fn": (1.0, 0.11, 2.0)}


@dataclass(frozen=True)
class File:
    name: str
    values: FloatArray
    windows: list[tuple[int, int]]  # first and last sample of each labelled anomaly

    @property
    def probation(self) -> int:
        return min(math.floor(0.15 * len(self.values)), 750)


def read(folder: Path) -> list[File]:
    labels = json.loads((folder / "labels/combined_windows.json").read_text())
    found = []
    for name in sorted(labels):
        rows = list(csv.reader((folder / "data" / name).open()))[1:]
        at = np.array([datetime.fromisoformat(row[0]).timestamp() for row in rows])
        ends = [[datetime.fromisoformat(end[:19]).timestamp() for end in window] for window in labels[name]]
        inside = [np.flatnonzero((at >= first) & (at <= last)) for first, last in ends]
        windows = [(int(places[0]), int(places[-1])) for places in inside]
        found.append(File(name, np.array([float(row[1]) for row in rows]), windows))
    return found


def _sigmoid(place: FloatArray) -> FloatArray:
    return 2 / (1 + np.exp(np.minimum(5 * place, 700))) - 1


def worth(file: File, true: float, false: float) -> tuple[FloatArray, FloatArray]:
    """What a detection at each sample is worth, and the number of the window it lies in, -1 outside."""
    index = np.arange(len(file.values))
    value, inside = np.full(len(index), -false), np.full(len(index), -1)
    highest = float(_sigmoid(np.array([-1.0]))[0])
    for number, (first, last) in enumerate(file.windows):
        width = last - first + 1
        value[first : last + 1] = _sigmoid(-(last - index[first : last + 1] + 1) / width) * true / highest
        inside[first : last + 1] = number
        following = file.windows[number + 1][0] if number + 1 < len(file.windows) else len(index)
        past = (index[last + 1 : following] - last) / max(width - 1, 1)
        value[last + 1 : following] = np.where(past > 3, -1.0, _sigmoid(past)) * false
    return value, inside


def nab(
    files: list[File], outputs: list[FloatArray], profile: str, threshold: float | None = None
) -> tuple[float, float]:
    """(score of 100, the threshold): the best threshold, or the score at the one given. -inf is no detection."""
    true, false, missed = PROFILES[profile]
    events: list[tuple[float, float, tuple[int, int] | None]] = []
    for number, (file, output) in enumerate(zip(files, outputs, strict=True)):
        value, inside = worth(file, true, false)
        for place in np.flatnonzero(output > -np.inf):
            if place >= file.probation:
                window = (number, int(inside[place])) if inside[place] >= 0 else None
                events.append((float(output[place]), float(value[place]), window))
    events.sort(key=lambda event: -event[0])
    count = sum(len(file.windows) for file in files)
    total = best = -missed * count
    at = math.inf
    found: dict[tuple[int, int], float] = {}
    for place, (score, value_here, window_here) in enumerate(events):
        if threshold is not None and score < threshold:
            break
        if window_here is None:
            total += value_here
        elif window_here not in found:
            found[window_here] = value_here
            total += missed + value_here
        elif value_here > found[window_here]:
            total += value_here - found[window_here]
            found[window_here] = value_here
        if total > best and (place + 1 == len(events) or events[place + 1][0] < score):
            best, at = total, score
    reached = best if threshold is None else total
    return 100 * (reached + missed * count) / ((true + missed) * count), at


def once(output: FloatArray, quiet: int = QUIET) -> FloatArray:
    """Only samples that score more than each of the `quiet` before: one alert an episode."""
    padded = np.concatenate((np.full(quiet, -np.inf), output[:-1]))
    highest = np.lib.stride_tricks.sliding_window_view(padded, quiet).max(axis=1)
    return np.where(output > highest, output, -np.inf)


def z_score(values: FloatArray) -> FloatArray:
    return np.abs(values - values.mean()) / (values.std() or 1.0)


def rolling_mad(values: FloatArray, width: int = 144) -> FloatArray:
    found = np.zeros(len(values))
    windows = np.lib.stride_tricks.sliding_window_view(values, width)[:-1]
    middle = np.median(windows, axis=1)
    spread = 1.4826 * np.median(np.abs(windows - middle[:, None]), axis=1)
    found[width:] = np.abs(values[width:] - middle) / np.maximum(spread, 1e-9 + 1e-3 * np.abs(middle))
    return found


def windowed_gaussian(values: FloatArray, size: int = 6400, step: int = 100) -> FloatArray:
    """NAB's own simple detector: the normal tail probability against a window that grows, then jumps."""
    counts = np.arange(1, len(values) + 1)
    moved = values - values[0]
    mean = np.cumsum(moved) / counts
    deviation = np.sqrt(np.maximum(np.cumsum(np.square(moved)) / counts - np.square(mean), 0.0))
    found = np.zeros(len(values))
    for place in range(1, len(values)):
        if place <= size:
            usual, spread = mean[place - 1], deviation[place - 1]
        elif (place - size) % step == 0:
            window = moved[place - size : place]
            usual, spread = window.mean(), window.std()
        found[place] = 1 - 0.5 * math.erfc(abs(moved[place] - usual) / ((spread or 1e-6) * math.sqrt(2)))
    return found


def forest(values: FloatArray) -> FloatArray:
    from sklearn.ensemble import IsolationForest

    points = values.reshape(-1, 1)
    return -IsolationForest(n_estimators=50, random_state=0, n_jobs=1).fit(points).score_samples(points)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("PARAMEDIC_BENCH_DATA"))
    arguments = parser.parse_args()
    if arguments.data is None or not (arguments.data / "nab/labels/combined_windows.json").is_file():
        print("no data: --data (or PARAMEDIC_BENCH_DATA) names a folder with nab/data and nab/labels of "
              "https://github.com/numenta/NAB")  # fmt: skip
        return
    files = read(arguments.data / "nab")
    print(f"{len(files)} files, {sum(len(file.windows) for file in files)} labelled windows\n")
    print(f"{'detector':<46}{'standard':>9}{'low FP':>8}{'low FN':>8}{'ms/file':>9}")
    detectors: list[tuple[str, Callable[[FloatArray], FloatArray]]] = [
        ("Windowed Gaussian (published 39.6/20.9/47.4)", windowed_gaussian),
        ("z-score, whole file, each point", z_score),
        ("z-score, whole file, one alert an episode", lambda values: once(z_score(values))),
        ("rolling median and MAD, each point", rolling_mad),
        ("isolation forest, whole file, one an episode", lambda values: once(forest(values))),
        ("streaming, each point", scores),
        ("streaming, one alert an episode", lambda values: once(scores(values))),
    ]
    results = {}
    for name, detector in detectors:
        started = time.process_time()
        try:
            outputs = [detector(file.values) for file in files]
        except ImportError:
            print(f"{name:<46}   needs scikit-learn")
            continue
        each = 1e3 * (time.process_time() - started) / len(files)
        row = [round(nab(files, outputs, profile)[0], 1) for profile in PROFILES]
        results[name] = row
        print(f"{name:<46}{row[0]:>9}{row[1]:>8}{row[2]:>8}{each:>9.2f}")
    halves = [files[0::2], files[1::2]]
    outputs = [[once(scores(file.values)) for file in half] for half in halves]
    chosen = [nab(half, output, "standard") for half, output in zip(halves, outputs, strict=True)]
    print()
    for number in (0, 1):
        other = nab(halves[number], outputs[number], "standard", chosen[1 - number][1])[0]
        print(f"half {number + 1}: {chosen[number][0]:.1f} at its own best threshold {chosen[number][1]:.1f}; "
              f"other half's threshold: {other:.1f}")  # fmt: skip
    print(json.dumps({"benchmark": "anomalies", "results": results}))


if __name__ == "__main__":
    main()
