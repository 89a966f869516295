"""A process puts itself where it can do no harm: its own namespaces, a private root, no privileges, limits.

Used by the worker that parses a core, and by the debugger that it starts. The steps are those of bubblewrap and of
user_namespaces(7), pivot_root(2), capabilities(7); they are taken here, in a fork of a process that has everything
imported, because starting an interpreter afresh costs as much as half a debugger.

`unshare` is called first and then a fork: only a child is in the new process namespace, as its first process, and when
it dies the kernel ends all that it started.
"""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_NEWNS, _NEWUTS, _NEWIPC = 0x00020000, 0x04000000, 0x08000000
_NEWUSER, _NEWPID, _NEWNET = 0x10000000, 0x20000000, 0x40000000
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
_DETACH = 2
_SYS_MOUNT_SETATTR = 442
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
_PR_SET_CHILD_SUBREAPER = 36
_CAPABILITY_VERSION_3 = 0x20080522
_LAST_CAPABILITY = 63
_NOBODY = 65534
_PROCESSES = 512
_TEMPORARY_BYTES = 64 << 20
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_KILL = 9
_MOUNT_POINT = "/sys"
"""Where the new root is put together: a folder that every system has, and that nothing is shown of."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class View:
    """What the confined process sees, read-only, under the paths where it is outside.

    `files` maps paths inside to regular files outside; `links` are symbolic links and their targets. `writable` is the
    one folder that results go to, if any.
    """

    folders: Sequence[str] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    writable: str | None = None


@dataclass(frozen=True)
class Limits:
    """Of the process and each that it starts: bytes of address space and of one file, seconds of CPU."""

    memory_bytes: int
    cpu_seconds: int
    file_bytes: int = 16 << 20


def separate() -> bool:
    """Leave the machine's namespaces, for the children of this process; False where that is not allowed."""
    spaces = _NEWNS | _NEWUTS | _NEWIPC | _NEWPID | _NEWNET
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        return bool(_libc.unshare(spaces) == 0)
    if _libc.unshare(spaces | _NEWUSER) != 0:
        return False
    try:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{_NOBODY} {uid} 1"), ("gid_map", f"{_NOBODY} {gid} 1")):
            Path("/proc/self", name).write_text(text)
    except OSError:
        return False
    return True


def enclose(view: View) -> None:
    """See nothing but `view` and an empty folder for temporary files. Raises OSError.

    All mount points are made in an empty file system before anything is mounted on them: a symbolic link in a mounted
    folder could lead outside.
    """
    root = _MOUNT_POINT
    _mount(None, "/", None, _REC | _PRIVATE)
    _mount("tmpfs", root, "tmpfs", _NOSUID | _NODEV, "mode=0755,size=1m")
    temporary = f"{root}{tempfile.gettempdir()}"
    Path(temporary).mkdir(parents=True)
    _mount("tmpfs", temporary, "tmpfs", _NOSUID | _NODEV, f"mode=1777,size={_TEMPORARY_BYTES}")
    folders = [name for name in sorted(view.folders, key=len) if _make_folder(root, name)]
    files = {name: source for name, source in view.files.items() if _make_file(root, name)}
    devices = [name for name in _DEVICES if _make_file(root, name)]
    writable = [view.writable] if view.writable and _make_folder(root, view.writable) else []
    for name, target in view.links.items():
        Path(f"{root}{name}").symlink_to(target)
    for name in folders:
        _bind(name, f"{root}{name}", _NOSUID | _NODEV)
    for name, source in files.items():
        _bind(source, f"{root}{name}", _NOSUID | _NODEV)
    for name in writable:
        _bind(name, f"{root}{name}", _NOSUID | _NODEV | _NOEXEC, writable=True)
    for name in devices:
        _bind(name, f"{root}{name}", _NOSUID)
    _mount(None, root, None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV)
    os.chdir(root)
    _check(_libc.pivot_root(b".", b"."), "pivot_root")  # pivot_root(2): the old root is then mounted over the new one
    _check(_libc.umount2(b".", _DETACH), "umount2")
    os.chdir("/")
    socket.sethostname("sandbox")


def drop_privileges(owner: tuple[int, int]) -> None:
    """No capability, and no way to get one. Root becomes `owner` (uid, gid).

    A core has mode 0600: its owner, without any capability, can read it and little else.
    """
    if os.geteuid() == 0:
        uid, gid = owner
        for capability in range(_LAST_CAPABILITY + 1):
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


RESERVED_BYTES = 32 << 30
"""Of addresses, not of memory, that a child may reserve above the limit of this process."""


def limit(limits: Limits, *, processes: bool) -> None:
    """Set `limits`; `processes` also bounds their number, where the user of this process has no others."""
    wanted = {
        resource.RLIMIT_AS: limits.memory_bytes,
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_NOFILE: 4096,
        resource.RLIMIT_CORE: 0,
    }
    if processes:
        wanted[resource.RLIMIT_NPROC] = _PROCESSES
    for which, value in wanted.items():
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # programs in Go reserve addresses far beyond what they use: their limit is on data (tools/delve)
        most = value + RESERVED_BYTES if which == resource.RLIMIT_AS else value
        resource.setrlimit(which, (value, most if hard == resource.RLIM_INFINITY else min(most, hard)))


def adopt_orphans() -> None:
    """Have what this process's descendants leave behind as children, to end them (prctl(2), subreaper)."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, _KILL, 0, 0, 0)


def _make_folder(root: str, name: str) -> bool:
    try:
        Path(f"{root}{name}").mkdir(parents=True, exist_ok=True)
    except OSError:  # a part of it is a file
        return False
    return Path(name).is_dir()


def _make_file(root: str, name: str) -> bool:
    try:
        path = Path(f"{root}{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=False)
    except OSError:
        return False
    return True


def _bind(source: str, target: str, flags: int, *, writable: bool = False) -> None:
    """Mount `source`. A file that is not there any more, or not as it was, leaves an empty one."""
    if _libc.mount(os.fsencode(source), os.fsencode(target), None, _BIND | _REC, None) != 0:
        return
    flags |= 0 if writable else _RDONLY
    attributes = (ctypes.c_uint64 * 4)(flags, 0, 0, 0)  # MOUNT_ATTR_* have the values of MS_* here
    call = (_SYS_MOUNT_SETATTR, _AT_FDCWD, os.fsencode(target), _AT_RECURSIVE, attributes, 32)
    if _libc.syscall(*call) != 0:  # before Linux 5.12; what the mount had must stay set
        had = os.statvfs(target).f_flag & (_NOSUID | _NODEV | _NOEXEC)
        _mount(None, target, None, _REMOUNT | _BIND | flags | had)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [os.fsencode(text) if text is not None else None for text in (source, target, kind, data)]
    _check(_libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3]), f"mount {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def owner_of(core: Path) -> tuple[int, int]:
    """Uid and gid of who must read `core`: its owner where others may not, else nobody in particular."""
    status = core.stat()
    return (_NOBODY, _NOBODY) if status.st_mode & stat.S_IROTH else (status.st_uid, status.st_gid)
