"""Cores that a node keeps as `<namespace>/<pod>_<uid>/<container>/<file>`."""

from __future__ import annotations

import re
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

_DNS_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
_UID = re.compile(r"[0-9a-fA-F-]{8,64}")
_UNFINISHED = (".part", ".partial", ".tmp")
_LIMIT = 1000


def find_node_cores(node_dir: Path, namespace: str, pod_uids: Collection[str], container: str | None) -> list[Path]:
    """Files of the pods with `pod_uids` (of one container, or of all), newest first; empty when there are none.

    Symbolic links, hidden files and unfinished ones (`.part`, `.tmp`) are left out. Blocking.
    """
    if not _DNS_NAME.fullmatch(namespace) or (container is not None and not _DNS_NAME.fullmatch(container)):
        return []
    uids = {uid for uid in pod_uids if _UID.fullmatch(uid)}
    found: list[tuple[float, str, Path]] = []
    for pod in _folders(node_dir / namespace):
        if pod.name.rpartition("_")[2] not in uids:
            continue
        for folder in _folders(pod):
            if container is None or folder.name == container:
                found += _files(folder)
    found.sort(key=lambda item: (-item[0], item[1]))
    return [path for _, _, path in found[:_LIMIT]]


def _folders(parent: Path) -> Iterator[Path]:
    try:
        entries = sorted(parent.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            yield entry


def _files(folder: Path) -> list[tuple[float, str, Path]]:
    found = []
    try:
        entries = list(folder.iterdir())
    except OSError:
        return []
    for entry in entries:
        if entry.name.startswith(".") or entry.name.endswith(_UNFINISHED):
            continue
        try:
            status = entry.lstat()
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode):
            found.append((status.st_mtime, entry.name, entry))
    return found
