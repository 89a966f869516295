"""Line tables of code objects, against what the interpreter that wrote them says."""

from __future__ import annotations

import json
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnosis.crashes.causes.python.layouts import LineTable
from diagnosis.crashes.causes.python.lines import line_at
from tests.standins import pythons

_LIMIT = 30
_ASK = """
import argparse, dis, json, sys
def codes(code):
    yield code
    for each in code.co_consts:
        if hasattr(each, "co_code"):
            yield from codes(each)
def account(code):
    if sys.version_info >= (3, 10):
        table, told = code.co_linetable, [(a, b, line) for a, b, line in code.co_lines()]
    else:
        starts = list(dis.findlinestarts(code)) + [(len(code.co_code), None)]
        table, told = code.co_lnotab, [(a, b, line) for (a, line), (b, _) in zip(starts, starts[1:])]
    return table.hex(), code.co_firstlineno, told
long = "def f(x):\\n" + "\\n" * 300 + "    return [x, " + "x + " * 400 + "1,\\n" + "\\n" * 5000 + "    x.y(\\n\\n  x)]"
sources = [open(module.__file__, encoding="utf-8").read() for module in (argparse,)] + [long]
print(json.dumps([account(each) for text in sources for each in codes(compile(text, "f", "exec"))]))
"""
KINDS: dict[str, LineTable] = {
    "own": "locations", "3.8": "lnotab", "3.9": "lnotab", "3.10": "ranges", "3.12": "locations", "3.13": "locations"
}  # fmt: skip


@pytest.mark.parametrize("which", KINDS)
def test_every_instruction_has_the_line_that_the_interpreter_says(which: str) -> None:
    answer = subprocess.run(
        [str(pythons.interpreter(which)), "-c", _ASK], capture_output=True, timeout=_LIMIT, check=True
    )
    checked = 0
    for table, first, told in json.loads(answer.stdout):
        data = bytes.fromhex(table)
        for start, end, told_line in told[:: 1 + len(told) // 200]:
            line = told_line or None  # 0: before a module's first line
            assert line_at(KINDS[which], data, first, start) == line
            assert end <= start or line_at(KINDS[which], data, first, end - 1) == line
            checked += 1
        assert line_at(KINDS[which], data, first, -1) == first
    assert checked > 1000


@given(st.sampled_from(["lnotab", "ranges", "locations"]), st.binary(max_size=200), st.integers(), st.integers())
def test_any_bytes_give_a_line_or_none(kind: LineTable, table: bytes, first: int, offset: int) -> None:
    line = line_at(kind, table, first, offset)
    assert line is None or 0 < line < 1 << 31
