"""Programs that end by a panic: Rust without symbols, Go through delve."""

from __future__ import annotations

import pytest

from incidents.crash_report import CrashReport
from settings import GdbSettings
from tests.standins import analysed, crashing, panicking

MESSAGES = {
    "formatted": "order formatted not found in shard 1000",
    "plain": "the ledger is closed today",
    "unwrap": "called `Result::unwrap()` on an `Err` value: ParseIntError { kind: InvalidDigit }",
    "index": "index out of bounds: the len is 1 but the index is 5",
}
LINES = {"formatted": 5, "plain": 6, "unwrap": 7, "index": 8}


async def rust(mode: str, *options: str) -> CrashReport:
    panicking.require("rustc")
    program = panicking.rust_program(*options)
    core = panicking.rust_core(mode, program)
    return (await analysed.examined(core, program)).report


@pytest.mark.parametrize("mode", MESSAGES)
async def test_a_stripped_program_tells_where_it_panicked_and_what_it_said(mode: str) -> None:
    report = await rust(mode, "-O", "-C", "strip=symbols")
    assert report.cause_class == "panic"
    assert report.runtime is not None
    assert report.runtime.rust is not None
    location = report.runtime.rust.location or ""
    assert location.split(":")[-2] == str(LINES[mode])
    assert location.split(":")[0].endswith("panics.rs")
    assert report.runtime.rust.panic_message == MESSAGES[mode]
    assert MESSAGES[mode][:20] in (report.mechanism or "")


async def test_with_symbols_the_function_that_panicked_is_the_place() -> None:
    report = await rust("formatted", "-g")
    assert report.signature is not None
    assert report.signature.startswith("SIGABRT | panics::look")
    assert (report.crash_line or "").endswith("panics.rs:5")


async def test_an_abort_without_a_panic_is_none() -> None:
    report = (await analysed.confined(crashing.core("abort"), crashing.program())).report
    assert report.cause_class == "abort"
    assert report.runtime is None or report.runtime.rust is None


GO = {
    "panic": ("panic", "main.refuse", "panic"),
    "nil": ("null_dereference", "main.handle", "nil pointer dereference"),
    "divide": ("arithmetic", "main.divide", "integer divide by zero"),
}


@pytest.mark.parametrize(
    "mode", ["nil", *(pytest.param(mode, marks=pytest.mark.generated) for mode in ("panic", "divide"))]
)
async def test_gos_own_stack_and_goroutines_are_shown(mode: str) -> None:
    panicking.require("go", "dlv")
    program, core = panicking.go_program(), panicking.go_core(mode)
    report = (await analysed.confined(core, program)).report
    cause, place, words = GO[mode]
    assert report.cause_class == cause
    assert report.signature == f"SIGABRT | {place} | main.main"
    assert words in (report.mechanism or "")
    assert report.runtime is not None
    assert report.runtime.go is not None
    assert report.runtime.go.goroutines is not None
    assert report.runtime.go.goroutines > 20
    own = [frame.function for frame in report.threads[0].frames if frame.in_app]
    assert own == [place, "main.main"]


async def test_without_delve_the_answer_says_so_and_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    panicking.require("go")
    import tools.delve.goroutines
    from tools.gdb import analysis

    program, core = panicking.go_program(), panicking.go_core("nil")
    monkeypatch.setattr(tools.delve.goroutines, "PROGRAM", "no-such-delve")
    found = await analysis.examine_core(
        core,
        executable=program,
        settings=GdbSettings(),
        sysroot=None,
        debug_dirs=[],
        executable_dirs=[],
        fetched=None,
        effort="full",
        soft_errors=[],
        progress=lambda text: None,
    )
    assert any("apt-get install delve" in text for text in found.diagnosis.unseen)
    assert found.report.crash_info.si_signo == 6
