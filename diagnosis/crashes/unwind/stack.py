"""The stack of one thread as numbers: program counters, and how far each can be trusted."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import dataclass, field

CONTEXT, CFI, FRAME_POINTER, SCAN = "context", "cfi", "frame_pointer", "scan"


@dataclass
class WalkedStack:
    """`pcs` are innermost first: the first from the registers, the others return addresses.

    A hundred thousand frames cost eight bytes each; trust is kept as the places where it changes.
    """

    tid: int
    pcs: array[int] = field(default_factory=lambda: array("Q"))
    interrupted: set[int] = field(default_factory=set)
    """Depths whose program counter is that of an instruction, not a return address: a signal came there."""
    end: str = ""
    """Why the walk ended: bottom (outermost frame), limit, unreadable, loop, unknown."""
    _changes: list[int] = field(default_factory=list)
    _trusts: list[str] = field(default_factory=list)

    def add(self, pc: int, trust: str) -> None:
        if not self._trusts or self._trusts[-1] != trust:
            self._changes.append(len(self.pcs))
            self._trusts.append(trust)
        self.pcs.append(pc)

    def trust(self, depth: int) -> str:
        return self._trusts[bisect_right(self._changes, depth) - 1]

    def weakest(self, depth: int) -> str:
        """What the frame at `depth` rests on: behind a frame that was searched for nothing is proved any more."""
        return SCAN if SCAN in self._trusts[: bisect_right(self._changes, depth)] else self.trust(depth)

    def counts(self) -> dict[str, int]:
        """Frames by trust."""
        found: dict[str, int] = {}
        for index, trust in enumerate(self._trusts):
            end = self._changes[index + 1] if index + 1 < len(self._changes) else len(self.pcs)
            found[trust] = found.get(trust, 0) + end - self._changes[index]
        return found

    def lookup(self, depth: int) -> int:
        """The address of the instruction at `depth`: a return address lies after its call."""
        pc = self.pcs[depth]
        return pc if depth == 0 or depth in self.interrupted else pc - 1


@dataclass(frozen=True)
class Repeat:
    """Frames `first` to `first + period * count - 1` are `count` times the same block of `period` frames."""

    first: int
    period: int
    count: int

    @property
    def end(self) -> int:
        return self.first + self.period * self.count


_MAX_PERIOD = 64
_SAMPLES = (1 / 2, 1 / 4, 3 / 4, 1 / 8, 7 / 8)
_LEAST_FRAMES = 24


def repeat_in(pcs: array[int]) -> Repeat | None:
    """The longest run of a repeated block in `pcs` that is seen from a few places of it; None when it is short.

    Slices are compared as blocks of memory, and how far a run goes is found by bisection: 170,000 frames take
    milliseconds.
    """
    best: Repeat | None = None
    size = len(pcs)
    if size < _LEAST_FRAMES:
        return None
    for place in _SAMPLES:
        at = int(size * place)
        for period in range(1, _MAX_PERIOD + 1):
            if at + 3 * period > size or pcs[at : at + 2 * period] != pcs[at + period : at + 3 * period]:
                continue
            low, high = 0, at
            while low < high:
                middle = (low + high) // 2
                if pcs[middle:at] == pcs[middle + period : at + period]:
                    high = middle
                else:
                    low = middle + 1
            first = low
            low, high = at, size - period
            while low < high:
                middle = (low + high + 1) // 2
                if pcs[at:middle] == pcs[at + period : middle + period]:
                    low = middle
                else:
                    high = middle - 1
            found = Repeat(first, period, (low + period - first) // period)
            if found.count >= 3 and (best is None or found.end - found.first > best.end - best.first):
                best = found
            break
        if best is not None and best.end - best.first > size // 2:
            break
    return best if best is not None and best.end - best.first >= _LEAST_FRAMES else None
