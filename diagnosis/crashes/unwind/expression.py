"""DWARF expressions as call frame information uses them: a bounded stack machine (DWARF 5, 2.5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

_MAX_STEPS = 1000
_MAX_DEPTH = 64
_FIXED = {0x08: 1, 0x09: -1, 0x0A: 2, 0x0B: -2, 0x0C: 4, 0x0D: -4, 0x0E: 8, 0x0F: -8}
_BINARY: dict[int, Callable[[int, int], int]] = {
    0x1A: lambda a, b: a & b,
    0x1C: lambda a, b: a - b,
    0x1E: lambda a, b: a * b,
    0x21: lambda a, b: a | b,
    0x22: lambda a, b: a + b,
    0x24: lambda a, b: a << b if b < 64 else 0,
    0x25: lambda a, b: a >> b if b < 64 else 0,
    0x27: lambda a, b: a ^ b,
}
_COMPARE: dict[int, Callable[[int, int], bool]] = {
    0x29: lambda a, b: a == b,
    0x2A: lambda a, b: a >= b,
    0x2B: lambda a, b: a > b,
    0x2C: lambda a, b: a <= b,
    0x2D: lambda a, b: a < b,
    0x2E: lambda a, b: a != b,
}


class BadExpression(ValueError):
    """Not understood, unreadable memory, or without end."""


def uleb128(data: bytes, at: int) -> tuple[int, int]:
    """Value and the offset after it. Raises BadExpression when it does not end within 10 bytes."""
    value = shift = 0
    for index in range(at, min(at + 10, len(data))):
        byte = data[index]
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, index + 1
    raise BadExpression("a number does not end")


def sleb128(data: bytes, at: int) -> tuple[int, int]:
    """The same, signed."""
    value, end = uleb128(data, at)
    bits = 7 * (end - at)
    return (value - (1 << bits) if value >> (bits - 1) & 1 else value), end


def evaluate(
    program: bytes,
    registers: Mapping[int, int],
    read: Callable[[int], int | None],
    word: int,
    start: int | None = None,
) -> int:
    """The value of `program`; `read` gives the word at an address, `start` is pushed first. Raises BadExpression."""
    mask = (1 << (8 * word)) - 1
    stack: list[int] = [] if start is None else [start & mask]
    at = 0
    try:
        for _ in range(_MAX_STEPS):
            if at >= len(program):
                return stack[-1] & mask
            if len(stack) > _MAX_DEPTH:
                break
            at = _step(program, at, stack, registers, read, word)
            if stack:
                stack[-1] &= mask
    except (IndexError, KeyError, OverflowError, TypeError) as error:
        raise BadExpression(f"{type(error).__name__} at {at}") from None
    raise BadExpression("too long")


def _step(
    program: bytes,
    at: int,
    stack: list[int],
    registers: Mapping[int, int],
    read: Callable[[int], int | None],
    word: int,
) -> int:
    """Carry out one operation; the offset of the next one."""
    code = program[at]
    at += 1
    if code in _FIXED:
        size = abs(_FIXED[code])
        stack.append(_signed(_fixed(program, at, size), size) if _FIXED[code] < 0 else _fixed(program, at, size))
        return at + size
    if 0x30 <= code <= 0x4F:
        stack.append(code - 0x30)
    elif 0x70 <= code <= 0x8F:  # DW_OP_breg0 …
        offset, at = sleb128(program, at)
        stack.append(registers[code - 0x70] + offset)
    elif code == 0x92:
        register, at = uleb128(program, at)
        offset, at = sleb128(program, at)
        stack.append(registers[register] + offset)
    elif code == 0x03:
        stack.append(_fixed(program, at, word))
        at += word
    elif code == 0x06:
        found = read(stack.pop())
        if found is None:
            raise BadExpression("memory is not there")
        stack.append(found)
    elif code == 0x10:
        value, at = uleb128(program, at)
        stack.append(value)
    elif code == 0x11:
        value, at = sleb128(program, at)
        stack.append(value)
    elif code == 0x12:
        stack.append(stack[-1])
    elif code == 0x13:
        stack.pop()
    elif code == 0x14:
        stack.append(stack[-2])
    elif code == 0x16:
        stack[-1], stack[-2] = stack[-2], stack[-1]
    elif code == 0x1F:
        stack[-1] = -_signed(stack[-1], word)
    elif code == 0x20:
        stack[-1] = ~stack[-1]
    elif code == 0x23:
        value, at = uleb128(program, at)
        stack[-1] += value
    elif code in _BINARY:
        second = stack.pop()
        stack[-1] = _BINARY[code](stack[-1], second)
    elif code in _COMPARE:
        second = _signed(stack.pop(), word)
        stack[-1] = int(_COMPARE[code](_signed(stack[-1], word), second))
    elif code in (0x28, 0x2F):
        jump = _signed(_fixed(program, at, 2), 2)
        at += 2
        if code == 0x2F or stack.pop():
            at += jump
            if at < 0:
                raise BadExpression("it jumps out")
    elif code != 0x96:
        raise BadExpression(f"operation {code:#x}")
    return at


def _fixed(program: bytes, at: int, size: int) -> int:
    if at + size > len(program):
        raise BadExpression("it is cut off")
    return int.from_bytes(program[at : at + size], "little")


def _signed(value: int, size: int) -> int:
    value &= (1 << (8 * size)) - 1
    return value - (1 << (8 * size)) if value >> (8 * size - 1) else value
