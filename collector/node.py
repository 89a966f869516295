"""What the node does with cores: kernel.core_pattern and its relatives, and what a container's processes may write.

Rules of core(5). `proc` is the node's /proc: the agent needs the node's process namespace (hostPID) to see containers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_SPECIFIER = re.compile(r"%(.)")
_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
_MAX_READ = 64 << 10


@dataclass(frozen=True)
class NodeState:
    """`core_pattern` as it stands; the rest as core(5) names it."""

    core_pattern: str
    core_uses_pid: bool = False
    suid_dumpable: int = 0

    @property
    def folder(self) -> PurePosixPath | None:
        """The folder that cores are written to, as each crashing process sees it; None for a pipe, socket or `core`."""
        pattern = self.core_pattern
        if not pattern.startswith("/"):
            return None
        fixed = PurePosixPath(pattern).parent
        return None if _SPECIFIER.search(str(fixed)) else fixed


def read_node(proc: Path = Path("/proc")) -> NodeState:
    """The node's present state. Raises OSError where /proc does not show it."""
    kernel, fs = proc / "sys/kernel", proc / "sys/fs"
    return NodeState(
        core_pattern=(kernel / "core_pattern").read_text(errors="replace").rstrip("\n"),
        core_uses_pid=_number(kernel / "core_uses_pid") != 0,
        suid_dumpable=_number(fs / "suid_dumpable"),
    )


def lost_by_pattern(state: NodeState, mounts: list[str]) -> str | None:
    """Why the pattern loses the cores of a container that has `mounts` from the node; None when it does not."""
    pattern = state.core_pattern
    if not pattern and not state.core_uses_pid:
        return "kernel.core_pattern of the node is empty: the kernel writes no cores"
    if pattern.startswith("|"):
        program = pattern[1:].split(" ", 1)[0]
        return f"kernel.core_pattern of the node sends cores to {program[:120]!a}, not to a folder"
    if pattern.startswith("@"):
        return "kernel.core_pattern of the node sends cores to a socket, and nobody took this one"
    folder = state.folder
    if folder is None:
        where = "its working directory" if not pattern.startswith("/") else "a folder that depends on the process"
        return (
            f"kernel.core_pattern of the node is {pattern[:120]!a}: the core was written to {where} in the container, "
            "and went with it"
        )
    if not any(folder == PurePosixPath(mount) or PurePosixPath(mount) in folder.parents for mount in mounts):
        return (
            f"kernel.core_pattern of the node names {str(folder)[:120]!a}, and nothing of the node is mounted there in "
            "the container (annotation paramedic.io/inject)"
        )
    return None


def lost_by_limit(limit: int | None) -> str | None:
    """Why RLIMIT_CORE loses cores; `limit` in bytes, None for unlimited or unknown. A pipe ignores it (core(5))."""
    if limit is None or limit > 0:
        return None
    return "the process may not write cores: its RLIMIT_CORE is 0 (the container runtime's LimitCORE, or ulimit -c)"


def processes_of(container_id: str, proc: Path = Path("/proc")) -> Iterator[int]:
    """Process ids, as the node counts them, of a running container (64 hexadecimal digits)."""
    if not _CONTAINER_ID.fullmatch(container_id):
        return
    for entry in proc.iterdir():
        if entry.name.isdigit() and container_id in _read(entry / "cgroup"):
            yield int(entry.name)


def core_limit(pid: int, proc: Path = Path("/proc")) -> tuple[bool, int | None]:
    """Whether the process's limit could be read, and RLIMIT_CORE's soft value in bytes (None: unlimited)."""
    for line in _read(proc / str(pid) / "limits").splitlines():
        if line.startswith("Max core file size"):
            soft = line.removeprefix("Max core file size").split()[0]
            return True, int(soft) if soft.isdigit() else None
    return False, None


def container_limit(proc: Path = Path("/proc")) -> int | None:
    """RLIMIT_CORE of the containers that run here, in bytes; None for unlimited, and where no container is seen."""
    for entry in proc.iterdir():
        if entry.name.isdigit() and "kubepods" in _read(entry / "cgroup"):
            known, limit = core_limit(int(entry.name), proc)
            if known:
                return limit
    return None


def pod_limits(uid: str, proc: Path = Path("/proc")) -> set[int]:
    """RLIMIT_CORE (bytes) of the processes of a pod that have one; empty where /proc shows none of them. Blocking."""
    spellings = uid, uid.replace("-", "_")
    try:
        pids = [entry.name for entry in proc.iterdir() if entry.name.isdigit()]
    except OSError:
        return set()
    found = set()
    for pid in pids:
        cgroup = _read(proc / pid / "cgroup")
        if any(spelling in cgroup for spelling in spellings):
            _, limit = core_limit(int(pid), proc)
            found.add(limit)
    return {limit for limit in found if limit is not None}


def dumping(proc: Path = Path("/proc")) -> list[int]:
    """Processes that are writing a core at this moment (`CoreDumping` of proc(5), since Linux 4.15)."""
    return [
        int(entry.name)
        for entry in proc.iterdir()
        if entry.name.isdigit() and "\nCoreDumping:\t1" in _read(entry / "status")
    ]


def _read(path: Path) -> str:
    """What a file of /proc says; empty where the process is gone."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_READ).decode("utf-8", "replace")
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _read(path).strip()
    return int(text) if text.lstrip("-").isdigit() else 0
