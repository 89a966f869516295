"""The runtime's descriptors of goroutines and threads (`struct g` and `struct m`, runtime/runtime2.go).

Only the head of `struct g` is the same in every version, up to the registers that were saved. Nothing is taken for a
descriptor that does not point back: a thread's first goroutine names the thread, and saved registers name their
goroutine.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from diagnosis.crashes.core_file import CoreFile, Memory
from diagnosis.crashes.notes import ThreadStatus

MAX_GOROUTINES = 100_000
_G = struct.Struct("<10Q")  # stack.lo, stack.hi, two guards, _panic, _defer, m, sched.sp, sched.pc, sched.g
_STATE = struct.Struct("<144x6I")
"""From where the state is in one of two places: the state, a lock, the two halves of the goroutine's number."""
_STATES, _ENDED, _SCANNED = range(16), (6, 11), 0x1000
MAIN = 1
"""The number of the goroutine that runs `main`."""
_THREAD_WORDS = 96
"""Of `struct m`, in which the goroutine that runs is looked for."""
_MAX_STACK = 1 << 30  # the runtime's own limit
_SEARCHED_BYTES = 16 << 20
_PART = 1 << 20
_MAX_LOOKS = 200_000
_LEAST = 2  # a program has its main goroutine and those of the runtime


@dataclass(frozen=True)
class Goroutine:
    """A descriptor. `sp` and `pc` are those at which it left its stack the last time."""

    address: int
    low: int
    high: int
    panic: int
    thread: int
    sp: int
    pc: int
    named: bool
    """Its saved registers name it: so do those of every goroutine, not those of the signal stack."""

    def holds(self, address: int) -> bool:
        return self.low <= address < self.high


def goroutine_at(memory: Memory, address: int) -> Goroutine | None:
    """The goroutine described at `address`, None when that is no descriptor of one with a stack."""
    if not address or address % 8:
        return None
    data = memory.read(address, _G.size)
    if len(data) < _G.size:
        return None
    low, high, _, _, panic, _, thread, sp, pc, own = _G.unpack(data)
    if not 0 < low < high or high - low > _MAX_STACK or low % 8 or own not in (0, address):
        return None
    return Goroutine(address, low, high, panic, thread, sp, pc, own == address)


@dataclass(frozen=True)
class RunningThread:
    """A thread of the runtime: the goroutine whose stack it schedules on, and the one that it runs for."""

    address: int
    scheduler: Goroutine
    current: Goroutine | None


def running(core: CoreFile, status: ThreadStatus) -> RunningThread | None:
    """What `status`, one of the core's threads, runs.

    The descriptor of its goroutine is in thread-local storage, and in r14 as long as Go code runs (cmd/compile's
    ABI document).
    """
    memory, registers = core.memory, status.registers
    base = registers.get("fs_base")
    stored = memory.pointer(base - 8) if base else None
    for address in (stored, registers.get("r14")):
        own = goroutine_at(memory, address) if address else None
        if own is None:
            continue
        first = goroutine_at(memory, memory.pointer(own.thread) or 0)
        if first is None or first.thread != own.thread:
            continue
        return RunningThread(own.thread, first, _current(memory, own, first))
    return None


def _current(memory: Memory, own: Goroutine, first: Goroutine) -> Goroutine | None:
    """The goroutine that the thread works for: one of its words points to it, and it points back."""
    if own.address != first.address and own.named:
        return own
    data = memory.read(first.thread, _THREAD_WORDS * 8)
    for (address,) in struct.iter_unpack("<Q", data[: len(data) // 8 * 8]):
        found = goroutine_at(memory, address) if address != first.address else None
        if found is not None and found.named and found.thread == first.thread:
            return found
    return None


def all_goroutines(core: CoreFile, globals_: Sequence[range]) -> dict[int, Goroutine] | None:
    """The goroutines that have not ended, by number, from the runtime's list of all; None when it is not found.

    The list (`runtime.allgs`) is a slice among the global variables, whose elements are all descriptors.
    """
    memory = core.memory
    room, looks, entries = _SEARCHED_BYTES, _MAX_LOOKS, 2 * MAX_GOROUTINES
    for place in globals_:
        for start in range(place.start, min(place.stop, place.start + room), _PART):
            data = memory.read(start, min(_PART + 16, place.stop - start))
            room -= _PART
            found = struct.unpack(f"<{len(data) // 8}Q", data[: len(data) // 8 * 8])
            for at in range(len(found) - 2):
                array, count, capacity = found[at : at + 3]
                if not array or array % 8 or not _LEAST <= count <= capacity <= MAX_GOROUTINES:
                    continue
                looks -= 1
                if looks < 0 or entries < 0:
                    return None
                first = goroutine_at(memory, memory.pointer(array) or 0)
                if first is None or not first.named:
                    continue
                entries -= count
                if (listed := _listed(memory, array, count)) is not None:
                    return listed
    return None


def _listed(memory: Memory, array: int, count: int) -> dict[int, Goroutine] | None:
    """Those of the `count` descriptors in `array` that have not ended; None when it is no list of descriptors."""
    data = memory.read(array, count * 8)
    if len(data) < count * 8:
        return None
    heads: list[tuple[int, tuple[int, ...]]] = []
    for (address,) in struct.iter_unpack("<Q", data):
        head = memory.read(address, _STATE.size)
        if len(head) < _STATE.size or _G.unpack_from(head)[9] != address:
            return None
        heads.append((address, _STATE.unpack(head)))
    for at in (0, 2):  # Go 1.23 put a word before it, a later one took another away
        if any(head[at] & ~_SCANNED not in _STATES for _, head in heads):
            continue
        alive = [(head[at + 2] | head[at + 3] << 32, address) for address, head in heads if head[at] not in _ENDED]
        numbers = {number: found for number, address in alive if (found := goroutine_at(memory, address))}
        if MAIN in numbers and len(numbers) == len(alive):
            return numbers
    return None
