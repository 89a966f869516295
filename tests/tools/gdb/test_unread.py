"""Libraries whose symbols wait: what gdb says of values that only those symbols explain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from diagnosis.crashes.modules import MappedModule, Modules
from diagnosis.crashes.unwind.walk import walk
from settings import GdbSettings
from tests.standins import analysed, crashing
from tools.gdb import plan
from tools.gdb.opened import opened_core
from tools.gdb.sandbox import launch, private_folder
from tools.gdb.session import OPTIONS, open_session
from tools.gdb.unread import LIST, Unread, unread

pytestmark = pytest.mark.gdb
LOCALS = {
    "function": ("void (*kept)() = &std::terminate;", "<std::terminate()>"),
    "category": (
        "std::error_code kept = std::make_error_code(std::errc::no_such_file_or_directory);",
        "error_category",
    ),
    "number": ("int kept = 7;", "7"),
}
SOURCE = """
#include <exception>
#include <system_error>
int read(int *p) { return *p; }
int main() {
    %s
    int *volatile nothing = nullptr;
    return read(nothing) + sizeof kept;
}
"""


@cache
def crashed(name: str) -> tuple[Path, Path]:
    """A core, and its program: `kept` is in main."""
    source = crashing.made(f"{name}.cpp", lambda target: target.write_text(SOURCE % LOCALS[name][0]))
    flags = ["-std=c++17", "-g", "-O0", "-w", "-Wl,--no-as-needed", "-Wl,--build-id"]
    program = crashing.compiled(f"unread-{name}", "g++", *flags, str(source))
    return crashing.crash(program, [], crashing.folder() / f"unread-{name}-run"), program


@pytest.mark.parametrize("name", LOCALS)
async def test_the_answer_is_that_of_a_gdb_that_read_all(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    core, program = crashed(name)
    waited = (await analysed.examined(core, program)).report
    monkeypatch.setattr(plan, "unread", lambda opened, stacks: Unread(()))
    monkeypatch.setattr(analysed, "_found", {})
    assert (await analysed.examined(core, program)).report == waited
    main = next(frame for frame in waited.threads[0].frames if frame.function == "main")
    (kept,) = [variable.value or "" for variable in main.locals if variable.name == "kept"]
    assert LOCALS[name][1] in kept


@pytest.mark.parametrize(("name", "read"), [("number", "0"), ("function", "1")])
async def test_symbols_are_read_when_an_answer_needs_them(name: str, read: str) -> None:
    core, program = crashed(name)
    async with opened_core(core, executable=program) as opened, private_folder() as folder:
        start = await launch(opened.case, GdbSettings(sandbox="rlimits"), folder, OPTIONS)
        async with open_session(start, 1 << 20) as session:
            until = asyncio.get_running_loop().time() + 60
            left = unread(opened, walk(opened.core, opened.modules))
            await plan.load(session, opened, 8, until, printers=False, left=left)
            await session.run(["-stack-list-variables --thread 1 --frame 1 --all-values"], until)
            session.unread = None  # the list names their addresses
            (answer,) = await session.run([LIST], until)
    found = {Path(item["id"]).name: item["symbols-loaded"] for item in answer.payload["shared-libraries"]}
    assert (found["libc.so.6"], found["libstdc++.so.6"]) == ("1", read)


async def test_what_gdb_had_answered_is_told_when_it_dies_of_the_symbols_that_waited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    core, program = crashed("function")
    dies = '-interpreter-exec console "python import os; os._exit(3)"'

    def needed_by(left: Unread, lines: Iterable[bytes]) -> list[str]:
        return [dies] if any(b"frame" in line for line in lines) else []

    monkeypatch.setattr(Unread, "needed_by", needed_by)
    monkeypatch.setattr(analysed, "_found", {})
    report = (await analysed.examined(core, program)).report
    assert [frame.function for frame in report.threads[0].frames] == ["read", "main"]
    assert any("gdb ended by itself" in text for text in report.soft_errors), report.soft_errors


def test_what_is_looked_up_by_name_needs_all_symbols() -> None:
    module = SimpleNamespace(path="/lib/a+b.so", base=0x7F0000000000, end=0x7F0000100000)
    listed = {"shared-libraries": [{"host-name": "/srv/lib/a+b.so", "ranges": [{"from": "0x7f0000001000"}]}]}
    for line, needed in {
        b'1^done,value="{static count = <optimized out>, own = 7}"': True,
        b'1^done,value="<error reading variable: Missing ELF symbol "count".>"': True,
        b'1^done,value="0x7f00000fffff"': True,
        b'1^done,value="0x7f0000100000 <optimized out> std::string"': False,
    }.items():
        left = Unread([cast(MappedModule, module)])
        assert left.others(listed, cast(Modules, SimpleNamespace(at=lambda address: module))) == []
        expected = ['-interpreter-exec console "sharedlibrary ^/srv/lib/a.b.so$"'] if needed else []
        assert left.needed_by([line]) == expected
        assert bool(left) is not needed
