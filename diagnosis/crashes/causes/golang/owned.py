"""Which frames of a Go program are its own: it is one file, so its code is told from Go's by where the sources lay."""

from __future__ import annotations

from collections.abc import Sequence

from incidents.crash_frames import Frame

_RUNTIME = "/src/runtime/"
_LIBRARY_NAMES = """
    archive bufio bytes cmp compress container context crypto database debug embed encoding errors expvar flag fmt
    go hash html image index internal io iter log maps math mime net os path plugin reflect regexp runtime slices
    sort strconv strings structs sync syscall testing text time unicode unique unsafe vendor weak"""
"""First folders of the standard library: all that is known of sources that were built with -trimpath."""
_LIBRARY = frozenset(_LIBRARY_NAMES.split())


def owned(frames: Sequence[Frame]) -> list[Frame]:
    """The frames with `in_app`."""
    root = next(
        (file[: file.index(_RUNTIME) + 5] for frame in frames if (file := frame.file) and _RUNTIME in file),
        None,
    )

    def own(frame: Frame) -> bool:
        name, file = frame.function or "", frame.file or ""
        if not name or name.startswith("runtime."):
            return False
        if root is not None:
            return bool(file) and not file.startswith(root)  # without one it is C code
        return file.startswith("/") or file.partition("/")[0] not in _LIBRARY

    return [frame.model_copy(update={"in_app": own(frame)}) for frame in frames]
