"""glibc's heap as it lies in memory, read without symbols: chunks in a row, and the lists of freed ones.

Layouts: glibc, malloc/malloc.c, `struct malloc_chunk` (the size word holds three flags in its low bits) and
`tcache_perthread_struct`, which is the first chunk of the main heap. Since 2.32 the link of a freed chunk is stored as
`(its address >> 12) ^ next`. Little-endian only. Where words have 4 bytes the header has 8, what malloc returns is
still a multiple of 16, and so the first chunk begins 8 bytes into the heap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from diagnosis.crashes.core_file import CoreFile, Memory
from diagnosis.crashes.elf import Segment
from diagnosis.crashes.root_cause.classes import Proof

_FLAGS, _IN_USE, _MAPPED, _ARENA = 7, 1, 2, 4
_TCACHE = {8: {0x290: 128, 0x250: 64}, 4: {0x190: 128, 0x150: 64}}
"""By the size of a word: size of the first chunk, and the bytes of its counters; 64 lists come after them."""
_LISTS, _LIST_LIMIT = 64, 64
_BEFORE_FIRST = 8192
_MAX_CHUNKS = 200_000
_BLOCK = 1 << 18
_MAX_HEAPS = 4
_TEXT = 200


@dataclass(frozen=True)
class Chunk:
    """`address` is what malloc returned, `usable` the bytes up to the next chunk's size word."""

    address: int
    size: int
    word: int

    @property
    def usable(self) -> int:
        return self.size - self.word


@dataclass(frozen=True)
class Broken:
    """The first size word in a heap that cannot be one, at `at`, and the chunk before it."""

    at: int
    word: int
    before: Chunk | None


def main_heaps(core: CoreFile) -> Iterator[Segment]:
    """Mappings that hold the first chunk of a main heap near their start; at most four."""
    memory, found = core.memory, 0
    if memory.order != "<":
        return
    for segment in memory.segments:
        if found >= _MAX_HEAPS:
            return
        if not segment.writable or not segment.filesz or core.mapped_at(segment.vaddr) is not None:
            continue
        if _first(memory, segment) is not None:
            found += 1
            yield segment


def first_broken(memory: Memory, heap: Segment) -> Broken | None:
    """Go from chunk to chunk. None when the sizes lead to the end of the heap, or to where nothing can be read."""
    at, before, block, block_at = _first(memory, heap) or heap.end, None, b"", heap.vaddr
    header, read = 2 * memory.word, memory.words
    arena = (memory.pointer(at + memory.word) or 0) & _ARENA
    for _ in range(_MAX_CHUNKS):
        if at + header > heap.end:
            return None
        if not block_at <= at <= block_at + len(block) - header:
            block, block_at = memory.read(at, _BLOCK), at
            if len(block) < header:
                return None
        word = read(block[at - block_at : at - block_at + header])[1]
        size = word & ~_FLAGS
        if size and at + size == heap.end and not word & _MAPPED:  # what is left of the heap, of any size and arena
            return None
        if size < 2 * header or size % 16 or word & (_ARENA | _MAPPED) != arena or at + size > heap.end:
            return Broken(at + memory.word, word, before)
        before = Chunk(at + header, size, memory.word)
        at += size
    return None


def freed(core: CoreFile) -> dict[int, tuple[int, int]]:
    """Freed chunks in the main thread's cache: their two first words, by address."""
    memory, result = core.memory, {}
    for heap in main_heaps(core):
        start = _first(memory, heap) or heap.vaddr
        counters = _TCACHE[memory.word].get((memory.pointer(start + memory.word) or 0) & ~_FLAGS, 0)
        table = memory.read(start + 2 * memory.word + counters, _LISTS * memory.word)
        for first in memory.words(table):
            at = first
            for _ in range(_LIST_LIMIT):
                if at == 0 or at % 16 or at in result or not heap.vaddr <= at < heap.end:
                    break
                words = _words(memory, at)
                if words is None:
                    break
                result[at] = words
                linked = words[0] ^ at >> 12
                at = linked if linked == 0 or (linked % 16 == 0 and heap.vaddr <= linked < heap.end) else words[0]
    return result


def chunk_at(core: CoreFile, address: int) -> Chunk | None:
    """The chunk that malloc returned as `address`, when the word before it can be its size."""
    memory = core.memory
    segment = memory.segment(address)
    if memory.order != "<" or address % 16 or segment is None or not segment.writable:
        return None
    if core.mapped_at(address) is not None or address - 2 * memory.word < segment.vaddr:
        return None
    word = memory.pointer(address - memory.word)
    size = (word or 0) & ~_FLAGS
    if size < 4 * memory.word or size % 16 or address - 2 * memory.word + size > segment.end:
        return None
    return Chunk(address, size, memory.word)


def is_freed(core: CoreFile, address: int) -> bool:
    """Its first word is a link of the thread cache: mangled by its own address, which nothing else looks like."""
    if chunk_at(core, address) is None:
        return False
    words = _words(core.memory, address)
    if words is None or words[1] == 0:  # the second word of a cached chunk is the cache's random key
        return False
    linked = words[0] ^ address >> 12
    heap, segment = core.memory.segment(address), core.memory.segment(linked)
    return linked == 0 or (linked % 16 == 0 and segment is not None and segment is heap)


def is_binned(core: CoreFile, address: int) -> bool:
    """Its chunk is in a list of free ones that is linked both ways: the list and the chunk behind it agree on that."""
    memory, word = core.memory, core.memory.word
    chunk = chunk_at(core, address)
    links = _words(memory, address)
    if chunk is None or links is None:
        return False
    start = address - 2 * word
    behind = _words(memory, start + chunk.size)
    if behind is None or behind[0] != chunk.size or behind[1] & _IN_USE:
        return False
    forward, backward = links
    return memory.pointer(forward + 3 * word) == start and memory.pointer(backward + 2 * word) == start


def fast_link(core: CoreFile, at: int, value: int) -> int | None:
    """The chunk that the word `value` at `at` leads to, when it is the link of a freed chunk in a fast list.

    Chunks of such a list are of one size.
    """
    memory, word = core.memory, core.memory.word
    chunk, header = chunk_at(core, at), value ^ at >> 12
    segment = memory.segment(at)
    if chunk is None or header % 16 != (0 if word == 8 else 8) or memory.segment(header) is not segment:
        return None
    size = memory.pointer(header + word) or 0
    return header + 2 * word if size & ~_FLAGS == chunk.size else None


def text_around(memory: Memory, at: int) -> str | None:
    """The printable text that covers `at`, at least 8 characters; up to 200."""
    start = max(0, at - _TEXT)
    data = memory.read(start, 2 * _TEXT)
    here = at - start
    if here >= len(data) or not 32 <= data[here] < 127:
        return None
    first = last = here
    while first > 0 and 32 <= data[first - 1] < 127:
        first -= 1
    while last + 1 < len(data) and 32 <= data[last + 1] < 127:
        last += 1
    text = data[first : last + 1].decode("ascii")
    return text[:_TEXT] if len(text) >= 8 else None


def bytes_at(memory: Memory, address: int, count: int, what: str) -> Proof | None:
    """`count` bytes of the core (at most 256) as a proof that a reader can look up again."""
    data = memory.read(address, min(count, 256))
    if not data:
        return None
    offset = memory.file_offset(address)
    place = f"file offset {hex(offset)}" if offset is not None else "from the mapped file"
    text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data)
    return Proof(f"core memory at {hex(address)}, {place}: {what}", f"{data.hex(' ')}  {text}")


def _first(memory: Memory, heap: Segment) -> int | None:
    """Where the header of the first chunk is, told by its size; a static program has its thread's data before it."""
    step = 16 // memory.word
    words = memory.words(memory.read(heap.vaddr, _BEFORE_FIRST))
    for index in range(step - 2, len(words) - 1, step):
        if words[index] == 0 and words[index + 1] & 1 and words[index + 1] & ~_FLAGS in _TCACHE[memory.word]:
            return heap.vaddr + index * memory.word
    return None


def _words(memory: Memory, address: int) -> tuple[int, int] | None:
    data = memory.read(address, 2 * memory.word)
    return (words[0], words[1]) if len(words := memory.words(data)) == 2 else None
