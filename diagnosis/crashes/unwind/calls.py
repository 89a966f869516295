"""Words on a stack that look like return addresses: in executable memory, and a call stands before them."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.modules import Modules
from diagnosis.crashes.unwind.machines import Machine

SCAN_BELOW, SCAN_ABOVE = 512, 16 * 1024
"""Bytes around the stack pointer that are searched. A smashed stack keeps what lies above the overrun object, and
frames that have just returned lie below."""


class CallSites:
    """Checks addresses, and remembers what it found."""

    def __init__(self, core: CoreFile, modules: Modules, machine: Machine) -> None:
        self._core = core
        self._modules = modules
        self._machine = machine
        self._known: dict[int, bool] = {}

    def follows_call(self, address: int) -> bool:
        """Is `address` where a call would return to? The code before it must be readable."""
        if address not in self._known:
            self._known[address] = self._check(address)
        return self._known[address]

    def may_return_to(self, address: int) -> bool:
        """The same, but code that cannot be read is given the benefit of the doubt."""
        return self.follows_call(address) or (
            self._core.may_hold_code(address) and not self._core.memory.read(address - 1, 1)
        )

    def direct_target(self, address: int) -> int | None:
        """Where the direct call that returns to `address` went; None when no such call stands before it. x86 only."""
        code = self._core.memory.read(address - 5, 5)
        if self._machine.link is not None or len(code) < 5 or code[0] != 0xE8:
            return None
        return address + int.from_bytes(code[1:], "little", signed=True) & self._machine.address_mask

    def in_program(self, address: int) -> bool:
        module = self._modules.at(address)
        return module is not None and module.is_main

    def candidates(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """(where, return address) for the plausible words between `start` and `end`, lowest first."""
        word = self._machine.word
        start += -start % word
        data = self._core.memory.read(start, max(0, end - start))
        layout = "Q" if word == 8 else "I"
        count = len(data) // word
        mask = self._machine.address_mask
        for index, value in enumerate(struct.unpack_from(f"<{count}{layout}", data)):
            if value > 4096 and self.follows_call(value & mask):
                yield start + index * word, value & mask

    def _check(self, address: int) -> bool:
        if self._core.mapped_at(address) is None and self._core.memory.segment(address) is None:
            return False
        if not self._core.may_hold_code(address):
            return False
        size = self._machine.call_bytes
        for length in range(size, 1, -1):  # near the start of a mapping there are fewer
            code = self._core.memory.read(address - length, length)
            if len(code) == length:
                return self._machine.ends_call(code)
        return False
