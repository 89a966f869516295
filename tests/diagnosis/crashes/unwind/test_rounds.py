"""Equal frames are counted at once, exactly as far as they are equal."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnosis.crashes.unwind.rounds import equal_rounds

PC, STRIDE, LOW = 0x401234, 64, 0x7FFF0000


def stack(frames: int, *, pc_breaks: int | None = None, chain_breaks: int | None = None) -> bytes:
    """Frames of 64 bytes: the return address in word 3, the caller's frame pointer in word 2."""
    data = bytearray()
    for number in range(frames):
        words = [0xAAAA] * 8
        words[3] = 0x40FFFF if number == pc_breaks else PC
        words[2] = 7 if number == chain_breaks else LOW + STRIDE * (number + 1)
        data += struct.pack("<8Q", *words)
    return bytes(data)


@pytest.mark.parametrize(
    ("breaks", "expected"),
    [({}, 100), ({"pc_breaks": 40}, 40), ({"chain_breaks": 30}, 30), ({"pc_breaks": 0}, 0), ({"chain_breaks": 99}, 99)],
)
def test_counting_ends_where_a_frame_differs(breaks: dict[str, int], expected: int) -> None:
    assert equal_rounds(stack(100, **breaks), 8, STRIDE, 24, PC, (16, LOW + STRIDE)) == expected


def test_without_a_frame_pointer_only_return_addresses_count() -> None:
    assert equal_rounds(stack(100, chain_breaks=5), 8, STRIDE, 24, PC, None) == 100


@pytest.mark.parametrize(("stride", "at"), [(0, 24), (-64, 24), (60, 24), (64, 21), (64, -8), (64, 1 << 20)])
def test_what_is_no_frame_counts_nothing(stride: int, at: int) -> None:
    assert equal_rounds(stack(10), 8, stride, at, PC, None) == 0


@given(st.binary(max_size=400), st.integers(-100, 500), st.integers(-100, 500), st.integers(0, 1 << 64))
def test_any_bytes(window: bytes, stride: int, at: int, pc: int) -> None:
    found = equal_rounds(window, 8, stride, at, pc, (at, pc))
    assert 0 <= found <= len(window) // 8
