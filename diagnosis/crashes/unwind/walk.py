"""From registers to the stack: call frame information, then frame pointers, then a search for return addresses."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.modules import Modules
from diagnosis.crashes.notes import ThreadStatus
from diagnosis.crashes.unwind.cfi import Row
from diagnosis.crashes.unwind.expression import BadExpression, evaluate
from diagnosis.crashes.unwind.fallbacks import Fallbacks
from diagnosis.crashes.unwind.machines import MACHINES, Machine
from diagnosis.crashes.unwind.rounds import LEAST, equal_rounds
from diagnosis.crashes.unwind.stack import CFI, CONTEXT, FRAME_POINTER, SCAN, WalkedStack
from diagnosis.crashes.unwind.tables import UnwindTables

MAX_FRAMES = 1_000_000
"""Of one thread; the deepest stack of 8 MB holds half a million."""
MAX_ALL_FRAMES = 4_000_000
_WINDOW = 1 << 20
_MAX_SCANS = 16
"""Frames found by search in one stack: past that the stack is noise."""
_MAX_SWITCHES = 64
"""Times that a stack may go on elsewhere (signal stacks, coroutines)."""

_Plain = tuple[int, int, int | None, tuple[tuple[int, int], ...], bool]
_Registers = dict[int, int]


@dataclass
class Walk:
    """Stacks by kernel thread id."""

    machine: str
    stacks: dict[int, WalkedStack] = field(default_factory=dict)
    complete: bool = True

    def unique(self) -> set[int]:
        return {pc for stack in self.stacks.values() for pc in set(stack.pcs)}


def walk(core: CoreFile, modules: Modules) -> Walk | None:
    """All threads of `core`, the crashed one first. None for a machine that is not known, or that is big-endian."""
    machine = MACHINES.get(core.header.machine)
    if machine is None or core.header.order != "<":
        return None
    walker = _Walker(core, modules, machine)
    result = Walk(machine.name)
    left = MAX_ALL_FRAMES
    for thread in core.threads:
        if left <= 0:
            result.complete = False
            break
        stack = walker.thread(thread, min(left, MAX_FRAMES))
        result.stacks.setdefault(thread.tid, stack)
        left -= len(stack.pcs)
    return result


def walk_from(core: CoreFile, modules: Modules, registers: Mapping[str, int], limit: int) -> WalkedStack | None:
    """The stack that `registers` (by NT_PRSTATUS's names) lead to, such as those that a signal handler was given."""
    machine = MACHINES.get(core.header.machine)
    if machine is None or core.header.order != "<":
        return None
    return _Walker(core, modules, machine).thread(replace(core.crashed, registers=dict(registers)), limit)


class _Walker:
    def __init__(self, core: CoreFile, modules: Modules, machine: Machine) -> None:
        self._core = core
        self._machine = machine
        self._tables = UnwindTables(core, modules, machine.word)
        self._fallbacks = Fallbacks(core, modules, machine, self._word)
        self._rows: dict[int, Row | None] = {}
        self._plain: dict[int, _Plain | None] = {}
        self._unpack = struct.Struct("<Q" if machine.word == 8 else "<I").unpack_from
        self._window, self._low, self._high = b"", 0, -1
        self._code: set[int] = set()

    def thread(self, thread: ThreadStatus, limit: int) -> WalkedStack:
        machine, stack = self._machine, WalkedStack(thread.tid)
        registers = {
            number: thread.registers[name]
            for number, name in enumerate(machine.names)
            if name is not None and name in thread.registers
        }
        pc = thread.registers.get(machine.pc)
        if pc is None or machine.sp not in registers:
            stack.end = "unknown"
            return stack
        stack.add(pc, CONTEXT)
        scans = switches = 0
        exact = True  # pc is an instruction's own address: the first frame, and the one a signal interrupted
        while len(stack.pcs) < limit:
            if not exact:
                pc = self._quickly(pc, registers, stack, limit)
                if len(stack.pcs) >= limit:
                    stack.end = "limit"
                    break
            before = registers[machine.sp]
            step = self._by_rows(pc if exact else pc - 1, registers)
            trust = CFI
            if step == "bottom":
                stack.end = "bottom"
                break
            if isinstance(step, str):
                entered = self._fallbacks.bad_call(registers, pc) if len(stack.pcs) == 1 else None
                found = self._fallbacks.leaf(registers, pc) if len(stack.pcs) == 1 else None
                found = found or self._fallbacks.frame_pointer(registers, pc)
                if entered is not None:
                    step = (*entered, False)
                elif found is not None:
                    step, trust = (*found, False), FRAME_POINTER
            if isinstance(step, str):
                scans += 1
                again = self._fallbacks.search(registers, len(stack.pcs) == 1) if scans <= _MAX_SCANS else None
                if again is None:
                    stack.end = "unknown"
                    break
                step, trust = (*again, False), SCAN
            pc, registers, exact = step
            if pc == 0:
                stack.end = "bottom"
                break
            if exact:
                stack.interrupted.add(len(stack.pcs))
            stack.add(pc, trust)
            if registers[machine.sp] <= before and (trust is not CFI or registers[machine.sp] < before):
                switches += 1  # stacks grow down: a caller lies higher, unless the stack was switched
                if switches > _MAX_SWITCHES:
                    stack.end = "loop"
                    break
        else:
            stack.end = "limit"
        return stack

    def _quickly(self, pc: int, registers: _Registers, stack: WalkedStack, limit: int) -> int:
        """Go on as long as each step is one that was seen before; the last program counter that was added.

        Deep recursion is a hundred thousand equal steps: this does only what changes from one to the next.
        """
        rules, code, unpack, pcs, sp = self._plain, self._code, self._unpack, stack.pcs, self._machine.sp
        window, low, span = self._window, self._low, self._high - self._low
        if stack.trust(len(pcs) - 1) is not CFI:
            return pc
        last = 0
        while len(pcs) < limit:
            rule = rules.get(pc - 1)
            if rule is None or rule[2] is None or rule[4] or rule[0] not in registers:
                return pc
            cfa = registers[rule[0]] + rule[1]
            place = cfa + rule[2] - low
            if not 0 <= place <= span or cfa <= registers[sp]:
                return pc
            caller: int = unpack(window, place)[0]
            if caller not in code:
                return pc
            found = []
            for register, offset in rule[3]:
                place = cfa + offset - low
                if not 0 <= place <= span:
                    return pc
                found.append((register, unpack(window, place)[0]))
            registers.update(found)
            stride, registers[sp] = cfa - registers[sp], cfa
            again, pc = caller == pc, caller
            pcs.append(pc)
            if again and stride == last:
                self._rounds(pc, rule, stride, registers, stack, limit)
            last = stride if again else 0
        return pc

    def _rounds(
        self, pc: int, rule: _Plain, stride: int, registers: _Registers, stack: WalkedStack, limit: int
    ) -> None:
        """Take all further frames that are as the last one at once."""
        base, offset, saved_return, saved, _ = rule
        cfa = registers[base] + offset
        places = dict(saved)
        if saved_return is None or (base != self._machine.sp and base not in places):
            return
        chain = (cfa + places[base] - self._low, registers[base] + stride) if base in places else None
        at = cfa + saved_return - self._low
        count = equal_rounds(self._window, self._machine.word, stride, at, pc, chain) - 1
        count = min(count, limit - len(stack.pcs))
        if count < LEAST:
            return
        final = cfa + (count - 1) * stride
        found = [(register, self._word(final + place)) for register, place in saved]
        if any(value is None for _, value in found):
            return
        registers.update((register, value) for register, value in found if value is not None)
        registers[self._machine.sp] = final
        stack.pcs.extend([pc] * count)

    def _by_rows(self, at: int, registers: _Registers) -> tuple[int, _Registers, bool] | str:
        """The caller by call frame information; `bottom` at the outermost frame, `none` when that does not lead on."""
        if at not in self._plain:
            self._rows[at] = self._tables.row(at)
            self._plain[at] = _plain(self._rows[at], self._machine)
        plain = self._plain[at]
        if plain is None:
            row = self._rows[at]
            return self._by_expressions(row, at, registers) if row is not None else self._by_trampoline(at, registers)
        base, offset, saved_return, saved, signal_frame = plain
        if base not in registers:
            return "none"
        machine = self._machine
        cfa = registers[base] + offset
        caller = registers.copy()
        for register, place in saved:
            value = self._word(cfa + place)
            if value is None:
                caller.pop(register, None)
            else:
                caller[register] = value
        if saved_return is None:
            pc = registers.get(machine.link) if machine.link is not None else None
        else:
            pc = self._word(cfa + saved_return)
        if pc is None:
            return "none"
        pc &= machine.address_mask
        if pc and pc not in self._code:
            if not self._core.may_hold_code(pc):
                return "none"
            self._code.add(pc)
        caller[machine.sp] = cfa
        if cfa == registers[machine.sp] and pc == at:
            return "none"
        return pc, caller, signal_frame

    def _by_expressions(self, row: Row, at: int, registers: _Registers) -> tuple[int, _Registers, bool] | str:
        """The general form, for signal frames and procedure linkage."""
        machine = self._machine
        known = dict(registers)
        known.setdefault(row.return_register, at)
        try:
            if row.cfa_expression is not None:
                cfa = evaluate(row.cfa_expression, known, self._word, machine.word)
            else:
                cfa = registers[row.cfa_register] + row.cfa_offset
            caller = registers.copy()
            caller[machine.sp] = cfa
            for register, rule in row.rules.items():
                if rule.kind == "undefined":
                    if register == row.return_register:
                        return "bottom"
                    caller.pop(register, None)
                    continue
                value: int | None
                if rule.kind == "offset":
                    value = self._word(cfa + rule.value)
                elif rule.kind == "value":
                    value = cfa + rule.value
                elif rule.kind == "register":
                    value = registers.get(rule.value)
                elif rule.kind == "same":
                    value = registers.get(register)
                else:
                    value = evaluate(rule.expression, known, self._word, machine.word, cfa)
                    if rule.kind == "expression":
                        value = self._word(value)
                if value is None:
                    caller.pop(register, None)
                else:
                    caller[register] = value
        except (BadExpression, KeyError):
            return "none"
        pc = caller.get(row.return_register)
        if pc is None or (row.return_register not in row.rules and machine.link is None):
            return "none"
        pc &= machine.address_mask
        if pc and not self._core.may_hold_code(pc):
            return "none"
        if machine.link is None:
            caller.pop(row.return_register, None)
        return pc, caller, row.signal_frame

    def _by_trampoline(self, at: int, registers: _Registers) -> tuple[int, _Registers, bool] | str:
        """A return from a signal handler that has no call frame information: `mov $15,%rax; syscall` on x86-64.

        The kernel put a `struct rt_sigframe` there; its ucontext begins at the stack pointer, the registers 40 bytes
        into it (asm/sigcontext.h).
        """
        if self._machine.name != "x86_64":
            return "none"
        for start in (at, at + 1):
            if self._core.memory.read(start, 9) == b"\x48\xc7\xc0\x0f\0\0\0\x0f\x05":
                order = (8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7)
                base = registers[self._machine.sp] + 40
                values = [self._word(base + 8 * index) for index in range(17)]
                pc = values[16]
                if pc is None or values[15] is None:
                    return "none"
                known = {number: value for number, value in zip(order, values, strict=False) if value is not None}
                return pc, known, True
        return "none"

    def _word(self, address: int) -> int | None:
        if not self._low <= address <= self._high:
            if not 0 < address < 1 << 64:
                return None
            segment = self._core.memory.segment(address)
            if segment is None or not segment.filesz:
                return self._core.memory.pointer(address)
            start = max(segment.vaddr, address & ~0xFFF)
            self._window = self._core.memory.read(start, _WINDOW)
            self._low, self._high = start, start + len(self._window) - self._machine.word
            if not start <= address <= self._high:
                return self._core.memory.pointer(address)
        value: int = self._unpack(self._window, address - self._low)[0]
        return value


def _plain(row: Row | None, machine: Machine) -> _Plain | None:
    """The row in its usual form: CFA is a register and an offset, registers are saved at offsets."""
    if row is None or row.cfa_expression is not None or row.cfa_register < 0:
        return None
    if any(rule.kind not in ("offset", "same") for rule in row.rules.values()):
        return None
    found = row.rules.get(row.return_register)
    if (found is None or found.kind != "offset") and (machine.link is None or row.return_register != machine.link):
        return None
    saved = tuple(
        (register, rule.value)
        for register, rule in row.rules.items()
        if rule.kind == "offset" and (register != row.return_register or machine.link is not None)
    )
    place = found.value if found is not None and found.kind == "offset" else None
    return row.cfa_register, row.cfa_offset, place, saved, row.signal_frame
