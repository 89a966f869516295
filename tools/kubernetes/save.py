"""Write a snapshot as files that `diagnosis.workloads.load` reads again: what people attach to tickets."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

from diagnosis.workloads.fields import Object, text
from diagnosis.workloads.load import MANIFEST
from diagnosis.workloads.snapshot import Snapshot
from errors import InvalidInput

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


def require_empty(folder: Path) -> None:
    """Raise InvalidInput unless the folder is new or empty: a snapshot is never mixed into other files."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInput(f"{folder} is not an empty folder; name another one")


def save_snapshot(snapshot: Snapshot, folder: Path) -> list[Path]:
    """Write one List for each kind, the logs, and a manifest into a new or empty folder; return the files.

    Everything in a snapshot is redacted already. Raises InvalidInput when the folder holds something.
    """
    require_empty(folder)
    folder.mkdir(parents=True, exist_ok=True)
    by_kind: dict[str, list[Object]] = defaultdict(list)
    for item in snapshot.items():
        by_kind[text(item, "kind")].append(item)
    written = [
        _write(folder / f"{kind.lower()}.json", {"apiVersion": "v1", "kind": "List", "items": items})
        for kind, items in sorted(by_kind.items())
        if kind.isalnum()
    ]
    for key in snapshot.log_keys():
        namespace, pod, container, previous = key
        if any(part in ("", ".", "..") or "/" in part for part in (namespace, pod, container)):
            continue  # no API server has such names; a hostile file might
        path = folder / "logs" / namespace / pod / f"{container}{'.previous' if previous else ''}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(snapshot.log(*key) or "", encoding="utf-8")
        written.append(path)
    written += _measurements(snapshot, folder)
    manifest = {
        "format": 1,
        "namespace": snapshot.focus,
        "observed_at": snapshot.observed_at.isoformat(),
        "unseen": snapshot.unseen,
        "complete": sorted(map(list, snapshot.complete)),
        "absent": sorted(map(list, snapshot.absent)),
    }
    return [*written, _write(folder / MANIFEST, manifest)]


def _measurements(snapshot: Snapshot, folder: Path) -> list[Path]:
    """Series as Prometheus answers a range query, a file for each metric; alerts as Alertmanager lists them."""
    written = []
    for number, name in enumerate(snapshot.series.names()):
        results: list[dict[str, object]] = [
            {
                "metric": {"__name__": series.name, **series.labels},
                "values": [[at.timestamp(), repr(value)] for at, value in series.points],
            }
            for series in snapshot.series.find(name)
        ]
        (folder / "metrics").mkdir(exist_ok=True)
        path = folder / "metrics" / f"{number:03d}-{_UNSAFE.sub('_', name)[:80]}.json"
        written.append(_write(path, {"status": "success", "data": {"resultType": "matrix", "result": results}}))
    if snapshot.alerts:
        alerts: list[dict[str, object]] = [
            {
                "labels": {"alertname": alert.name, **alert.labels},
                "annotations": alert.annotations,
                "status": {"state": alert.state},
                "startsAt": alert.started.isoformat() if alert.started else None,
                "endsAt": alert.ended.isoformat() if alert.ended else None,
            }
            for alert in snapshot.alerts
        ]
        written.append(_write(folder / "alerts.json", alerts))
    return written


def _write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return path
