"""Gives cores that came through the kernel's pipe or socket their place: the folder of the container that dumped them.

The process's cgroup told the pod's uid and the container's id; the cluster knows their names. On a plain host, and when
nobody knows the pod any more, a core lies in the folder itself.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from collector.dying import INCOMING, private_folder
from collector.places import Place, place_of
from diagnosis.workloads.containers import containers_of
from diagnosis.workloads.fields import Object, mapping, text

_MAX_FACTS = 64 << 10
_STALE_SECONDS = 60.0
_COMM = re.compile(r"[^A-Za-z0-9._+-]")


@dataclass(frozen=True)
class Arrived:
    """One core of the incoming folder with what is known of its process."""

    core: Path
    facts: Path
    pid: int
    comm: str
    time: int
    pod_uid: str | None
    container_id: str | None

    @property
    def file_name(self) -> str:
        return f"core.{self.comm}.{self.pid}.{self.time}"


def arrived(root: Path, now: float) -> list[Arrived]:
    """What lies in the incoming folder of `root`, oldest first. Blocking. Unreadable facts are as if nothing is known.

    A part that nobody has written to for a minute before `now` (seconds since the epoch) will not become whole. Raises
    OSError when the folder is not ours alone.
    """
    found: list[Arrived] = []
    if not (root / INCOMING).exists():
        return found
    for facts in sorted(Path(private_folder(str(root / INCOMING))).glob("*.json")):
        core, part = facts.with_suffix(".core"), facts.with_suffix(".part")
        try:
            if not core.exists() and now - part.stat().st_mtime < _STALE_SECONDS:
                continue
        except FileNotFoundError:
            continue
        told = _facts(facts)
        found.append(
            Arrived(
                core if core.exists() else part,
                facts,
                _integer(told.get("pid")),
                _COMM.sub("_", text(told, "comm"))[:32] or "unknown",
                _integer(told.get("time")),
                text(told, "pod_uid") or None,
                text(told, "container_id") or None,
            )
        )
    return found


def whose(item: Arrived, pods: Iterable[Object]) -> Place | None:
    """The container by uid and id; None when these pods do not have it."""
    for pod in pods:
        if item.pod_uid is None or text(pod, "metadata", "uid") != item.pod_uid:
            continue
        for container in containers_of(pod):
            ids = [
                text(container.status, "containerID"),
                *(
                    text(mapping(container.status, field, "terminated"), "containerID")
                    for field in ("state", "lastState")
                ),
            ]
            if any(item.container_id and found.endswith(item.container_id) for found in ids):
                names = text(pod, "metadata", "namespace"), f"{container.pod_name}_{item.pod_uid}", container.name
                return place_of(names)
    return None


def settle(item: Arrived, root: Path, place: Place | None) -> Path:
    """Move the core to where the agent looks for it. Blocking; doing it again after a kill is harmless."""
    folder = root if place is None else root / place.namespace / f"{place.pod}_{place.pod_uid}" / place.container
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / item.file_name
    while target.exists():
        target = target.with_name(f"{target.name}+")
    item.core.rename(target)
    with contextlib.suppress(FileNotFoundError):
        item.facts.unlink()
    return target


def _facts(path: Path) -> Object:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_MAX_FACTS))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _integer(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 1 << 53 else 0
