"""Go programs without symbols: their stack and their last words, by Go's own tables and the core's memory."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from diagnosis.crashes.causes.go import Goroutines
from diagnosis.crashes.causes.golang import crashed, pclntab
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.elf import ElfFile, FileBytes
from diagnosis.crashes.frames import normalize
from diagnosis.crashes.modules import Modules
from diagnosis.crashes.sections import sections_of
from incidents.crash_report import CrashReport
from settings import GdbSettings
from tests.standins import analysed, crashing, panicking
from tools.gdb import analysis

BUILDS = {
    "stripped": ("-ldflags=-s -w",),
    "default": (),
    "pie": ("-buildmode=pie",),
    "stripped pie": ("-buildmode=pie", "-ldflags=-s -w"),
    "unoptimised": ("-gcflags=all=-N -l",),
}
STRIPPED = BUILDS["stripped"]
ENDS = {
    "panic": ("panic", "main.refuse", "order zz-17 not found"),
    "nil": ("null_dereference", "main.handle", "runtime error: invalid memory address or nil pointer dereference"),
    "divide": ("arithmetic", "main.divide", "runtime error: integer divide by zero"),
    "error": ("panic", "main.fail", "stock of 7: the shelf is empty"),
    "index": ("panic", "main.(*Shelf[...]).at", "runtime error: index out of range [5] with length 3"),
    "code": ("panic", "main.deep", "main.Code(5)"),
    "overflow": ("stack_overflow", "main.sink", "stack overflow"),
    "deadlock": ("abort", "main.wait", "all goroutines are asleep - deadlock!"),
    "map": ("abort", "main.write", "concurrent map writes"),
}
LINES = {
    "panic": "func refuse",
    "nil": "func handle",
    "divide": "func divide",
    "error": "func fail",
    "index": "func (s *Shelf",
    "code": "func deep",
    "overflow": "func sink",
    "deadlock": "func wait",
    "map": 'prices["zz-17"]++',
}
WITH_DEBUGGERS = {"panic", "index", "deadlock"}
FATAL = {"overflow", "deadlock", "map"}


def read(program: Path, core: Path) -> Goroutines | None:
    """The stack by Go's tables alone."""
    with CoreFile(core) as opened:
        return crashed.crashed_goroutine(opened, Modules(opened), program)


async def report_of(mode: str, flags: tuple[str, ...]) -> CrashReport:
    return await examined(panicking.go_core(mode, *flags), panicking.go_program(*flags))


async def examined(core: Path, program: Path) -> CrashReport:
    return (await analysed.examined(core, program)).report


@pytest.mark.parametrize("mode", ENDS)
async def test_a_stripped_program_tells_where_it_ended_and_why(mode: str) -> None:
    panicking.require("go")
    core, program = panicking.go_core(mode, *STRIPPED), panicking.go_program(*STRIPPED)
    full = mode in WITH_DEBUGGERS
    report = (await analysed.examined(core, program, effort="full" if full else "notes")).report
    cause, place, text = ENDS[mode]
    assert report.status == ("OK" if full else "PARTIAL")
    assert report.cause_class == cause
    what = "SIGABRT | stack overflow" if mode == "overflow" else "SIGABRT"
    assert (report.signature or "").startswith(f"{what} | {place}")
    assert text in (report.mechanism or "")
    assert report.runtime is not None
    assert report.runtime.go is not None
    told = report.runtime.go.fatal if mode in FATAL else report.runtime.go.panic
    assert told == text
    assert (report.runtime.go.panic is None) == (mode in FATAL)
    assert (report.runtime.go.goroutines or 0) > (2 if mode == "deadlock" else 20)
    assert report.crash_line == f"{panicking.go_program(*STRIPPED).parent}/main.go:{panicking.line_of(LINES[mode])}"
    assert {frame.trust for frame in report.threads[0].frames} == {"pclntab"}
    assert all(frame.function for thread in report.threads for frame in thread.frames)
    assert [error.endswith("Go's own tables were used") for error in report.soft_errors] == [True] * full


@pytest.mark.parametrize("mode", ["panic", "index", "deadlock"])
async def test_the_signature_is_that_of_the_program_with_symbols(mode: str) -> None:
    panicking.require("go", "dlv")
    with_symbols, without = await report_of(mode, ()), await report_of(mode, STRIPPED)
    assert with_symbols.signature == without.signature
    assert with_symbols.runtime is not None
    assert with_symbols.runtime == without.runtime
    assert {frame.trust for frame in with_symbols.threads[0].frames} == {"pclntab" if mode == "deadlock" else "delve"}
    assert with_symbols.soft_errors == []


async def test_without_delve_the_answer_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    panicking.require("go")
    monkeypatch.setattr("tools.delve.goroutines.PROGRAM", "no-such-delve")
    core = panicking.go_core("error")  # of which no other test keeps what delve said
    report = await examined(core, panicking.go_program())
    assert (report.cause_class, report.signature) == ("panic", "SIGABRT | main.fail | main.main")
    assert report.soft_errors == ["delve is not installed; on Debian: apt-get install delve; Go's own tables were used"]


EACH_FLAG = {("default", "nil"), ("stripped", "code"), ("stripped pie", "nil"), ("unoptimised", "code")}


@pytest.mark.parametrize(
    ("build", "mode"),
    [
        pytest.param(build, mode, marks=[] if (build, mode) in EACH_FLAG else [pytest.mark.generated])
        for build in BUILDS
        for mode in ("nil", "code")
    ],
)
def test_every_build_has_the_same_calls(build: str, mode: str) -> None:
    panicking.require("go")
    flags = BUILDS[build]
    found = read(panicking.go_program(*flags), panicking.go_core(mode, *flags))
    assert found is not None
    own = [(frame.function, frame.line) for frame in found.frames if frame.in_app]
    assert own[0] == (ENDS[mode][1], panicking.line_of(LINES[mode]))
    assert [name for name, _ in own[1:]] == ["main.main"]
    assert found.panic == ENDS[mode][2]
    assert [frame.function for frame in found.frames[-2:]] == ["runtime.main", "runtime.goexit"]
    inlined = [frame.function for frame in found.frames if frame.inlined and frame.in_app]
    assert inlined == (["main.deep"] if mode == "code" and build != "unoptimised" else [])
    assert found.count is not None
    assert found.count > 20


def test_names_of_methods_keep_their_type() -> None:
    assert (
        normalize("shop/store.(*Shelf[go.shape.int,go.shape.[]uint8]).open.func1")
        == "shop/store.(*Shelf[...]).open.func1"
    )
    assert normalize("main.(*Shop).open") == "main.(*Shop).open"
    assert normalize("main.Map[go.shape.int]") == "main.Map[...]"


async def test_a_panic_during_a_panic_keeps_both_texts() -> None:
    panicking.require("go")
    report = await report_of("again", STRIPPED)
    assert report.runtime is not None
    assert report.runtime.go is not None
    assert report.runtime.go.panic == "order zz-17 not found; then panic: the clerk left, too"


async def test_a_program_with_c_in_it_shows_its_go_stack() -> None:
    panicking.require("go", "gcc")
    report = await examined(panicking.cgo_core("zz-17", *STRIPPED), panicking.cgo_program(*STRIPPED))
    assert (report.cause_class, report.signature) == ("panic", "SIGABRT | main.main")
    assert report.runtime is not None
    assert report.runtime.go is not None
    assert report.runtime.go.panic == "order zz-17 not found"


async def test_a_fault_in_c_code_is_explained_and_placed_at_the_go_call() -> None:
    panicking.require("go", "gcc")
    report = await examined(panicking.cgo_core("fault", *STRIPPED), panicking.cgo_program(*STRIPPED))
    assert report.cause_class == "null_dereference"
    assert (report.crash_info.type, report.crash_info.address) == ("SIGSEGV / SEGV_MAPERR", "0x0")
    assert "ptr [" in (report.crash_info.instruction or "")
    assert (report.mechanism or "").endswith("the program's own handler then raised SIGABRT")
    names = [frame.function for frame in report.threads[0].frames]
    assert names[names.index("<signal handler called>") + 1] is None
    assert [name for name in names if name and name.startswith("main.")] == [
        "main._Cfunc_price",
        "main.look",
        "main.main",
    ]


async def test_an_abort_in_c_code_is_placed_at_the_go_call() -> None:
    panicking.require("go", "gcc")
    report = await examined(panicking.cgo_core("abort", *STRIPPED), panicking.cgo_program(*STRIPPED))
    assert (report.cause_class, report.signature) == ("abort", "SIGABRT | main._Cfunc_stop | main.leave | main.main")
    assert "abort" in {frame.function for frame in report.threads[0].frames}


async def test_the_last_words_are_cited_from_memory() -> None:
    panicking.require("go")
    core, program = panicking.go_core("panic", *STRIPPED), panicking.go_program(*STRIPPED)
    found = await analysis.analyze_core(core, executable=program, settings=GdbSettings())
    cited = {item.id: item for item in found.diagnosis.evidence}
    finding = next(item for item in found.diagnosis.findings if item.rule == "crash.cause")
    sources = [cited[name].source for name in finding.evidence_ids]
    words = next(cited[name] for name in finding.evidence_ids if "value of the panic" in cited[name].source)
    assert words.excerpt == "order zz-17 not found"
    assert any(".gopclntab" in source for source in sources)
    header = int(words.source.split("core memory at ")[1].split(",")[0], 16)
    with CoreFile(core) as opened:
        address, length = struct.unpack("<QQ", opened.memory.read(header, 16))
        assert opened.memory.read(address, length) == b"order zz-17 not found"


def test_the_table_says_what_gos_own_tool_says() -> None:
    """Every 500th instruction of the text, by the table of the stripped program and by addr2line of its twin."""
    panicking.require("go")
    program = panicking.go_program(*STRIPPED)
    with FileBytes(program) as file:
        elf = ElfFile(file)
        table = pclntab.line_table(elf)
        assert table is not None
        start = sections_of(elf)[".text"].offset
        base = next(s.vaddr - s.offset for s in elf.segments if s.offset <= start < s.offset + s.filesz) + start
        addresses = range(base, base + table.text_size, 500)
        answer = subprocess.run(
            ["go", "tool", "addr2line", str(program)],
            input="".join(f"{hex(address)}\n" for address in addresses),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.splitlines()
        compared = 0
        for address, name, place in zip(addresses, answer[::2], answer[1::2], strict=True):
            function = table.function(address - base)
            if function is None:
                assert name == "?"
                continue
            file_name, line = table.place(function, address - base)
            if name == "?" or line is None:
                continue
            assert (function.name, f"{file_name}:{line}") == (name, place)
            compared += 1
        assert compared > 500


def test_another_build_is_not_taken_for_the_program() -> None:
    panicking.require("go")
    assert read(panicking.go_program(), panicking.go_core("panic", *STRIPPED)) is None


def test_a_program_that_is_not_go_has_none() -> None:
    crashing.require_tools()
    assert read(crashing.program(), crashing.core("abort")) is None
