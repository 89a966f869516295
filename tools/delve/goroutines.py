"""The crashed goroutine's stack and a count of all others, from a core of a Go program.

delve is given a fixed script on a file and answers in text; nothing of the core reaches its command line. It runs
where gdb does: in the confined process, under the same limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
from pathlib import Path

from diagnosis.crashes.causes.go import Goroutines
from diagnosis.crashes.causes.golang.owned import owned
from diagnosis.crashes.modules import Modules
from errors import ToolFailed, ToolMissing, ToolTimeout
from incidents.crash_frames import Frame
from settings import GdbSettings
from tools.gdb.opened import OpenedCore
from tools.gdb.sandbox import launch_program, private_folder

PROGRAM = "dlv"
_ARGUMENT_FRAMES = 24
_MAX_FRAMES = 128
_MAX_GROUPS = 50
_OUTPUT_BYTES = 4 << 20
_FRAME = re.compile(r"^ *(?P<level>\d+)  (?P<pc>0x[0-9a-f]{1,16}) in (?P<function>.+)$")
_PLACE = re.compile(r"^ +at (?P<file>.*):(?P<line>-?\d+)$")
_TOTAL = re.compile(r"^\tTotal: (?P<count>\d+)$")
_VALUE = re.compile(r"^(?:e|s) = (?:interface \{\}\((?P<type>[^)]{1,200})\) )?(?P<value>.+)$")
_MARK = re.compile(r"^script:\d+: command not available$", re.MULTILINE)
"""What delve says to the line `-` of the script, which stands between its parts."""


async def goroutines(opened: OpenedCore, settings: GdbSettings, deadline: float) -> Goroutines:
    """Ask delve. `deadline` is in the event loop's time.

    Raises ToolMissing without delve or without the executable, ToolTimeout, ToolFailed when it cannot read the core.
    """
    if await asyncio.to_thread(shutil.which, PROGRAM) is None:
        raise ToolMissing("delve is not installed; on Debian: apt-get install delve")
    if opened.case.executable is None:
        raise ToolMissing("delve needs the executable (--exe)")
    async with private_folder() as folder:
        script = folder / "script"
        await asyncio.to_thread(script.write_text, _script())
        options = ["core", "exe", "core", "--init", "script", "--allow-non-terminal-interactive=true"]
        # Go reserves more addresses than it uses; the machine's memory stays bounded by the worker's own limit
        limits = settings.model_copy(update={"program": PROGRAM})
        start = await launch_program(
            opened.case, limits, folder, [*options, "--check-go-version=false"], {"script": script}
        )
        text = await _output(start.argv, {**start.env, "HOME": str(folder)}, start.cwd, deadline)
    found = parse(text, opened.modules)
    if not found.frames:
        reason = next((line for line in text.splitlines() if line.strip()), "it answered nothing")
        raise ToolFailed(f"delve could not read the core: {reason.strip()[:200]}")
    return found


def _script() -> str:
    arguments = "".join(f"frame {level} args\n" for level in range(_ARGUMENT_FRAMES))
    return f"bt {_MAX_FRAMES}\n-\n{arguments}-\ngoroutines -group userloc\nexit\n"


async def _output(argv: list[str], env: dict[str, str], cwd: Path | None, deadline: float) -> str:
    """Everything that it writes, up to a limit. It is dead afterwards, with all that it started."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=env,
        cwd=cwd,
        start_new_session=True,
    )
    assert process.stdout is not None
    data = bytearray()
    try:
        async with asyncio.timeout_at(deadline):
            while len(data) < _OUTPUT_BYTES and (part := await process.stdout.read(1 << 16)):
                data += part
    except TimeoutError:
        raise ToolTimeout("delve did not finish in time") from None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return data.decode("utf-8", "replace")


def parse(text: str, modules: Modules) -> Goroutines:
    """delve's answers to the script: the stack, arguments of the innermost frames, goroutines by place."""
    stack, arguments, listing = (*_MARK.split(text, 2), "", "")[:3]
    found = Goroutines(text=stack.strip())
    lines = stack.splitlines()
    for index, line in enumerate(lines):
        match = _FRAME.match(line)
        if match is None or len(found.frames) >= _MAX_FRAMES:
            continue
        place = _PLACE.match(lines[index + 1]) if index + 1 < len(lines) else None
        found.frames.append(_frame(match, place, modules))
    # where the kernel switched to the signal's stack, delve shows a frame that is none
    found.frames = owned([frame for frame in found.frames if frame.function or frame.module])
    for line in arguments.splitlines():
        value = _VALUE.match(line.strip())
        if value is not None and "unreadable" not in value["value"] and found.panic is None:
            found.panic = value["value"].strip().strip('"')[:1000]
    _count(found, listing)
    return found


def _frame(match: re.Match[str], place: re.Match[str] | None, modules: Modules) -> Frame:
    pc = int(match["pc"], 16)
    module = modules.at(pc)
    line = int(place["line"]) if place else -1
    file = place["file"] if place and place["file"] != "?" else None
    name = match["function"].strip()[:1000]
    return Frame(
        frame=int(match["level"]),
        trust="delve",
        offset=hex(pc),
        module=module.path.encode("utf-8", "replace").decode() if module else None,
        module_offset=hex(pc - module.base) if module else None,
        build_id=module.build_id if module else None,
        function=None if name == "???" else name,
        file=file[:1000] if file else None,
        line=line if file and line > 0 else None,
    )


def _count(found: Goroutines, listing: str) -> None:
    place = ""
    for line in listing.splitlines():
        if total := _TOTAL.match(line):
            found.count = (found.count or 0) + int(total["count"])
            if len(found.groups) < _MAX_GROUPS:
                found.groups.append((place[:300], int(total["count"])))
        elif line and not line[0].isspace():
            place = line.strip()
