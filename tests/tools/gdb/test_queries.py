"""The typed questions: what they answer, and that nothing else gets to gdb."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from errors import InvalidInput, ToolFailed
from settings import GdbSettings
from tests.standins import crashing
from tools.gdb.queries import ANSWER_CHARS, QUERIES, run_query

pytestmark = pytest.mark.gdb


async def ask(name: str, args: dict[str, object], mode: str = "wild", **more: object) -> str:
    core = crashing.core(mode)
    files = {"core": core, "executable": None if more else crashing.program()}
    return await run_query(name, args, settings=GdbSettings(), **files, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("backtrace", {"frames": 1}, ["Shop::follow", "order=0x"]),
        ("frame", {"frame": 1}, ["main (", "crashing.cpp:"]),
        ("locals", {"frame": 1}, ["mode: std::string", "{3, 5, 8}"]),
        ("expression", {"expression": "order->next"}, ["0x4141414141414141"]),
        ("expression", {"frame": 1, "expression": "argv[1][0x0]"}, ["119 'w'"]),
        ("arguments", {"frame": 1}, ["argc = 2", "argv = 0x"]),
        ("type", {"type": "Order"}, ["/* offset", "total size (bytes):"]),
        ("type", {"frame": 1, "type": "mode"}, ["string"]),
        ("disassemble", {}, ["=> ", "mov", "[rax+0x18]"]),
        ("registers", {}, ["rip = 0x", "rax = 0x4141414141414141"]),
        ("threads", {}, ["(crashed)", "Shop::follow"]),
        ("modules", {}, ["libc.so.6", "build-id", "exact"]),
        ("source", {}, ["crashing.cpp:", "not below the sysroot"]),
    ],
)
async def test_each_question(name: str, args: dict[str, object], words: list[str]) -> None:
    answer = await ask(name, args)
    for word in words:
        assert word in answer


async def test_memory_and_source_are_read_where_they_are(tmp_path: Path) -> None:
    rsp = next(line for line in (await ask("registers", {})).splitlines() if line.startswith("rsp")).split(" = ")[1]
    dump = await ask("memory", {"address": rsp, "count": 32})
    assert len(dump.splitlines()) == 2
    assert "no memory" in await ask("memory", {"address": "0x1", "count": 8})
    assert "rw" in await ask("symbol", {"address": rsp})
    assert "nothing is mapped" in await ask("symbol", {"address": "0x1"})
    rip = next(line for line in (await ask("registers", {})).splitlines() if line.startswith("rip")).split(" = ")[1]
    named = await ask("symbol", {"address": rip})
    assert "Shop::follow" in named
    assert f"Line {crashing.line_of('wild')}" in named
    for file in (crashing.program(), crashing.SOURCE):  # an image with its sources
        target = tmp_path / str(file).lstrip("/")
        target.parent.mkdir(parents=True)
        shutil.copy(file, target)
    shown = await ask("source", {}, sysroot=tmp_path)
    assert f"=> {crashing.line_of('wild'):5}" in shown


@pytest.mark.parametrize(
    "expression",
    [
        "shell id", "order; shell id", "order\n-interpreter-exec console \"shell id\"", "$_shell(\"id\")", "system(1)",
        "a+b", "(char)1", "`id`", "\"x\"", "a b", "--thread 2", "-", "", "a[b]", "*(int*)0", "order\n", "order\u2028x",
        "a." * 200, "$rip", "&order", "ordér", "order->next ", "@entry", "a::b",
    ],
)  # fmt: skip
async def test_no_other_text_is_an_expression(expression: str) -> None:
    with pytest.raises(InvalidInput):
        await ask("expression", {"expression": expression})


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("shell", {}),
        ("backtrace", {"frames": 10**9}),
        ("backtrace", {"thread": "1 --all"}),
        ("backtrace", {"command": "shell id"}),
        ("memory", {"address": "$rsp"}),
        ("type", {"type": 'Order" "shell id'}),
        ("type", {"type": "/x Order"}),
        ("symbol", {"address": "main"}),
        ("memory", {"address": "0x10", "count": 10**9}),
        ("frame", {"frame": -1}),
        ("registers", {"thread": 1}),
        ("backtrace", {"thread": 1}),
    ],
)
async def test_wrong_questions_are_refused(name: str, args: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        await ask(name, args)


async def test_what_gdb_does_not_know_is_one_clear_error() -> None:
    with pytest.raises(ToolFailed, match="No symbol"):
        await ask("expression", {"expression": "nothing_of_that_name"})


async def test_answers_are_bounded() -> None:
    answer = await ask("backtrace", {"frames": 256}, mode="overflow")
    assert len(answer) <= ANSWER_CHARS + 20


def test_every_question_describes_its_arguments() -> None:
    assert len(QUERIES) == 13
    for name, spec in QUERIES.items():
        assert spec.name == name
        assert spec.description
        assert spec.schema()["additionalProperties"] is False
