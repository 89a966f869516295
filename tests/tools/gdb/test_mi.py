"""gdb's records: our parser against pygdbmi's, and what a stopped gdb leaves of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pygdbmi.gdbmiparser import parse_response

from tools.gdb.mi import result_record, stream_text

RECORDS = [
    "12^done",
    "^exit",
    "7^connected,frame={}",
    '3^error,msg="No symbol \\"x\\" in current context."',
    '1^done,stack=[frame={level="0",addr="0x0",func="a\\tb"},frame={level="1",args=[]}],more="1"',
    '1^done,stack-args=[frame={level="0",args=[{name="s",type="char *",value="0x5 \\"caf\\303\\251 \\\\377\\""}]}]',
    '1^done,value="\\303\\251\\n\\033[0m\\e \\377 \\\\\\" end"',
    '1^done,ids=["1","2",["3"],{a="4"}],empty="",thread-ids={}',
    '1^done,value="brackets ]}[{ and a=\\"b\\", in a text, ünencoded"',
]


@pytest.mark.parametrize("record", RECORDS)
def test_records_are_read_as_pygdbmi_reads_them(record: str) -> None:
    theirs = parse_response(record)
    assert result_record(record) == (theirs["message"], theirs["payload"] or {})


NAMES = st.from_regex("[a-z_][a-z0-9_-]{0,8}", fullmatch=True)
VALUES = st.recursive(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)


def _written(value: Any) -> str:
    if isinstance(value, str):
        escaped = "".join(f"\\{char}" if char in '\\"' else char for char in value)
        return '"' + "".join(char if " " <= char <= "~" else _octal(char) for char in escaped) + '"'
    if isinstance(value, list):
        return "[" + ",".join(_written(item) for item in value) + "]"
    return "{" + ",".join(f"{name}={_written(item)}" for name, item in value.items()) + "}"


def _octal(char: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in char.encode())


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=4), st.data())
def test_what_was_written_is_read_and_what_was_cut_off_is_not(results: dict[str, Any], data: st.DataObject) -> None:
    record = "5^done," + _written(results)[1:-1]
    assert result_record(record) == ("done", results)
    cut = record[: data.draw(st.integers(len("5^done,") + 1, len(record) - 1))]
    try:
        kept = result_record(cut)[1]
    except ValueError:
        return
    assert list(kept.items()) == list(results.items())[: len(kept)]  # cut between two results


@pytest.mark.parametrize(
    "record", ["", "done", "1^done,a=[", '1^done,a="', "1^done,a={]", '1^done,"x"', "1^done]", "1^done,a=b"]
)
def test_what_is_no_record_is_an_error(record: str) -> None:
    with pytest.raises(ValueError):
        result_record(record)


def test_nesting_without_end_is_read() -> None:
    depth = 100_000
    assert result_record("1^done,a=" + "[" * depth + "]" * depth)[0] == "done"


@pytest.mark.parametrize(
    ("line", "text"),
    [('~"a \\"b\\"\\n"', 'a "b"\n'), ('&"warning: \\303\\251"', "warning: é"), ('@"x"', "x"), ("~", ""), ('="x"', "")],
)
def test_streams(line: str, text: str) -> None:
    assert stream_text(line) == text
