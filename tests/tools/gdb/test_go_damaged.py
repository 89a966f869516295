"""Go programs whose tables, descriptors or files are damaged: an answer or none, and never an error."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

from diagnosis.crashes.causes.go import Goroutines
from diagnosis.crashes.causes.golang import crashed
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.elf import ElfFile, FileBytes
from diagnosis.crashes.modules import Modules
from diagnosis.crashes.sections import sections_of
from errors import UnusableCore
from tests.standins import panicking

STRIPPED = ("-ldflags=-s -w",)
MUTATIONS = 200


def read(program: Path, core: Path) -> Goroutines | None:
    """The stack by Go's tables alone."""
    with CoreFile(core) as opened:
        return crashed.crashed_goroutine(opened, Modules(opened), program)


@contextlib.contextmanager
def damaged(path: Path, places: list[tuple[int, int]], seed: int) -> Iterator[None]:
    """Damage in some of `places` (offset, length) of the file `path`, which is as it was afterwards."""
    chance = random.Random(seed)
    before: list[tuple[int, bytes]] = []
    with path.open("r+b") as file:
        for _ in range(chance.randrange(1, 30)):
            offset, length = chance.choice(places)
            at = offset + chance.randrange(length)
            value = chance.choice([b"\xff" * 8, b"\0" * 8, b"\x80" * 64, chance.randbytes(4), chance.randbytes(1)])
            file.seek(at)
            before.append((at, file.read(len(value))))
            file.seek(at)
            file.write(value)
    try:
        yield
    finally:
        with path.open("r+b") as file:
            for at, value in reversed(before):
                file.seek(at)
                file.write(value)


def test_damaged_tables_and_descriptors_are_survived(tmp_path: Path) -> None:
    panicking.require("go")
    program, core = panicking.go_program(*STRIPPED), panicking.go_core("nil", *STRIPPED)
    whole = read(program, core)
    assert whole is not None
    with FileBytes(program) as file:
        section = sections_of(ElfFile(file))[".gopclntab"]
    table = [(section.offset, 72), (section.offset, section.size), (section.offset, 4096)]
    with CoreFile(core) as opened:
        own = crashed.running(opened, opened.crashed)
        assert own is not None
        assert own.current is not None
        addresses = [
            own.current.address,
            own.address,
            own.scheduler.address,
            own.current.panic,
            opened.crashed.registers["rsp"],
        ]
        pointers = [(offset, 96) for address in addresses if (offset := opened.memory.file_offset(address)) is not None]
        stack = opened.memory.file_offset(opened.crashed.registers["rsp"])
        assert stack is not None
        pointers.append((stack, 2048))
    assert len(pointers) == 6
    copies = [
        (Path(shutil.copy(program, tmp_path / "shop")), table),
        (Path(shutil.copy(core, tmp_path / "core")), pointers),
    ]
    different = 0
    for seed in range(MUTATIONS):
        path, places = copies[seed % 2]
        with damaged(path, places, seed):
            found = read(copies[0][0], copies[1][0])
        assert found is None or len(found.frames) < 5000
        different += found is None or (found.frames, found.panic) != (whole.frames, whole.panic)
    assert MUTATIONS // 4 < different < MUTATIONS
    again = read(copies[0][0], copies[1][0])
    assert again is not None
    assert again.frames == whole.frames


def test_files_that_are_cut_off_are_survived(tmp_path: Path) -> None:
    panicking.require("go")
    program, core = panicking.go_program(*STRIPPED), panicking.go_core("nil", *STRIPPED)
    short_program, short_core = (
        Path(shutil.copy(program, tmp_path / "shop")),
        Path(shutil.copy(core, tmp_path / "core")),
    )
    with FileBytes(program) as file:
        section = sections_of(ElfFile(file))[".gopclntab"]
        everything = file.size
    headers = program.read_bytes()[:4096]
    found = []
    for kept in range(section.size, 0, -section.size // 50):
        content = bytearray(program.read_bytes()[: section.offset + kept])
        content += bytes(everything - len(content))  # section headers lie behind
        content[: len(headers)] = headers
        short_program.write_bytes(content)
        found.append(read(short_program, core))
    assert found[-1] is None or found[-1].panic is None
    whole = core.stat().st_size
    for halved in range(1, 12):
        os.truncate(short_core, whole >> halved)
        with contextlib.suppress(UnusableCore):
            found.append(read(program, short_core))
    assert found[-1] is None or found[-1].panic is None


def test_pointers_that_lead_in_circles_end(tmp_path: Path) -> None:
    panicking.require("go")
    program, core = panicking.go_program(*STRIPPED), panicking.go_core("again", *STRIPPED)
    target = tmp_path / "core"
    shutil.copy(core, target)
    with CoreFile(core) as opened:
        own = crashed.running(opened, opened.crashed)
        assert own is not None
        assert own.current is not None
        record = own.current.panic
        words = struct.unpack("<3Q", opened.memory.read(record, 24))
        link = record + 8 * next(
            index for index in (2, 3) if own.current.holds(opened.memory.pointer(record + 8 * index) or 0)
        )
        place = opened.memory.file_offset(link)
        assert place is not None
        assert words[0] != 0
    with target.open("r+b") as file:
        file.seek(place)
        file.write(struct.pack("<Q", record))
    found = read(program, target)
    assert found is not None
    assert found.panic == "the clerk left, too"
