"""Source lines around a crash, read from local folders that a person named.

Debug information can name any path, and a core is believed by nobody: in a service only configured folders are read.
On a command line the user's own files may be read where they lie. Only regular files with a source file's name are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from incidents.crash_frames import Frame, SourceContext, SourceLine
from incidents.crash_report import CrashReport
from incidents.models import Diagnosis

_SUFFIXES = {".c", ".cc", ".cpp", ".cxx", ".h", ".hh", ".hpp", ".hxx", ".inl", ".tcc", ".rs", ".go", ".s", ".S"}
_MAX_BYTES = 4 << 20
_CONTEXT = 3
_FRAMES = 4
_MAX_LINE = 300
_REVISION = re.compile(rb"vcs\.revision=([0-9a-f]{7,64})")
_SEARCHED_BYTES = 64 << 20


def with_source(diagnosis: Diagnosis, folders: Sequence[Path], *, as_named: bool) -> Diagnosis:
    """`diagnosis` with `source_context` in the innermost frames of the program. Blocking.

    `folders` are searched for the longest end of the path that exists; `as_named` also reads the path itself.
    """
    report = diagnosis.crash
    if report is None or not report.threads or not (folders or as_named):
        return diagnosis
    built, commit = _build_of(report)
    thread = report.threads[0]
    frames, left = list(thread.frames), _FRAMES
    for index, frame in enumerate(frames):
        if left and frame.in_app and (context := _context(frame, folders, as_named, built, commit)):
            frames[index] = frame.model_copy(update={"source_context": context})
            left -= 1
    threads = [thread.model_copy(update={"frames": frames}), *report.threads[1:]]
    return diagnosis.model_copy(update={"crash": report.model_copy(update={"threads": threads})})


def _context(
    frame: Frame, folders: Sequence[Path], as_named: bool, built: float | None, commit: str | None
) -> SourceContext | None:
    if not frame.file or not frame.line or PurePosixPath(frame.file).suffix not in _SUFFIXES:
        return None
    for path in _candidates(frame.file, folders, as_named):
        try:
            status = path.stat()
            if not path.is_file() or status.st_size > _MAX_BYTES:
                continue
            data = path.read_bytes()
        except (OSError, ValueError):
            continue
        lines = data.decode("utf-8", "replace").splitlines()
        if frame.line > len(lines):
            continue
        first = max(0, frame.line - 1 - _CONTEXT)
        shown = enumerate(lines[first : frame.line + _CONTEXT], first + 1)
        return SourceContext(
            path=str(path),
            lines=[SourceLine(number=number, text=text[:_MAX_LINE]) for number, text in shown],
            sha256=hashlib.sha256(data).hexdigest(),
            commit=commit,
            newer_than_build=status.st_mtime > built if built is not None else None,
        )
    return None


def _candidates(name: str, folders: Sequence[Path], as_named: bool) -> Iterator[Path]:
    """Files that may be meant, the surest first. Nothing outside of `folders` unless `as_named`."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "..", ".")]
    for folder in folders:
        root = folder.resolve()
        for start in range(min(len(parts), 32)):
            path = root.joinpath(*parts[start:])
            try:
                if path.resolve().is_relative_to(root):
                    yield path
            except (OSError, RuntimeError, ValueError):
                continue
    if as_named and name.startswith("/"):
        yield Path(name)


def _build_of(report: CrashReport) -> tuple[float | None, str | None]:
    """When the executable was written, and the commit that it says it was built from (Go records it)."""
    if report.executable is None:
        return None, None
    try:
        path = Path(report.executable)
        with path.open("rb") as file:
            found = _REVISION.search(file.read(_SEARCHED_BYTES)) if _may_say(report) else None
        return path.stat().st_mtime, found[1].decode() if found else None
    except OSError:
        return None, None


def _may_say(report: CrashReport) -> bool:
    return report.runtime is not None and report.runtime.go is not None
