"""Names and lines for depths that gdb was not asked to unwind to: it is asked about their addresses instead."""

from __future__ import annotations

import re

from diagnosis.crashes.modules import Modules
from diagnosis.crashes.threads import known_frames
from diagnosis.crashes.unwind.merge import unnamed
from diagnosis.crashes.unwind.walk import Walk
from diagnosis.crashes.view import DebuggerView
from incidents.crash_frames import Frame
from tools.gdb.session import GdbSession

_MAX_ASKED = 128
_LINE = re.compile(r'^Line (?P<line>\d+) of "(?P<file>.*?)"')
_NAME = re.compile(r"address 0x[0-9a-f]+ <(?P<name>.+?)(?:\+\d+)?>(?= |\.|$)", re.MULTILINE)


async def deeper(session: GdbSession, modules: Modules, walk: Walk | None, deadline: float, view: DebuggerView) -> None:
    """Fill `view.at` for frames that will be listed and that have no name yet. Raises GdbStopped."""
    known = known_frames(view)
    wanted: dict[int, int] = {}
    for tid in view.frames:
        stack = walk.stacks.get(tid) if walk else None
        if stack is not None:
            wanted.update(unnamed(stack, known, view.frames[tid]))
    asked = [(pc, at) for pc, at in wanted.items() if modules.at(at) is not None][:_MAX_ASKED]
    if not asked:
        return
    commands = [f'-interpreter-exec console "info line *{at:#x}"' for _, at in asked]
    for (pc, _), answer in zip(asked, await session.run(commands, deadline), strict=True):
        name, line = _NAME.search(answer.console), _LINE.search(answer.console)
        module = modules.at(pc)
        if name is None or module is None:
            continue
        view.at[pc] = Frame(
            frame=0,
            offset=hex(pc),
            module=module.path.encode("utf-8", "replace").decode(),
            module_offset=hex(pc - module.base),
            build_id=module.build_id,
            function=_function(name["name"][:1000], typed=line is not None),
            file=line["file"][:1000] if line else None,
            line=int(line["line"]) if line else None,
            in_app=module.is_main,
        )


def _function(name: str, *, typed: bool) -> str:
    """As gdb names it in a stack: without the arguments, where debug information has them elsewhere."""
    at = name.find("(", name.find("operator()") + 10 if "operator()" in name else 0)
    while name.startswith("(anonymous namespace)", at):
        at = name.find("(", at + 1)
    return name[:at] if typed and at > 0 else name
