"""A process that the kernel holds while its core is written: who it is, and its core laid down as a stream.

Only the standard library, and little of it (no `re`, no `json`: they take as long to load as Python to start): the
kernel's pipe starts this for every crash, and the dying process, with its pod, waits until the last byte was read.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

INCOMING = ".incoming"
"""Folder below a folder of cores; the agent gives what is in it its place."""

_BLOCK = 64 << 10
_ZEROS = bytes(_BLOCK)
_PIPE_BYTES = 1 << 20
_PIPE_PIECE = 256 << 10
_NAP_SECONDS = 0.0002
_FIRST = -10
_HEX = frozenset("0123456789abcdef")
_UID = (8, 4, 4, 4, 12)


def describe(pid: int, proc: str = "/proc") -> dict[str, str | int | None]:
    """The process as /proc shows it: name, executable, pod uid and container id (from its cgroup). Never raises."""
    cgroup, comm = _read(f"{proc}/{pid}/cgroup"), _read(f"{proc}/{pid}/comm").strip()
    try:
        executable = os.readlink(f"{proc}/{pid}/exe")
    except OSError:
        executable = ""
    return {
        "pid": pid,
        "comm": "".join(c if c.isascii() and (c.isalnum() or c in "._+-") else "_" for c in comm)[:32] or "unknown",
        "executable": executable or None,
        "pod_uid": _pod_uid(cgroup),
        "container_id": _container_id(cgroup),
    }


def _pod_uid(cgroup: str) -> str | None:
    """What follows `pod`: a UUID with - or _, or the 32 digits of a static pod."""
    for text in cgroup.split("pod")[1:]:
        uid, short = text[:36].replace("_", "-"), text[:32]
        if tuple(len(part) for part in uid.split("-")) == _UID and _HEX.issuperset(uid.replace("-", "")):
            return uid
        if len(short) == 32 and _HEX.issuperset(short):
            return short
    return None


def _container_id(cgroup: str) -> str | None:
    """The last 64 hexadecimal digits."""
    words = "".join(c if c in _HEX else " " for c in cgroup).split()
    return next((word for word in reversed(words) if len(word) == 64), None)


def lay_down(read: Callable[[memoryview], int], target: int, piece: int) -> int:
    """Write a stream to the empty file with descriptor `target`, zeros as holes; the number of bytes that came.

    `read` fills the given memory and says how much of it: less only at the end. `piece` bytes of memory are used, a
    multiple of 64 KiB; they stay in the processor's cache when they are few. Nothing else is done here: what the dying
    process waits for is this.
    """
    buffer = bytearray(piece)
    view = memoryview(buffer)
    size, count = 0, piece
    while count == piece:
        count = read(view)
        start = 0
        while start < count:  # runs of blocks that are not zero, without copying them
            end = start
            while end < count and not buffer.startswith(_ZEROS[: count - end], end):
                end += _BLOCK
            _write(target, view[start : min(end, count)], size + start)
            start = end + _BLOCK
        size += count
    os.ftruncate(target, size)
    return size


def _write(target: int, data: memoryview, at: int) -> None:
    while data:
        done = os.pwrite(target, data, at)
        data, at = data[done:], at + done


def private_folder(path: str) -> str:
    """Make the folder, or see that it is ours alone: where cores lie, others may write. Raises OSError when not."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise PermissionError(errno.EPERM, "it is not a folder of ours alone", path)
    return path


def keep(root: str, told: dict[str, str | int | None], read: Callable[[memoryview], int], piece: int) -> str:
    """Keep a core in `root`/.incoming: `<name>.json` says whose it is, `<name>.core` appears once it is whole.

    `read` and `piece` are `lay_down`'s. Returns the name. Raises OSError and leaves `<name>.part`: a core that the disk
    had no room for is still evidence.
    """
    folder = private_folder(os.path.join(root, INCOMING))
    name = os.path.join(folder, f"{told['time']}-{told['pid']}-{time.monotonic_ns()}")
    with open(f"{name}.tmp", "x", encoding="utf-8") as file:
        file.write("{" + ", ".join(f"{_json(name)}: {_json(value)}" for name, value in told.items()) + "}")
    os.rename(f"{name}.tmp", f"{name}.json")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    core = os.open(f"{name}.part", flags, 0o600)
    try:
        lay_down(read, core, piece)
    finally:
        os.close(core)
    os.rename(f"{name}.part", f"{name}.core")
    return os.path.basename(name)


def _json(value: str | int | None) -> str:
    """RFC 8259; what is not printable ASCII as UTF-16 code units, a path's undecodable bytes as lone surrogates."""
    if not isinstance(value, str):
        return "null" if value is None else str(int(value))
    units = value.encode("utf-16-be", "surrogatepass")
    codes = [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]
    return '"' + "".join(chr(c) if 32 <= c < 127 and c not in b'"\\' else f"\\u{c:04x}" for c in codes) + '"'


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 16)
    except OSError:
        return ""


def main(arguments: list[str]) -> int:
    """The kernel's pipe: `ROOT PID SIGNAL TIME` (core_pattern's %P, %s, %t), the core on stdin."""
    if len(arguments) != 4 or not all(text.isdigit() for text in arguments[1:]):
        sys.stderr.write("usage: dying.py ROOT PID SIGNAL TIME, and a core on stdin\n")
        return 2
    _go_first()
    root, pid, signal, seconds = arguments
    told = {**describe(int(pid)), "signal": int(signal), "time": int(seconds)}
    try:
        keep(root, told, from_pipe(0), _PIPE_PIECE)
    except OSError as error:
        sys.stderr.write(f"the core of process {pid} was not kept whole: {error.strerror}\n")
        return 1
    return 0


def _go_first() -> None:
    """The others wait for a second; on a busy node the pod would for several. The kernel runs us as root, who may."""
    try:
        os.nice(_FIRST)
    except OSError:
        return


def from_pipe(handle: int) -> Callable[[memoryview], int]:
    """The kernel writes page by page and wakes a waiting reader for each: one that sleeps meanwhile gets many at once.

    A pipe that could not be made larger would be full long before that.
    """
    import fcntl

    try:
        nap = fcntl.fcntl(handle, fcntl.F_SETPIPE_SZ, _PIPE_BYTES) >= _PIPE_BYTES
    except OSError:
        nap = False

    def read(view: memoryview) -> int:
        filled = 0
        while filled < len(view) and (came := os.readv(handle, [view[filled:]])):
            filled += came
            if nap and came < _PIPE_PIECE // 2 and filled < len(view):
                time.sleep(_NAP_SECONDS)
        return filled

    return read


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
