"""The files of the folder: found without leaving it, read without waiting and without trusting what they are.

A folder of Kubernetes' own (a mounted ConfigMap) or of git-sync is full of links, so links are followed as long as they
end inside the folder; what leads out of it is named and not read.
"""

from __future__ import annotations

import hashlib
import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from errors import NotFound

_SUFFIXES = (".md", ".markdown")
_ENTRIES_A_FILE = 50
"""A folder of so many times `max_files` entries is not walked to its end."""


@dataclass(frozen=True)
class Stamp:
    """What tells that a file may have changed, without reading it."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(frozen=True)
class Found:
    """A Markdown file by its path below the folder. Exactly one of `stamp` and `problem` is there."""

    path: str
    stamp: Stamp | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Content:
    """What a file held. `stamp` was taken before reading: a file that changed meanwhile differs from it."""

    text: str
    sha256: str
    stamp: Stamp


class Unreadable(Exception):
    """Why one file is left out, in a few words."""


class Folder:
    """The Markdown files below `root`. Names that begin with a dot are not looked at."""

    def __init__(self, root: Path, *, max_files: int, max_bytes: int) -> None:
        self._root = root
        self._max_files = max_files
        self._max_bytes = max_bytes

    def files(self) -> tuple[list[Found], str | None]:
        """The files in the order of their paths, and what was left out because there are too many.

        Raises NotFound when the folder is not there.
        """
        try:
            root = self._root.resolve(strict=True)
            if not root.is_dir():
                raise NotFound(f"the runbook folder {self._root} is no folder; see runbooks.folder")
            found: list[Found] = []
            budget = self._max_files * _ENTRIES_A_FILE
            for entry, relative in _walk(root):
                budget -= 1
                if budget < 0:
                    return self._first(found, f"the runbook folder {self._root} has too many entries to look at all")
                if relative.lower().endswith(_SUFFIXES):
                    found.append(_look(root, entry, relative))
        except OSError as error:
            raise NotFound(f"the runbook folder {self._root} cannot be read: {error.strerror}") from None
        return self._first(found, None)

    def _first(self, found: list[Found], note: str | None) -> tuple[list[Found], str | None]:
        found.sort(key=lambda item: item.path)
        if len(found) > self._max_files:
            note = f"{len(found) - self._max_files} runbooks are left out: runbooks.max_files is {self._max_files}"
        return found[: self._max_files], note

    def read(self, path: str) -> Content:
        """The text of a file. Raises Unreadable."""
        root = os.path.realpath(self._root)
        try:
            # a pipe named like a file must not be waited for
            handle = os.open(f"{root}/{path}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise Unreadable(f"it cannot be read: {error.strerror}") from None
        with os.fdopen(handle, "rb") as file:
            if not _inside(root, str(Path(f"/proc/self/fd/{handle}").readlink())):
                raise Unreadable("it leads out of the folder")
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise Unreadable("it is no file")
            try:
                data = file.read(self._max_bytes + 1)
            except OSError as error:
                raise Unreadable(f"it cannot be read: {error.strerror}") from None
        if len(data) > self._max_bytes:
            raise Unreadable(f"it is larger than runbooks.max_bytes ({self._max_bytes})")
        if b"\0" in data:
            raise Unreadable("it is no text")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise Unreadable("it is not in UTF-8") from None
        return Content(text, hashlib.sha256(data).hexdigest(), _stamp(status))


def _walk(root: Path) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Every entry below `root` with its path; each real folder once, so that links in a circle end."""
    seen = {os.path.realpath(root)}
    waiting = [(str(root), "")]
    while waiting:
        folder, prefix = waiting.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            if not prefix:
                raise
            continue  # of a part that may not be read, or that just went
        for entry in entries:
            if entry.name.startswith("."):
                continue
            relative = f"{prefix}{entry.name}"
            try:
                is_folder = entry.is_dir()
            except OSError:
                continue
            if not is_folder:
                yield entry, relative
                continue
            real = os.path.realpath(entry.path)
            if real not in seen and _inside(str(root), real):
                seen.add(real)
                waiting.append((entry.path, f"{relative}/"))


def _look(root: Path, entry: os.DirEntry[str], relative: str) -> Found:
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in relative):
        shown = relative.encode("unicode_escape", "surrogatepass").decode("ascii")
        return Found(shown, problem="its name has characters that cannot be shown")
    if entry.is_symlink() and not _inside(str(root), os.path.realpath(entry.path)):
        return Found(relative, problem="it leads out of the folder")
    try:
        return Found(relative, _stamp(entry.stat()))
    except OSError as error:
        return Found(relative, problem=f"it cannot be read: {error.strerror}")


def _inside(root: str, path: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
