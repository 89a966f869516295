"""Sets up a node to keep cores, and puts back what was there: kernel.core_pattern and the folder.

What stood before is remembered in a file of ours before anything is changed; running it twice remembers it once.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from collector import dying
from errors import Conflict, Forbidden, InvalidInput, NotFound, ToolFailed

_PATTERN = "core.%e.%p.%t"
_MAX_PATTERN = 127  # CORENAME_MAX_SIZE is 128 with its zero


def file_pattern(folder: str) -> str:
    """Cores as files in `folder`, as each crashing process sees it."""
    return f"{folder.rstrip('/')}/{_PATTERN}"


def socket_pattern(path: Path) -> str:
    """Cores to the agent's socket (Linux 6.16)."""
    return f"@{path}"


def pipe_pattern(root: Path) -> str:
    """Cores to our pipe program, which this machine's own Python runs."""
    program = Path(dying.__file__).resolve()
    return f"|{Path(sys.executable).resolve()} -I -S {program} {root} %P %s %t"


class NodeSetup:
    """`memory` is the file that remembers; `pattern_file` is the kernel's."""

    def __init__(self, memory: Path, pattern_file: Path = Path("/proc/sys/kernel/core_pattern")) -> None:
        self._memory, self._file = memory, pattern_file

    def apply(self, pattern: str, folder: Path) -> str:
        """Make the folder, set the pattern; what was there before. Raises Forbidden, InvalidInput, ToolFailed.

        The folder's parent is root's alone, so that nobody on the node reads cores; the folder itself may be written to
        and not listed: the kubelet gives its permissions to each container's folder, whose user may be any.
        """
        if len(pattern.encode()) > _MAX_PATTERN or "\n" in pattern:
            raise InvalidInput(f"the kernel takes core patterns of at most {_MAX_PATTERN} bytes: {pattern[:160]!a}")
        with self._locked():
            before = self._present()
            known = self._remembered()
            if known is None and before != pattern:
                self._remember({"before": before, "set": pattern})
            elif known is not None:
                self._remember({**known, "set": pattern})
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o733)
                folder.chmod(0o733)
                if folder.parent.stat().st_uid == os.getuid() and folder.parent.name == "paramedic":
                    folder.parent.chmod(0o700)
            except PermissionError:
                raise Forbidden(f"the folder {folder} cannot be made: run this as root") from None
            self._write(pattern)
        return before

    def undo(self) -> str:
        """Put back what was there. Raises NotFound (nothing is remembered) and Conflict (somebody changed it since)."""
        with self._locked():
            known = self._remembered()
            if known is None:
                raise NotFound("this machine was not set up from here: nothing is remembered")
            present = self._present()
            if present != known["set"]:
                raise Conflict(
                    f"kernel.core_pattern is {present[:120]!a} now, not what was set here: it is left as it is, and "
                    f"{self._memory} still says what stood before"
                )
            self._write(known["before"])
            self._memory.unlink()
            return known["before"]

    def _present(self) -> str:
        try:
            return self._file.read_text().rstrip("\n")
        except OSError as error:
            raise ToolFailed(f"{self._file} cannot be read: {error.strerror}") from None

    def _write(self, pattern: str) -> None:
        try:
            self._file.write_text(pattern)
        except PermissionError:
            raise Forbidden("kernel.core_pattern can only be set by root on the node itself") from None
        except OSError as error:
            raise ToolFailed(f"the kernel refuses the pattern {pattern[:160]!a}: {error.strerror}") from None

    def _remembered(self) -> dict[str, str] | None:
        try:
            found = json.loads(self._memory.read_text())
            return {"before": str(found["before"]), "set": str(found["set"])}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            raise ToolFailed(f"{self._memory} cannot be read; it says what to put back") from None

    def _remember(self, what: dict[str, str]) -> None:
        draft = self._memory.with_suffix(".part")
        draft.write_text(json.dumps(what))
        draft.rename(self._memory)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._memory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._memory.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except PermissionError:
            raise Forbidden(f"{self._memory.parent} cannot be written: run this as root") from None
