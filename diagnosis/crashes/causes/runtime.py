"""`runtime` of a crash report: what was recovered, by language."""

from __future__ import annotations

import re

from diagnosis.crashes.causes.go import Goroutines, go_end
from diagnosis.crashes.causes.python.stack import PyFrame, PythonStacks
from diagnosis.crashes.causes.rust import RustPanic
from diagnosis.crashes.memory_causes import MemoryText, ThrownObject
from incidents.crash_verdicts import (
    CxxRuntime,
    GlibcRuntime,
    GoRuntime,
    PythonFrame,
    PythonRuntime,
    PythonThread,
    Runtime,
    RustRuntime,
)

_FIRST_FRAMES, _LAST_FRAMES = 128, 32
_HEAP = re.compile(r"free\(\)|malloc|realloc|munmap_chunk|double free|corrupted|tcache|invalid (?:pointer|size|chunk)")


def runtime_of(
    message: MemoryText | None,
    thrown: ThrownObject | None,
    rust: RustPanic | None,
    go: Goroutines | None,
    python: PythonStacks | None = None,
) -> Runtime | None:
    """Nothing was recovered: None."""
    found = Runtime(
        glibc=_glibc(message.text) if message else None,
        cxx=CxxRuntime(exception_type=_text(thrown.type), what=_text(thrown.what), source="memory_scan")
        if thrown
        else None,
        rust=RustRuntime(panic_message=rust.message, location=rust.location) if rust else None,
        go=_go(go) if go else None,
        python=_python(python) if python and python.version else None,
    )
    parts = (found.glibc, found.cxx, found.rust, found.go, found.python)
    return found if any(part is not None for part in parts) else None


def _glibc(text: str) -> GlibcRuntime:
    smashed = "stack smashing detected" in text
    fortified = "detected ***" in text and not smashed
    assertion = "Assertion `" in text
    return GlibcRuntime(
        abort_message=text,
        heap_corruption=text if _HEAP.search(text) and not assertion and not fortified else None,
        fortify=text if fortified else None,
        stack_smashing=smashed,
    )


def _go(go: Goroutines) -> GoRuntime:
    end = go_end(go.frames, go.fatal)
    fatal = end is not None and end.fatal
    text = (go.fatal if fatal else None) or go.panic or (end.because if end else None)
    return GoRuntime(goroutines=go.count, panic=None if fatal else _text(text), fatal=_text(text) if fatal else None)


def _python(stacks: PythonStacks) -> PythonRuntime:
    frames = [_frame(number, frame) for number, frame in enumerate(stacks.crashed.frames if stacks.crashed else [])]
    deep = len(frames) > _FIRST_FRAMES + _LAST_FRAMES
    return PythonRuntime(
        py_stack=frames[:_FIRST_FRAMES] + frames[-_LAST_FRAMES:] if deep else frames,
        frame_count=len(frames),
        truncated=stacks.crashed.truncated if stacks.crashed else None,
        version=stacks.version,
        exception=stacks.exception,
        threads=[
            PythonThread(
                native_tid=stack.tid,
                frames=[_frame(number, frame) for number, frame in enumerate(stack.frames)],
                truncated=stack.truncated,
            )
            for stack in stacks.others
        ],
    )


def _frame(number: int, frame: PyFrame) -> PythonFrame:
    return PythonFrame(frame=number, function=frame.function, file=frame.file, line=frame.line, in_app=frame.in_app)


def _text(value: str | None) -> str | None:
    return None if value is None else value.encode("utf-8", "replace").decode("utf-8")
