"""Crashes out of other people's JSON: the usual shapes are understood, nothing else does harm."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnosis.crashes.groups.reading import read_crash, read_line
from errors import InvalidInput

OBJECTS = [{"function": "App::run(int)"}, {"function": "main"}]
LINES = ["#0  0x000055d1 in App::run (this=0x0, x=7) at /src/app.cpp:12", "#1  main () at /src/main.cpp:3"]


@pytest.mark.parametrize(
    "document",
    [
        {"frames": OBJECTS},
        {"stacktrace": LINES},
        {"stacktrace": {"frames": OBJECTS}},
        {"Stacktrace": LINES},
        {"stack": "\n".join(LINES)},
        {"threads": [{"frames": OBJECTS}]},
        {"threads": [{"frames": [{"function": "wait"}]}, {"frames": OBJECTS}], "crashing_thread": 1},
        {"threads": [{"frames": []}, {"thread_id": 77, "frames": OBJECTS}], "crash_info": {"crashing_thread": 77}},
        {"crash": {"threads": [{"frames": OBJECTS}]}, "status": "diagnosed"},
        {"incident": {}, "diagnosis": {"crash": {"threads": [{"frames": OBJECTS}]}}},
        {"frames": ["    #0 0x4f2a in App::run(int) /src/app.cpp:12:3", "    #1 0x4f3b in main /src/main.cpp:3:1"]},
        {"frames": ["App::run(int)", "main"]},
    ],
)
def test_the_same_crash_in_every_shape(document: dict[str, Any]) -> None:
    crash = read_crash(document)
    assert crash.stack is not None
    assert crash.stack.names == ("App::run", "main")


@pytest.mark.parametrize(
    ("text", "function", "module", "offset"),
    [
        ("#1  0x00007f in ?? () from /lib/libssl.so.3", None, "/lib/libssl.so.3", None),
        ("    #2 0x7f  (/usr/lib/libz.so.1+0x12ab) (BuildId: 0a1b)", None, "/usr/lib/libz.so.1", "0x12ab"),
        ("libz.so.1+0x12ab", None, "libz.so.1", "0x12ab"),
        ("0x0000 in f<int, A<B> > (a=1) at a b.cpp:3", "f<int, A<B> > (a=1)", None, None),
        ("main", "main", None, None),
    ],
)
def test_lines(text: str, function: str | None, module: str | None, offset: str | None) -> None:
    frame = read_line(text)
    assert frame is not None
    assert (frame.function, frame.module, frame.module_offset) == (function, module, offset)


def test_without_names_modules_or_addresses_tell_crashes_apart() -> None:
    def names(*frames: str) -> tuple[str, ...] | None:
        stack = read_crash({"frames": list(frames)}).stack
        return stack.names if stack else None

    in_library = "#1  0x00007f32 in ?? () from /lib/libssl.so.3"
    assert names(in_library, "#2  0x00007f34 in ?? () from /lib/libssl.so.3", "main") == ("libssl.so.3", "main")
    assert names("#0  0x0000000000401136 in ?? ()", "0x401200") == ("@0x401136", "@0x401200")
    assert names("??") is None


def test_a_signal_from_outside_has_no_place() -> None:
    def killed(function: str) -> dict[str, Any]:
        return {
            "cause_class": "external_signal",
            "crash_info": {"type": "SIGTERM / SI_USER"},
            "threads": [{"frames": [{"function": function}, {"function": "main"}]}],
        }

    assert read_crash(killed("poll")).stack == read_crash(killed("compute")).stack


WORDS = """frames threads crash stacktrace crash_info crashing_thread function module module_offset offset recursion
functions type process exe line file cause_class"""
KEYS = WORDS.split()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_json_is_a_crash_or_one_clear_error(document: Any) -> None:
    try:
        crash = read_crash(document)
    except InvalidInput as error:
        assert str(error)
    else:
        assert crash.stack is None or crash.stack.names


@given(st.text(alphabet="# 0x1f atfromin()<>:+./?~\t", max_size=900))
def test_any_line_is_read(text: str) -> None:
    read_line(text)
