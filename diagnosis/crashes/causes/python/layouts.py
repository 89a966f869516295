"""Where CPython keeps what its stacks are made of, by minor version; x86-64 and builds with the GIL only.

3.8 to 3.12: offsetof() in the headers of 3.8.18, 3.9.18, 3.10.13, 3.11.2, 3.11.7 and 3.12.1 (Include/cpython/pystate.h,
frameobject.h, code.h, unicodeobject.h; Include/internal/pycore_runtime.h, pycore_interp.h, pycore_frame.h). Since 3.13
`_PyRuntime` begins with a description of itself, `_Py_DebugOffsets` (pycore_runtime.h).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Literal

from diagnosis.crashes.core_file import Memory

LineTable = Literal["lnotab", "ranges", "locations"]
"""lnotab: to 3.9; ranges: PEP 626, 3.10; locations: since 3.11 (Objects/locations.md)."""

FIRST_MINOR, LAST_MINOR = 8, 13
_DESCRIBED_SINCE = 13
COOKIE = b"xdebugpy"
"""The first bytes of `_PyRuntime` since 3.13"""
_LARGEST_OFFSET = 1 << 22


@dataclass(frozen=True)
class Layout:
    """Offsets in bytes."""

    interpreters: int
    """_PyRuntimeState.interpreters.head"""
    next_interpreter: int
    threads: int
    next_thread: int
    """PyThreadState, as all up to `handled`"""
    thread_id: int
    native_id: int | None
    frame: int
    """The innermost frame; with `frame_in` first a _PyCFrame, which has it there."""
    frame_in: int | None
    raised: int
    raised_type: int | None
    handled: int
    """exc_info, a chain of _PyErr_StackItem"""
    handled_value: int
    handled_before: int
    code: int
    """PyFrameObject or _PyInterpreterFrame, as all up to `owner`"""
    back: int
    instruction: int
    owner: int | None
    shim: int | None
    """The owner of frames that stand for C code and have no Python code"""
    function: int
    """PyCodeObject: its qualified name, before 3.11 its name. As all up to `bytecode`."""
    file: int
    first_line: int
    line_table: int
    bytecode: int | None
    """What `instruction` points into; None where it is an index."""
    unit: int
    """Bytes of an index"""
    lines: LineTable
    ascii_text: int
    """Where the characters of a compact string begin"""
    wide_text: int


_3_8 = Layout(
    interpreters=32,
    next_interpreter=0,
    threads=8,
    next_thread=8,
    thread_id=176,
    native_id=None,
    frame=24,
    frame_in=None,
    raised=96,
    raised_type=88,
    handled=144,
    handled_value=8,
    handled_before=24,
    code=32,
    back=24,
    instruction=104,
    owner=None,
    shim=None,
    function=112,
    file=104,
    first_line=40,
    line_table=120,
    bytecode=None,
    unit=1,
    lines="lnotab",
    ascii_text=48,
    wide_text=72,
)
_3_10 = replace(_3_8, instruction=96, unit=2, lines="ranges")
_3_11 = replace(
    _3_8,
    interpreters=40,
    threads=16,
    thread_id=152,
    native_id=160,
    frame=56,
    frame_in=8,
    raised=104,
    raised_type=96,
    handled=120,
    handled_value=0,
    handled_before=8,
    back=48,
    instruction=56,
    owner=69,
    function=128,
    file=112,
    first_line=72,
    line_table=136,
    bytecode=184,
    unit=2,
    lines="locations",
)
_3_12 = replace(
    _3_11,
    threads=72,
    thread_id=136,
    native_id=144,
    frame_in=0,
    raised=96,
    raised_type=None,
    handled=104,
    code=0,
    back=8,
    owner=70,
    shim=3,
    first_line=68,
    bytecode=192,
    ascii_text=40,
    wide_text=56,
)
_3_13 = replace(_3_12, frame=72, frame_in=None, raised=112, handled=120)
"""Only what the description does not say."""

_TABLE = {8: _3_8, 9: _3_8, 10: _3_10, 11: _3_11, 12: _3_12}

_DESCRIBED = """
runtime.size runtime.finalizing runtime.interpreters
interpreter.size interpreter.id interpreter.next interpreter.threads interpreter.gc interpreter.modules
interpreter.sysdict interpreter.builtins interpreter.ceval_gil interpreter.gil interpreter.gil_enabled
interpreter.gil_locked interpreter.gil_holder
thread.size thread.prev thread.next thread.interp thread.frame thread.id thread.native_id thread.datastack
thread.status
frame.size frame.previous frame.executable frame.instr_ptr frame.localsplus frame.owner
code.size code.filename code.name code.qualname code.linetable code.firstlineno code.argcount code.localsplusnames
code.localspluskinds code.bytecode
object.size object.type
type.size type.name type.repr type.flags
tuple.size tuple.item tuple.ob_size
list.size list.item list.ob_size
dict.size dict.keys dict.values
float.size float.value
long.size long.tag long.digit
bytes.size bytes.ob_size bytes.value
unicode.size unicode.state unicode.length unicode.ascii_size
"""
_DESCRIPTION = tuple(_DESCRIBED.split())


def layout_of(minor: int, memory: Memory, runtime: int) -> Layout | str:
    """The layout of Python 3.`minor`, whose `_PyRuntime` is at `runtime`; else why it is not known."""
    if not FIRST_MINOR <= minor <= LAST_MINOR:
        return f"Python 3.{minor} is not supported (3.{FIRST_MINOR} to 3.{LAST_MINOR} are)"
    return _TABLE[minor] if minor < _DESCRIBED_SINCE else _described(memory, runtime)


def _described(memory: Memory, runtime: int) -> Layout | str:
    fields = struct.Struct(f"<8s2Q{len(_DESCRIPTION)}Q")
    data = memory.read(runtime, fields.size)
    if len(data) < fields.size or data[:8] != COOKIE:
        return "the interpreter's description of itself (_Py_DebugOffsets) is not in the core or damaged"
    _, _, free_threaded, *values = fields.unpack(data)
    if free_threaded:
        return "builds of Python without the GIL are not supported"
    at = dict(zip(_DESCRIPTION, values, strict=True))
    if max(values) > _LARGEST_OFFSET:
        return "the interpreter's description of itself (_Py_DebugOffsets) is damaged"
    return replace(
        _3_13,
        interpreters=at["runtime.interpreters"],
        next_interpreter=at["interpreter.next"],
        threads=at["interpreter.threads"],
        next_thread=at["thread.next"],
        thread_id=at["thread.id"],
        native_id=at["thread.native_id"],
        frame=at["thread.frame"],
        code=at["frame.executable"],
        back=at["frame.previous"],
        instruction=at["frame.instr_ptr"],
        owner=at["frame.owner"],
        function=at["code.qualname"],
        file=at["code.filename"],
        first_line=at["code.firstlineno"],
        line_table=at["code.linetable"],
        bytecode=at["code.bytecode"],
        ascii_text=at["unicode.ascii_size"],
        wide_text=at["unicode.size"] - 8,  # PyUnicodeObject is PyCompactUnicodeObject and a pointer
    )
