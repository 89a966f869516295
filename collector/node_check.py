"""What a node lacks to keep cores, each with what sets it right."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from collector.node import NodeState, container_limit, lost_by_limit, lost_by_pattern, read_node
from errors import ToolFailed

_LEAST_FREE = 1 << 30


@dataclass(frozen=True)
class Check:
    """One look. `ok` None: it could not be seen from here."""

    name: str
    ok: bool | None
    found: str
    advice: str | None = None


def check_node(folder: Path, mount_path: str, socket: Path | None, proc: Path = Path("/proc")) -> list[Check]:
    """Look at this machine. Raises ToolFailed where /proc cannot be read."""
    try:
        node = read_node(proc)
    except OSError as error:
        raise ToolFailed(f"the node's settings cannot be read: {error.strerror}") from None
    return [_pattern(node, mount_path, socket), _limit(node, proc), _folder(folder), _space(folder), _setuid(node)]


def _pattern(node: NodeState, mount_path: str, socket: Path | None) -> Check:
    pattern, name = node.core_pattern, "kernel.core_pattern"
    ours = (socket is not None and pattern == f"@{socket}") or "/collector/dying.py " in pattern
    if ours or (reason := lost_by_pattern(node, [mount_path])) is None:
        return Check(name, True, pattern)
    return Check(name, False, f"{pattern!a}: {reason}", "paramedic node setup")


def _limit(node: NodeState, proc: Path) -> Check:
    name = "RLIMIT_CORE of containers"
    if node.core_pattern.startswith(("|", "@")):
        return Check(name, True, "of no account where a program or a socket takes the cores")
    limit = container_limit(proc)
    reason = lost_by_limit(limit)
    found = "unlimited, or no container runs here" if limit is None else f"{limit} bytes"
    advice = "LimitCORE=infinity in the service of the container runtime (systemd), then restart it" if reason else None
    return Check(name, reason is None, found, advice)


def _folder(folder: Path) -> Check:
    name = "folder of cores"
    try:
        status = folder.stat()
    except FileNotFoundError:
        return Check(name, False, f"{folder} is not there", "paramedic node setup")
    except PermissionError:
        return Check(name, None, f"{folder} cannot be seen by this user", "run this as root")
    if not folder.is_dir():
        return Check(name, False, f"{folder} is no folder", f"remove {folder}, then paramedic node setup")
    if status.st_mode & 0o004:
        return Check(name, False, f"{folder} may be listed by everybody", "paramedic node setup")
    return Check(name, True, f"{folder}, mode {status.st_mode & 0o777:o}")


def _space(folder: Path) -> Check:
    at = next((path for path in (folder, *folder.parents) if os.access(path, os.X_OK) and path.exists()), Path("/"))
    free = shutil.disk_usage(at).free
    enough = free >= _LEAST_FREE
    return Check("free space", enough, f"{free >> 20} MB", None if enough else "cores of large programs will be cut")


def _setuid(node: NodeState) -> Check:
    """Cores of programs that changed their user: 0 writes none (proc(5), fs.suid_dumpable)."""
    found = {0: "0: programs that changed their user leave no core", 1: "1", 2: "2"}
    return Check("fs.suid_dumpable", True, found.get(node.suid_dumpable, str(node.suid_dumpable)))
