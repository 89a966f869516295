"""Damaged memory of a Python process: what can be read is shown, nothing hangs, nothing raises."""

from __future__ import annotations

import os
import random
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from diagnosis.crashes.causes.python.interpreter import Interpreter, interpreter_of
from diagnosis.crashes.causes.python.stack import python_stacks
from tests.standins import pythons


class Damaged:
    """A copy of a core whose memory can be changed under the reader's eyes."""

    def __init__(self, source: Path, target: Path) -> None:
        self.path = Path(shutil.copy(source, target / "core"))
        self.file = self.path.open("r+b", buffering=0)

    @contextmanager
    def at(self, offset: int, data: bytes) -> Iterator[None]:
        before = os.pread(self.file.fileno(), len(data), offset)
        os.pwrite(self.file.fileno(), data, offset)
        try:
            yield
        finally:
            os.pwrite(self.file.fileno(), before, offset)


@pytest.fixture(params=["own", "3.10", "3.13"])
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Damaged]:
    copy = Damaged(pythons.core(pythons.interpreter(request.param), "abort"), tmp_path)
    yield copy
    copy.file.close()


def test_frames_that_lead_anywhere_give_what_was_read_and_say_where_it_ends(damaged: Damaged) -> None:
    with pythons.opened(damaged.path) as process:
        whole = process.stacks().crashed
        assert whole is not None
        interpreter = interpreter_of(process.core, process.modules, process.files)
        assert isinstance(interpreter, Interpreter)
        back = whole.frames[2].address + interpreter.layout.back
        offset = process.core.memory.file_offset(back)
        assert offset is not None
        for target, words in (
            (whole.frames[2].address, "lead back"),
            (whole.frames[0].address, "lead back"),
            (8, "is not in the core"),
            ((1 << 64) - 8, "is not in the core"),
            (process.core.crashed.sp or 0, "no readable code object"),
        ):
            with damaged.at(offset, struct.pack("<Q", target)):
                found = process.stacks()
            assert found.crashed is not None
            assert found.crashed.frames == whole.frames[:3]
            assert words in (found.crashed.broken or "")
            assert any("breaks off after 3 frames" in text for text in found.soft_errors)
        assert process.stacks().crashed == whole


async def test_the_report_says_where_the_stack_breaks_off(damaged: Damaged) -> None:
    with pythons.opened(damaged.path) as process:
        whole = process.stacks().crashed
        interpreter = interpreter_of(process.core, process.modules, process.files)
        assert whole is not None and isinstance(interpreter, Interpreter)
        offset = process.core.memory.file_offset(whole.frames[1].address + interpreter.layout.back)
        assert offset is not None
    with damaged.at(offset, struct.pack("<Q", whole.frames[0].address)):
        found = await pythons.examined(damaged.path, "notes")
    assert found.crash is not None and found.crash.runtime is not None and found.crash.runtime.python is not None
    assert [frame.function for frame in found.crash.runtime.python.py_stack] == [f.function for f in whole.frames[:2]]
    assert any("breaks off after 2 frames: its frames lead back" in text for text in found.unseen)


def test_no_change_of_the_interpreters_structures_hangs_or_raises(damaged: Damaged) -> None:
    """Pointers and sizes in the state, the threads, the frames and the code objects, at random but repeatable."""
    choose = random.Random(7)
    with pythons.opened(damaged.path) as process:
        whole = process.stacks()
        interpreter = interpreter_of(process.core, process.modules, process.files)
        assert isinstance(interpreter, Interpreter)
        assert whole.crashed is not None
        memory, layout = process.core.memory, interpreter.layout
        head = memory.pointer(interpreter.state + layout.interpreters) or 0
        thread = memory.pointer(head + layout.threads) or 0
        codes = [memory.pointer(frame.address + layout.code) or 0 for frame in whole.crashed.frames]
        names = [memory.pointer(code + layout.file) or 0 for code in codes[:1]]
        tables = [memory.pointer(code + layout.line_table) or 0 for code in codes]
        frames = [frame.address for frame in whole.crashed.frames]
        places = [
            interpreter.state + layout.interpreters,
            *(head + at for at in (layout.next_interpreter, layout.threads)),
            *(thread + at for at in range(0, 200, 8)),
            *(start + at for start in (*frames, *codes, *names, *tables) for at in range(0, 200, 8)),
        ]
        values = [0, 1, head, thread, *frames, *codes, *names, *tables, (1 << 64) - 1, 1 << 63, 0xFFFF_FFFF]
        broken = 0
        for _ in range(200):
            offset = memory.file_offset(choose.choice(places))
            value = choose.choice([*values, choose.getrandbits(64)])
            if offset is None:
                continue
            with damaged.at(offset, struct.pack("<Q", value)):
                found = python_stacks(process.core, process.modules, process.files)
            if found is not None and found.crashed is not None:
                broken += found.crashed != whole.crashed
                for frame in found.crashed.frames:
                    assert len(frame.function) <= 501
                    assert frame.function.isprintable()
                    assert len(frame.file or "") <= 501
        assert broken > 10  # the changes were in what is read


def test_a_damaged_description_is_not_believed(tmp_path: Path) -> None:
    damaged = Damaged(pythons.core(pythons.interpreter("3.13"), "abort"), tmp_path)
    with pythons.opened(damaged.path) as process:
        interpreter = interpreter_of(process.core, process.modules, process.files)
        assert isinstance(interpreter, Interpreter)
        start = process.core.memory.file_offset(interpreter.state)
        assert start is not None
        for at, data, words in (
            (0, b"xdebugpx", "damaged"),
            (16, struct.pack("<Q", 1), "without the GIL"),
            (40, struct.pack("<Q", 1 << 60), "damaged"),
        ):
            with damaged.at(start + at, data):
                found = process.stacks()
            assert found.crashed is None
            assert words in found.soft_errors[0]
    damaged.file.close()
