"""The pods of one workload beside each other: one that differs is the one to look at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from diagnosis.metrics.grid import Grid
from diagnosis.metrics.series import FloatArray
from diagnosis.metrics.subject import Subject

_LEAST = 3
_CHANGED = 5.0
_TIMES = 3.0
_OF_A_POD = {
    "pod",
    "pod_name",
    "instance",
    "pod_ip",
    "node",
    "uid",
    "id",
    "exported_pod",
    "kubernetes_pod_name",
    "nodename",
}


def peer_groups(grid: Grid, subjects: Sequence[Subject]) -> list[list[int]]:
    """Rows that measure the same on different pods of one workload, three pods or more."""
    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for row, (series, subject) in enumerate(zip(grid.series, subjects, strict=True)):
        if subject.pod and subject.entity and not subject.calling:
            rest = tuple(sorted((key, value) for key, value in series.labels.items() if key not in _OF_A_POD))
            alike[(subject.entity, series.name, rest)].append(row)
    return [rows for rows in alike.values() if len({subjects[row].pod for row in rows}) >= _LEAST]


def odd_pods(
    grid: Grid, subjects: Sequence[Subject], scores: FloatArray, groups: Sequence[Sequence[int]], entity: str
) -> list[str]:
    """Pods of a workload that changed while their peers did not, or three times as much as these; strongest first."""
    found: dict[str, float] = {}
    for rows in groups:
        if subjects[rows[0]].entity != entity:
            continue
        of_group = scores[list(rows)]
        usual = float(np.median(of_group))
        for row, score in zip(rows, of_group.tolist(), strict=True):
            if score >= _CHANGED and score >= _TIMES * usual:
                pod = subjects[row].pod
                found[pod] = max(found.get(pod, 0.0), score)
    return sorted(found, key=lambda pod: (-found[pod], pod))
