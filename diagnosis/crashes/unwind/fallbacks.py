"""Ways to the caller where there is no call frame information, from the surest to the last resort.

Each answers with the caller's program counter and registers, or None where it does not lead on.
"""

from __future__ import annotations

from collections.abc import Callable

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.modules import Modules
from diagnosis.crashes.unwind.calls import SCAN_ABOVE, SCAN_BELOW, CallSites
from diagnosis.crashes.unwind.machines import Machine

_LEAF_BYTES = 1024
_FRAME_BYTES = 64 << 20

Registers = dict[int, int]


class Fallbacks:
    """For one core. `word` reads one word of its memory."""

    def __init__(self, core: CoreFile, modules: Modules, machine: Machine, word: Callable[[int], int | None]) -> None:
        self._core = core
        self._machine = machine
        self._calls = CallSites(core, modules, machine)
        self._word = word

    def bad_call(self, registers: Registers, pc: int) -> tuple[int, Registers] | None:
        """Who called what is no code. None of its instructions ran: the stack is as the ABI has it at each entry.

        That is the row with which all call frame information begins, so it is trusted as much.
        """
        machine = self._machine
        if self._core.may_hold_code(pc):
            return None
        if machine.link is not None:
            link = registers.get(machine.link, 0) & machine.address_mask
            return (link, registers.copy()) if self._calls.follows_call(link) else None
        top = self._word(registers[machine.sp])
        if top is None or not self._calls.follows_call(top):
            return None
        return top, {**registers, machine.sp: registers[machine.sp] + machine.word}

    def leaf(self, registers: Registers, pc: int) -> tuple[int, Registers] | None:
        """The caller of a function that has made no frame: a direct call to it returns to the word on top."""
        machine = self._machine
        top = self._word(registers[machine.sp])
        target = self._calls.direct_target(top) if top is not None else None
        if top is None or target is None or not target <= pc < target + _LEAF_BYTES:
            return None
        return top, {**registers, machine.sp: registers[machine.sp] + machine.word}

    def frame_pointer(self, registers: Registers, pc: int) -> tuple[int, Registers] | None:
        """The caller by a chain of frame records; only where each link of it is plausible."""
        machine = self._machine
        pointer, sp = registers.get(machine.fp), registers[machine.sp]
        if pointer is None or pointer % machine.word or not sp - machine.word <= pointer - machine.record_size + 16:
            return None
        if pointer > sp + (_FRAME_BYTES) or not self._core.may_hold_code(pc):
            return None
        saved, back = self._word(pointer + machine.record_fp), self._word(pointer + machine.record_return)
        if saved is None or back is None:
            return None
        back &= machine.address_mask
        if not self._calls.may_return_to(back) or (saved and saved <= pointer):
            return None
        return back, {**registers, machine.fp: saved, machine.sp: pointer + machine.record_size}

    def search(self, registers: Registers, first: bool) -> tuple[int, Registers] | None:
        """The next word on the stack that a call may return to; in a smashed first frame the program's own first."""
        machine, sp = self._machine, registers[self._machine.sp]
        if first:
            link = registers.get(machine.link, 0) & machine.address_mask if machine.link is not None else 0
            if link and self._calls.follows_call(link):
                return link, {number: value for number, value in registers.items() if number != machine.link}
            top = self._word(sp)
            if top is not None and self._calls.follows_call(top & machine.address_mask):
                return top & machine.address_mask, {**registers, machine.sp: sp + machine.word}
        found = list(self._calls.candidates(sp, sp + SCAN_ABOVE))
        if not found and first:
            found = [item for item in self._calls.candidates(sp - SCAN_BELOW, sp) if self._calls.in_program(item[1])]
        if not found:
            return None
        where, pc = next((item for item in found if self._calls.in_program(item[1])), found[0]) if first else found[0]
        caller = {machine.sp: where + machine.word}
        if machine.fp in registers and registers[machine.fp] > where:
            caller[machine.fp] = registers[machine.fp]
        return pc, caller
