"""Call frame information: how to get from a frame to its caller (DWARF 5, 6.4; the LSB's `.eh_frame` variant).

Everything is read from bytes that may be hostile: each length is checked, programs have a limit of steps.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from diagnosis.crashes.unwind.expression import BadExpression, sleb128, uleb128

MAX_STEPS = 20_000
_MAX_SAVED = 64
_FORMATS = {0x01: "uleb", 0x02: "H", 0x03: "I", 0x04: "Q", 0x09: "sleb", 0x0A: "h", 0x0B: "i", 0x0C: "q"}


class BadTable(ValueError):
    """Unwinding information that cannot be read."""


@dataclass(frozen=True)
class Rule:
    """Where a register's value in the caller is. `kind` is offset (at CFA + value), value (CFA + value itself),

    register (in register `value`), expression (at its address), val_expression (its value), undefined, or same.
    """

    kind: str
    value: int = 0
    expression: bytes = b""


@dataclass
class Row:
    """The rules at one program counter. The CFA is `cfa_register` + `cfa_offset`, or an expression's value."""

    cfa_register: int = -1
    cfa_offset: int = 0
    cfa_expression: bytes | None = None
    rules: dict[int, Rule] = field(default_factory=dict)
    return_register: int = 0
    signal_frame: bool = False

    def copy(self) -> Row:
        return Row(
            self.cfa_register, self.cfa_offset, self.cfa_expression, dict(self.rules), self.return_register,
            self.signal_frame,
        )  # fmt: skip


@dataclass(frozen=True)
class Cie:
    code_factor: int
    data_factor: int
    return_register: int
    encoding: int
    augmented: bool
    signal_frame: bool
    program: bytes


def pointer(data: bytes, at: int, encoding: int, address: int, word: int, data_base: int = 0) -> tuple[int, int]:
    """An encoded pointer and the offset after it. `address` is that of `data[at]`. Raises BadTable."""
    if encoding == 0xFF:
        raise BadTable("there is no pointer")
    kind = encoding & 0x0F
    layout = _FORMATS.get(kind) or ("Q" if word == 8 else "I")
    try:
        if layout == "uleb":
            value, end = uleb128(data, at)
        elif layout == "sleb":
            value, end = sleb128(data, at)
        else:
            (value,) = struct.unpack_from("<" + layout, data, at)
            end = at + struct.calcsize("<" + layout)
    except (struct.error, BadExpression):
        raise BadTable("a pointer is cut off") from None
    relative = encoding & 0x70
    if relative == 0x10:
        value += address
    elif relative == 0x30:
        value += data_base
    elif relative:
        raise BadTable(f"pointer encoding {encoding:#x}")
    return value & ((1 << (8 * word)) - 1), end


def parse_cie(entry: bytes, word: int) -> Cie:
    """`entry` is what follows the length and the id of a common information entry. Raises BadTable."""
    try:
        end = entry.index(b"\0", 1)
        augmentation = entry[1:end]
        at = end + 1
        if augmentation.startswith(b"eh"):
            raise BadTable("an entry of gcc 2")
        code, at = uleb128(entry, at)
        data, at = sleb128(entry, at)
        if entry[0] == 1:
            register, at = entry[at], at + 1
        else:
            register, at = uleb128(entry, at)
        encoding, signal_frame = 0, False
        if augmentation.startswith(b"z"):
            size, at = uleb128(entry, at)
            program_at = at + size
            for letter in augmentation[1:]:
                if letter == ord("R"):
                    encoding, at = entry[at], at + 1
                elif letter == ord("P"):
                    _, at = pointer(entry, at + 1, entry[at] & 0x0F, 0, word)
                elif letter == ord("L"):
                    at += 1
                elif letter == ord("S"):
                    signal_frame = True
                elif letter != ord("B"):  # B: return addresses are signed with the second key
                    break
            at = program_at
        elif augmentation:
            raise BadTable("an unknown augmentation")
    except (ValueError, IndexError) as error:
        raise BadTable(str(error)) from None
    return Cie(code, data, register, encoding, augmentation.startswith(b"z"), signal_frame, entry[at:])


def row_at(cie: Cie, program: bytes, start: int, target: int, word: int) -> Row:
    """The row at address `target` of a function that starts at `start`. Raises BadTable."""
    row = Row(return_register=cie.return_register, signal_frame=cie.signal_frame)
    try:
        _run(cie, cie.program, start, None, row, {}, word)
        initial = dict(row.rules)
        return _run(cie, program, start, target, row, initial, word)
    except (IndexError, BadExpression, struct.error) as error:
        raise BadTable(f"a program is damaged ({type(error).__name__})") from None


def _run(
    cie: Cie, code: bytes, location: int, target: int | None, row: Row, initial: dict[int, Rule], word: int
) -> Row:
    at = 0
    saved: list[Row] = []
    for _ in range(MAX_STEPS):
        if at >= len(code):
            return row
        byte = code[at]
        at += 1
        high, low = byte & 0xC0, byte & 0x3F
        if high == 0x40:
            location += low * cie.code_factor
        elif high == 0x80:
            value, at = uleb128(code, at)
            row.rules[low] = Rule("offset", value * cie.data_factor)
        elif high == 0xC0:
            _restore(row, low, initial)
        elif byte in (0x01, 0x02, 0x03, 0x04, 0x1D):
            size = {0x01: word, 0x02: 1, 0x03: 2, 0x04: 4, 0x1D: 8}[byte]
            delta = int.from_bytes(code[at : at + size], "little")
            location = delta if byte == 0x01 else location + delta * cie.code_factor
            at += size
        elif byte == 0x0A:
            if len(saved) >= _MAX_SAVED:
                raise BadTable("too many saved rows")
            saved.append(row.copy())
            continue
        elif byte == 0x0B:
            row = saved.pop()
            continue
        else:
            at = _define(cie, code, at, byte, row, initial)
            continue
        if target is not None and location > target:
            return row
    raise BadTable("a program does not end")


def _define(cie: Cie, code: bytes, at: int, byte: int, row: Row, initial: dict[int, Rule]) -> int:
    """An instruction that sets one rule; the offset after it."""
    if byte in (0x00, 0x2D):  # nop; AArch64: return addresses are signed from here, which the address mask removes
        return at
    if byte == 0x13:
        value, at = sleb128(code, at)
        row.cfa_offset = value * cie.data_factor
        return at
    first, at = uleb128(code, at)
    if byte in (0x0C, 0x12):
        second, at = uleb128(code, at) if byte == 0x0C else sleb128(code, at)
        row.cfa_register, row.cfa_expression = first, None
        row.cfa_offset = second if byte == 0x0C else second * cie.data_factor
    elif byte == 0x0D:
        row.cfa_register, row.cfa_expression = first, None
    elif byte == 0x0E:
        row.cfa_offset = first
    elif byte == 0x0F:
        row.cfa_expression, at = code[at : at + first], at + first
    elif byte == 0x05:
        value, at = uleb128(code, at)
        row.rules[first] = Rule("offset", value * cie.data_factor)
    elif byte in (0x11, 0x14, 0x15):
        value, at = uleb128(code, at) if byte == 0x14 else sleb128(code, at)
        row.rules[first] = Rule("offset" if byte == 0x11 else "value", value * cie.data_factor)
    elif byte == 0x06:
        _restore(row, first, initial)
    elif byte == 0x07:
        row.rules[first] = Rule("undefined")
    elif byte == 0x08:
        row.rules[first] = Rule("same")
    elif byte == 0x09:
        value, at = uleb128(code, at)
        row.rules[first] = Rule("register", value)
    elif byte in (0x10, 0x16):
        size, at = uleb128(code, at)
        row.rules[first] = Rule("expression" if byte == 0x10 else "val_expression", 0, code[at : at + size])
        at += size
    elif byte == 0x2F:
        value, at = uleb128(code, at)
        row.rules[first] = Rule("offset", -value * cie.data_factor)
    elif byte != 0x2E:  # GNU_args_size changes nothing here
        raise BadTable(f"instruction {byte:#x}")
    return at


def _restore(row: Row, register: int, initial: dict[int, Rule]) -> None:
    if register in initial:
        row.rules[register] = initial[register]
    else:
        row.rules.pop(register, None)
