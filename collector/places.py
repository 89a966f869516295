"""Where cores appear below a folder, and whose they are by their path.

    <namespace>/<pod>_<uid>/<container>/<file>     what the admission webhook mounts for a pod
    <namespace>/<pod>/<container>/<file>           the layout of CoreDog: no uid, the pod is found by its name
    <file>                                         a plain host

What stands inside a container's folder belongs to that container's user: symbolic links, pipes, hidden files and
folders there are left alone, and no name is trusted before it has a Kubernetes name's shape.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from collector.dying import private_folder
from collector.local_file import LocalFile, stamp_of

_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_DNS_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
_UID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-f]{32}")
_UNFINISHED = (".part", ".partial", ".tmp")
_MAX_FILES_A_FOLDER = 1000
_MAX_KNOWN_A_FOLDER = 20_000
"""Files that stay, so that a folder full of them does not hide the next core, and is not read for ever."""


@dataclass(frozen=True)
class Place:
    """A container, as the path says."""

    namespace: str
    pod: str
    pod_uid: str | None
    container: str


@dataclass(frozen=True)
class FoundFile:
    """A regular file that may be a core. Equal `stamp`s: nothing was written in between."""

    path: Path
    place: Place | None
    device: int
    inode: int
    size: int
    modified_ns: int

    @property
    def stamp(self) -> tuple[int, int, int, int]:
        return self.device, self.inode, self.size, self.modified_ns

    @property
    def local(self) -> LocalFile:
        """This very file, for whoever reads or removes it later."""
        return LocalFile(self.path.absolute(), *self.stamp)


def place_of(parts: tuple[str, ...]) -> Place | None:
    """The container of `namespace/pod[_uid]/container`; None when a part is no Kubernetes name."""
    if len(parts) != 3:
        return None
    namespace, folder, container = parts
    pod, separator, uid = folder.rpartition("_")
    if not separator:
        pod, uid = folder, ""
    fits = _LABEL.fullmatch(namespace) and _DNS_NAME.fullmatch(pod) and _LABEL.fullmatch(container)
    if not fits or (separator and not _UID.fullmatch(uid)):
        return None
    return Place(namespace, pod, uid or None, container)


def root_of(path: Path) -> Path:
    """The folder that a file was found in: above its container's, on a plain host the file's own."""
    if place_of((path.parents[2].name, path.parents[1].name, path.parents[0].name)) is not None:
        return path.parents[3]
    return path.parent


def find_files(root: Path, limit: int, known: Callable[[FoundFile], bool] = lambda _: False) -> list[FoundFile]:
    """The files below `root` that may be cores and are not `known`, at most `limit` of them. Blocking.

    The namespaces take turns, and in each its folders, so that nobody's files hide another one's; of one folder the
    oldest come first. What is beyond the limit is found once the rest is known or gone.
    A folder that vanishes or cannot be read meanwhile is as if empty; a `root` that cannot be read raises OSError, and
    what `known` raises goes through.
    """
    found = list(_files(root, None, known))
    for namespace in _folders(root):
        for pod in _folders(namespace):
            for container in _folders(pod):
                place = place_of((namespace.name, pod.name, container.name))
                if place is not None:
                    found += _quietly(container, place, known)
    found.sort(key=lambda file: (file.modified_ns, str(file.path)))
    found = _in_turns(found, lambda file: file.path.parent)
    return _in_turns(found, lambda file: file.place.namespace if file.place else None)[:limit]


@contextmanager
def opened(file: FoundFile) -> Iterator[Path]:
    """A path that leads to the very file that was found, whatever its owner puts in its place meanwhile.

    Raises OSError, with ESTALE when something else, or something longer, stands there now.
    """
    handle = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(handle)
        if stamp_of(status) != file.stamp:
            raise OSError(errno.ESTALE, "the file changed")
        yield Path(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


@contextmanager
def pinned(file: FoundFile, opened_as: Path, folder: Path) -> Iterator[Path]:
    """As `opened`, but a name that other processes can open too: a hard link in a private folder of the same disk.

    Where there can be none (a file system without, or too many links of the file), the open file as this process has
    it, which processes of the same rights can open. Never its own path: what stands there is its owner's choice.
    """
    link = folder / f"{file.device:x}-{file.inode:x}"
    try:
        private_folder(str(folder))
        link.unlink(missing_ok=True)  # of a run that was killed
        os.link(opened_as, link, follow_symlinks=True)
    except OSError:
        yield Path(str(opened_as).replace("/proc/self/", f"/proc/{os.getpid()}/", 1))
        return
    try:
        yield link
    finally:
        link.unlink(missing_ok=True)


def _in_turns(files: list[FoundFile], group: Callable[[FoundFile], Hashable]) -> list[FoundFile]:
    """The first of each group, then the second of each, and so on."""
    taken: dict[Hashable, int] = {}
    turns = []
    for file in files:
        name = group(file)
        taken[name] = taken.get(name, 0) + 1
        turns.append((taken[name], file))
    turns.sort(key=lambda turn: turn[0])
    return [file for _, file in turns]


def _quietly(folder: Path, place: Place, known: Callable[[FoundFile], bool]) -> list[FoundFile]:
    try:
        return list(_files(folder, place, known))
    except OSError:
        return []


def _folders(parent: Path) -> list[Path]:
    try:
        with os.scandir(parent) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [parent / name for name in sorted(names) if not name.startswith(".")]


def _files(folder: Path, place: Place | None, known: Callable[[FoundFile], bool]) -> Iterator[FoundFile]:
    """Whoever fills a folder with files only loses cores of that folder: the rest is looked at by a later scan."""
    new = seen = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name.endswith(_UNFINISHED):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if not stat.S_ISREG(status.st_mode):
                continue
            file = FoundFile(folder / entry.name, place, *stamp_of(status))
            seen += 1
            if not known(file):
                yield file
                new += 1
            if new >= _MAX_FILES_A_FOLDER or seen >= _MAX_KNOWN_A_FOLDER:
                return
