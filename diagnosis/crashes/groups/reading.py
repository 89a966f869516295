"""A crash out of somebody's JSON: our reports, rust-minidump's, CASR's, or a bare list of frames.

Everything here is outside data of any shape: what is not a frame is passed over, sizes are bounded, and nothing but
`InvalidInput` is raised.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from diagnosis.crashes.groups.hashes import address_signature
from diagnosis.crashes.groups.reason import reason_of
from diagnosis.crashes.groups.stack import NormalStack, normal_stack, outside
from errors import InvalidInput

MAX_FRAMES = 400
_TEXT = 4096
_LINE = 600
_LISTS = ("frames", "stacktrace", "Stacktrace", "stack", "backtrace")
_NUMBERED = re.compile(r"^\s*#\d+\s*")
_ADDRESS = re.compile(r"^(0x[0-9a-fA-F]{1,16})(?:\s+(?:in\s+)?|$)")
_IN_FILE = re.compile(r"\s+at\s+(?P<file>\S[^\n]*?):(?P<line>\d{1,9})(?::\d{1,9})?\s*$")
_PLACE = re.compile(r"\s+(?P<file>/[^\n:]+|[\w./+-]+\.\w{1,5}):(?P<line>\d{1,9})(?::\d{1,9})?\s*$")
_FROM = re.compile(r"\s+from\s+(?P<module>/\S+)\s*$")
_IN_MODULE = re.compile(
    r"\s*\((?P<module>[^()\s]+)\+(?P<offset>0x[0-9a-fA-F]{1,16})\)\s*(?:\(BuildId: (?P<id>[0-9a-f]+)\))?$"
)
_CANONICAL = re.compile(r"0x[1-9a-f][0-9a-f]{0,15}")
_MODULE_OFFSET = re.compile(r"^(?P<module>[^\s()]+\.so[.\d]*|[^\s()+]+)\+(?P<offset>0x[0-9a-fA-F]{1,16})$")


class PlainFrame(NamedTuple):
    """A frame as far as it is told."""

    function: str | None = None
    module: str | None = None
    module_offset: str | None = None
    offset: str | None = None
    build_id: str | None = None
    in_app: bool | None = None
    trust: str | None = None


@dataclass(frozen=True)
class ReadCrash:
    """`stack` is None when no frame of the crash can be named."""

    stack: NormalStack | None
    address_sig: str | None


def read_crash(document: Any) -> ReadCrash:
    """The crash that a JSON document tells of.

    Taken are: our CrashReport; our Diagnosis with `crash`; a list of `threads` (that named by `crashing_thread`, else
    the first); a list `frames`, `stacktrace` or `stack`. A frame is an object with some of function, module,
    module_offset (or offset), build_id, file, line, in_app; or a line as gdb, AddressSanitizer or a person writes it.
    Raises InvalidInput when there is no list of frames.
    """
    if isinstance(document, list):
        document = {"frames": document}
    if not isinstance(document, dict):
        raise InvalidInput("a crash is a JSON object with its frames")
    report = document
    for name in ("crash", "diagnosis", "crash"):
        inner = report.get(name)
        if isinstance(inner, dict) and _listed(report) is None:
            report = inner
    thread = _listed(report)
    if thread is None:
        raise InvalidInput("there are no frames: give threads, frames or stacktrace")
    frames = [frame for item in thread[:MAX_FRAMES] if (frame := _frame(item)) is not None]
    info = report.get("crash_info")
    info = info if isinstance(info, dict) else {}
    cause = _text(report.get("cause_class"))
    signal = _signal(info, report)
    program = _program(report)
    if cause == "external_signal":  # where it was running then is chance
        return ReadCrash(outside(program, signal), None)
    stack = normal_stack(
        frames,
        signal=signal,
        program=program,
        overflow=cause == "stack_overflow",
        round_of=_round(report),
        reason=_reason(cause, info, report),
    )
    if stack is None:  # CASR: else the address, which is the same in every run of programs that are not moved
        named = [frame._replace(function=f"@{frame.offset}") for frame in frames if frame.offset]
        stack = normal_stack(named, signal=signal, program=program)
    return ReadCrash(stack, address_signature(frames))


def read_line(text: str) -> PlainFrame | None:
    """One line of a stack as text: `#3  0x55… in App::run (this=0x0) at app.cpp:12`, `func file.c:1:2`, `name`."""
    rest = _NUMBERED.sub("", text[:_TEXT]).strip()
    address = None
    if found := _ADDRESS.match(rest):
        address, rest = _hex(found[1]), rest[found.end() :]
    module = offset = build_id = None
    cut = max(rest.rfind(") at "), rest.rfind(") from "))
    if len(rest) > _LINE:  # patterns are for lines of ordinary length; what follows the arguments is no name
        rest = rest[: cut + 1] if cut > 0 else rest
    elif found := _IN_MODULE.search(rest):
        module, offset, build_id = found["module"], found["offset"], found["id"]
        rest = rest[: found.start()]
    elif found := _FROM.search(rest):
        module = found["module"]
        rest = rest[: found.start()]
    elif found := _IN_FILE.search(rest) or _PLACE.search(rest):
        rest = rest[: found.start()]
    elif found := _MODULE_OFFSET.match(rest):
        return PlainFrame(module=found["module"], module_offset=found["offset"], offset=address)
    name = rest.strip()
    if name.startswith("in "):
        name = name[3:]
    function = None if name in ("", "??", "??()", "?? ()", "<unknown>") else name
    if function is None and module is None and address is None:
        return None
    return PlainFrame(function, module, offset, address, build_id)


def _listed(report: dict[str, Any]) -> list[Any] | None:
    """The frames of the crashing thread."""
    threads = report.get("threads")
    if isinstance(threads, list) and threads:
        info = report.get("crash_info")
        number = report.get("crashing_thread")
        if isinstance(info, dict) and number is None:
            number = info.get("crashing_thread")
        if isinstance(number, dict) and isinstance(number.get("frames"), list):
            return list(number["frames"])
        chosen = threads[0]
        named = [item for item in threads[:4096] if isinstance(item, dict) and item.get("thread_id") == number]
        if number is not None and named:
            chosen = named[0]
        elif isinstance(number, int) and not isinstance(number, bool) and 0 <= number < len(threads):
            chosen = threads[number]  # rust-minidump counts
        if isinstance(chosen, dict):
            return _frames_of(chosen)
        return chosen if isinstance(chosen, list) else None
    return _frames_of(report)


def _frames_of(holder: dict[str, Any]) -> list[Any] | None:
    for name in _LISTS:
        value = holder.get(name)
        if isinstance(value, list):
            return value
        if isinstance(value, dict) and isinstance(value.get("frames"), list):
            return list(value["frames"])
        if isinstance(value, str):
            return value[: _TEXT * MAX_FRAMES].splitlines()[:MAX_FRAMES]
    return None


def _frame(item: Any) -> PlainFrame | None:
    if isinstance(item, str):
        return read_line(item)
    if not isinstance(item, dict):
        return None
    get = item.get
    function, module, build_id, trust = get("function"), get("module"), get("build_id"), get("trust")
    function = _text(function or get("name") or get("symbol"))
    if function in ("??", "<unknown>"):
        function = None
    offset, own = _hex(get("offset")), _hex(get("module_offset"))
    if own is None and offset is not None and "trust" not in item:
        if "address" in item:
            own, offset = offset, _hex(get("address"))  # `offset` is then inside the module
        elif len(offset) < 12:
            own = offset  # a small number beside a module's name: no absolute address
    in_app = get("in_app")
    frame = PlainFrame(
        function,
        _text(module) if module is not None else None,
        own,
        offset,
        _text(build_id) if build_id is not None else None,
        in_app if in_app is True or in_app is False else None,
        "scan" if trust == "scan" else None,
    )
    if frame.function is None and frame.module is None:
        file = _text(item.get("file"))
        line = item.get("line")
        if file is None:
            return frame if offset else None
        place = f"{file.rsplit('/', 1)[-1]}#{line if isinstance(line, int) else '?'}"  # siggen's `file#line`
        return PlainFrame(function=place, in_app=frame.in_app, offset=offset)
    return frame


def _round(report: dict[str, Any]) -> Sequence[str]:
    threads = report.get("threads")
    thread = threads[0] if isinstance(threads, list) and threads else None
    recursion = thread.get("recursion") if isinstance(thread, dict) else None
    functions = recursion.get("functions") if isinstance(recursion, dict) else None
    return [name[:_TEXT] for name in functions[:64] if isinstance(name, str)] if isinstance(functions, list) else []


def _reason(cause: str | None, info: dict[str, Any], report: dict[str, Any]) -> str | None:
    exception, runtime = info.get("exception"), report.get("runtime")
    rust = runtime.get("rust") if isinstance(runtime, dict) else None
    return reason_of(
        cause,
        _text(info.get("abort_message")),
        _text(exception.get("type")) if isinstance(exception, dict) else None,
        _text(rust.get("location")) if isinstance(rust, dict) else None,
    )


def _signal(info: dict[str, Any], report: dict[str, Any]) -> str | None:
    """From `SIGSEGV / SEGV_MAPERR`, a name, or a number."""
    for value in (info.get("type"), report.get("signal"), info.get("si_signo")):
        if isinstance(value, str) and value.strip():
            return value.split("/")[0].strip()[:16]
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65:
            return str(value)
    return None


def _program(report: dict[str, Any]) -> str | None:
    process = report.get("process")
    if isinstance(process, dict):
        return _text(process.get("exe") or process.get("comm"))
    return _text(report.get("ExecutablePath") or report.get("executable"))


def _text(value: Any) -> str | None:
    return value[:_TEXT] if isinstance(value, str) and value and not value.isspace() else None


def _hex(value: Any) -> str | None:
    """A number as hexadecimal text; also from texts, with leading zeros or without 0x."""
    if value is None:
        return None
    if isinstance(value, str) and _CANONICAL.fullmatch(value):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64:
        return hex(value)
    if isinstance(value, str) and 0 < len(value) <= 20:
        try:
            return hex(int(value, 16))
        except ValueError:
            return None
    return None
