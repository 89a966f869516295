"""Captured cases as tests of the workload diagnosis use them: as they are, or with a change that the test names."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from diagnosis.workloads.diagnose import diagnose
from diagnosis.workloads.fields import Object
from diagnosis.workloads.load import load_snapshot
from diagnosis.workloads.metrics import Alert, Series
from diagnosis.workloads.snapshot import LogKey, Snapshot
from incidents.models import Cause, CauseClass, Diagnosis

SNAPSHOTS = Path(__file__).parent / "fixtures" / "snapshots"


@cache
def loaded(name: str) -> Snapshot:
    return load_snapshot(SNAPSHOTS / name)


@cache
def truth(name: str) -> dict[str, Any]:
    return json.loads((SNAPSHOTS / f"{name}.truth.json").read_text())  # type: ignore[no-any-return]


def changed(
    name: str,
    change: Callable[[Object], object] = lambda item: None,
    *,
    more: Iterable[Object] = (),
    logs: dict[LogKey, str] | None = None,
    series: Iterable[Series] = (),
    alerts: Iterable[Alert] = (),
    later: timedelta = timedelta(0),
) -> Snapshot:
    """A captured case after `change` of each of its objects (False drops one), seen `later`, with what is given beside
    it."""
    original = loaded(name)
    items = [item for item in copy.deepcopy(original.items()) if change(item) is not False]
    kept = {key: original.log(*key) or "" for key in original.log_keys()}
    return Snapshot(
        [*items, *more],
        logs={**kept, **(logs or {})},
        observed_at=original.observed_at + later,
        complete=original.complete,
        focus=original.focus,
        series=series,
        alerts=alerts,
    )


def of_case(name: str, snapshot: Snapshot | None = None) -> Diagnosis:
    """The diagnosis of the case's namespace."""
    return diagnose(snapshot or loaded(name), namespace=truth(name)["namespace"])


def classes(found: Diagnosis) -> set[CauseClass]:
    return {cause.cause_class for cause in found.causes}


def only(found: Diagnosis, wanted: CauseClass) -> Cause:
    """The first cause, where all causes are of this class."""
    assert classes(found) == {wanted}
    return found.causes[0]


def the(kind: str, name: str, start: str = "") -> Object:
    """The first object of a kind in a case's namespace whose name starts like this."""
    found = loaded(name).all(kind, truth(name)["namespace"])
    return next(item for item in found if item["metadata"]["name"].startswith(start))


def pod_of(name: str, workload: str) -> Object:
    """The pod of a case whose owner's name starts like this."""
    return next(
        pod
        for pod in loaded(name).all("Pod", truth(name)["namespace"])
        if pod["metadata"]["ownerReferences"][0]["name"].startswith(workload)
    )


def key_of(pod: Object) -> LogKey:
    """Of the current log of a pod's first container."""
    container = pod["spec"]["containers"][0]["name"]
    return pod["metadata"]["namespace"], pod["metadata"]["name"], container, False
