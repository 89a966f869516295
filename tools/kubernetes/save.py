"""Write a snapshot as files that `diagnosis.workloads.load` reads again: what people attach to tickets."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from diagnosis.workloads.fields import Object, text
from diagnosis.workloads.load import MANIFEST
from diagnosis.workloads.snapshot import Snapshot
from errors import InvalidInput


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
    manifest = {
        "format": 1,
        "namespace": snapshot.focus,
        "observed_at": snapshot.observed_at.isoformat(),
        "unseen": snapshot.unseen,
        "complete": sorted(map(list, snapshot.complete)),
        "absent": sorted(map(list, snapshot.absent)),
    }
    return [*written, _write(folder / MANIFEST, manifest)]


def _write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return path
