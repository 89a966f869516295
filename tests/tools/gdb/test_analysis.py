"""Real cores through real gdb: what is said about each kind of crash."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from diagnosis.crashes.core_file import CoreFile
from errors import ToolMissing, UnusableCore
from incidents.crash_report import CrashReport
from incidents.models import CauseClass, DiagnosisStatus
from settings import GdbSettings
from tests.standins import analysed, crashing
from tools.gdb.analysis import CrashAnalysis, analyze_core

pytestmark = pytest.mark.gdb
SETTINGS = GdbSettings()


async def analyze(core: Path, executable: Path | None = None, **more: object) -> CrashAnalysis:
    if not more:
        return await analysed.confined(core, executable)
    return await analyze_core(core, executable=executable, settings=SETTINGS, **more)  # type: ignore[arg-type]


C = CauseClass
# mode, class, signature, mark of the crash line (None: not asserted), words of the mechanism
CRASHES = [
    ("null", C.NULL_DEREFERENCE, "SIGSEGV | Shop::read_null | main", "null", ["read of 4 bytes", "0x0", "`price`"]),
    ("offset", C.NULL_DEREFERENCE, "SIGSEGV | Shop::Ledger<T>::total | main", "offset", ["0x18", "offset 24"]),
    ("wild", C.WILD_POINTER, "SIGSEGV | Shop::follow | main", "wild", ["0x4141414141414159", "not canonical", "rax"]),
    ("unmapped", C.WILD_POINTER, "SIGSEGV | Shop::follow | main", "wild", ["0x123456789018", "nothing is mapped"]),
    ("jump", C.NULL_DEREFERENCE, "SIGSEGV | main", None, ["control went to 0x0", "main"]),
    ("overflow", C.STACK_OVERFLOW, "SIGSEGV | stack overflow | Shop::descend", None, ["Shop::descend without end"]),
    ("abort", C.ABORT, "SIGABRT | Shop::give_up | main", "abort", ["called abort"]),
    ("assert", C.ASSERTION, "SIGABRT | Shop::check | main", "assert", ["quantity > 0", "an order has items"]),
    ("exception", C.UNCAUGHT_EXCEPTION, "SIGABRT | Shop::query | main", "exception", ["DbError", "10.0.0.3:5432"]),
    ("number", C.UNCAUGHT_EXCEPTION, "SIGABRT | main", None, ["exception int", '"42"']),
    ("caught", C.ABORT, "SIGABRT | Shop::give_up | main", "abort", ["called abort"]),
    ("double_free", C.HEAP_CORRUPTION, "SIGABRT | Shop::free_twice | main", "double_free", ["double free"]),
    ("smash", C.STACK_SMASHING, "SIGABRT | Shop::copy_name", "smash", ["stack smashing detected"]),
    ("fpe", C.ARITHMETIC, "SIGFPE | Shop::divide | main", "fpe", ["FPE_INTDIV", "idiv"]),
    ("illegal", C.ILLEGAL_INSTRUCTION, "SIGILL | Shop::unreachable | main", "illegal", ["ud2"]),
    ("bus", C.BUS_ERROR, "SIGBUS | Shop::read_past | main", "bus", ["BUS_ADRERR", "shorter than its mapping"]),
    ("thread", C.NULL_DEREFERENCE, "SIGSEGV | Shop::work", "thread", ["write of 4 bytes", "`order` is null"]),
    ("handled", C.NULL_DEREFERENCE, "SIGSEGV | Shop::read_null | main", "null", ["0x0", "rax = 0x0", "`price`"]),
    ("handled_abort", C.NULL_DEREFERENCE, "SIGSEGV | Shop::Ledger<T>::total | main", "offset", ["0x18", "rax = 0x0"]),
    ("self", C.UNKNOWN, "SIGSEGV | main", None, ["sent the signal to itself"]),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "cause", "signature", "mark", "words"), CRASHES, ids=[row[0] for row in CRASHES])
async def test_each_kind_of_crash(
    mode: str, cause: CauseClass, signature: str, mark: str | None, words: list[str]
) -> None:
    analysis = await analyze(crashing.core(mode), None if mode == "null" else crashing.program())
    report, diagnosis = analysis.report, analysis.diagnosis
    assert diagnosis.causes[0].cause_class is cause
    assert report.signature == diagnosis.signature == signature
    if mark is not None:
        assert report.crash_line == f"{crashing.SOURCE}:{crashing.line_of(mark)}"
    for word in words:
        assert word in (report.mechanism or "")
    assert diagnosis.status is (DiagnosisStatus.UNKNOWN if cause is CauseClass.UNKNOWN else DiagnosisStatus.DIAGNOSED)
    assert diagnosis.causes[0].object.kind == "Process"
    assert diagnosis.causes[0].object.name == "shop"
    assert report.executable == str(crashing.program())
    assert report.executable_match == "exact"
    every_claim_is_supported(analysis)


def every_claim_is_supported(analysis: CrashAnalysis) -> None:
    """Findings cite evidence that exists, names its source, and whose longer texts are kept whole."""
    evidence = {item.id: item for item in analysis.diagnosis.evidence}
    findings = {finding.id for finding in analysis.diagnosis.findings}
    assert analysis.diagnosis.findings
    for finding in analysis.diagnosis.findings:
        assert set(finding.evidence_ids) <= set(evidence)
    assert set(analysis.diagnosis.causes[0].finding_ids) <= findings
    for item in evidence.values():
        assert item.source.startswith(("core ", "gdb -"))
        assert item.truncated == (item.id in analysis.whole)


async def test_a_report_holds_what_a_debugger_shows() -> None:
    report = (await analyze(crashing.core("offset"), crashing.program())).report
    info, crashed = report.crash_info, report.threads[0]
    assert (info.type, info.address, info.si_signo, info.si_code_name) == (
        "SIGSEGV / SEGV_MAPERR",
        "0x18",
        11,
        "SEGV_MAPERR",
    )
    assert info.sender is None
    assert info.crashing_thread == crashed.thread_id == report.process.pid
    assert crashed.thread_name == "shop"
    assert info.registers["rip"] == crashed.frames[0].offset
    current = [line for line in report.disassembly if line.is_pc]
    assert len(current) == 1
    assert current[0].text == info.instruction
    assert report.disassembly.index(current[0]) > 0  # and what led to it
    names = {item.name: item for item in crashed.frames[0].args}
    assert names["rate"].value == "2"
    prices = next(item for item in crashed.frames[1].locals if item.name == "prices")
    assert prices.value is not None
    assert "{3, 5, 8}" in prices.value
    modules = {Path(module.filename).name: module for module in report.modules}
    assert modules["shop"].build_id_match == "exact"
    assert modules["libc.so.6"].build_id_match == "exact"
    assert report.core.sha256 is not None
    assert report.core.missing_bytes == 0
    assert report.status == "OK"


async def test_a_stack_overflow_stays_bounded() -> None:
    report = (await analyze(crashing.core("overflow"), crashing.program())).report
    thread = report.threads[0]
    assert thread.truncated
    assert thread.recursion is not None
    assert (thread.recursion.period, thread.recursion.functions) == (1, ["Shop::descend"])
    assert thread.recursion.count > 10_000
    assert thread.frame_count > thread.recursion.omitted > thread.recursion.count - 10
    assert len(thread.frames) < 20
    assert [frame.function for frame in thread.frames[:2]] == ["Shop::descend"] * 2
    assert (thread.frames[-1].function, thread.frames[-1].frame) == ("main", thread.frame_count - 1)


async def test_the_crashing_thread_comes_first_and_all_others_are_there() -> None:
    report = (await analyze(crashing.core("thread"), crashing.program())).report
    assert len(report.threads) == 7
    assert report.threads[0].thread_id == report.crash_info.crashing_thread != report.process.pid
    idle = [thread for thread in report.threads if any(f.function == "Shop::idle" for f in thread.frames)]
    assert len(idle) == 5


async def test_a_signal_from_another_process_is_no_memory_bug() -> None:
    analysis = await analyze(crashing.killed_core())
    assert analysis.diagnosis.causes[0].cause_class is CauseClass.EXTERNAL_SIGNAL
    assert analysis.report.crash_info.sender is not None
    assert analysis.report.crash_info.address is None
    assert analysis.report.signature == "SIGSEGV | sent from outside"


async def test_the_same_bug_has_the_same_signature_in_every_run_and_the_same_core_the_same_document() -> None:
    first, other = [await analyze(crashing.core("null", run)) for run in (0, 1)]
    again = await analyze_core(crashing.core("null"), executable=None, settings=SETTINGS)
    assert first.diagnosis.model_dump_json() == again.diagnosis.model_dump_json()
    assert first.report.crash_info.registers != other.report.crash_info.registers  # ASLR
    assert first.report.signature == other.report.signature


@pytest.mark.parametrize("mode", ["exception", "null"])
async def test_a_stripped_program_still_says_why(mode: str) -> None:
    core = crashing.core(mode, executable=crashing.stripped())
    analysis = await analyze(core)
    expected = {row[0]: row[1] for row in CRASHES}[mode]
    assert analysis.diagnosis.causes[0].cause_class is expected
    assert "shop+0x" in (analysis.report.signature or "")
    if mode == "exception":
        thrown = analysis.report.crash_info.exception
        assert thrown is not None
        assert (thrown.type, thrown.what, thrown.source) == (
            "DbError",
            "connection refused: 10.0.0.3:5432",
            "memory_scan",
        )
        return
    # the unstripped program has the same build-id and is accepted for it
    named = await analyze(core, crashing.program())
    assert named.report.executable_match == "exact"
    assert named.report.crash_line == f"{crashing.SOURCE}:{crashing.line_of(mode)}"


async def test_without_any_executable_notes_and_memory_still_answer(tmp_path: Path) -> None:
    core = crashing.core("exception")
    analysis = await analyze(core, sysroot=tmp_path)
    report = analysis.report
    assert report.executable is None
    assert report.executable_match == "absent"
    assert {module.build_id_match for module in report.modules} == {"absent"}
    assert all(module.build_id for module in report.modules)
    assert analysis.diagnosis.causes[0].cause_class is CauseClass.UNCAUGHT_EXCEPTION
    assert report.crash_info.exception is not None
    assert report.crash_info.exception.what == "connection refused: 10.0.0.3:5432"
    assert report.threads[0].frames[0].module_offset is not None
    assert any("--exe" in step for step in analysis.diagnosis.next_steps)
    assert report.disassembly == []  # gdb shows zeros for code that is not there


async def test_an_exception_that_was_caught_and_freed_is_not_blamed_even_without_names(tmp_path: Path) -> None:
    report = (await analyze(crashing.core("caught"), sysroot=tmp_path)).report
    assert report.threads[0].frames[0].function is None
    assert report.cause_class == C.ABORT
    assert report.crash_info.exception is None


async def test_the_executable_is_found_by_build_id_alone(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    shutil.copy(crashing.program(), tmp_path / "bin" / "renamed-by-a-deploy")
    shutil.copy("/usr/bin/env", tmp_path / "bin" / "shop")  # the right name is the wrong program
    analysis = await analyze(crashing.core("null"), sysroot=tmp_path / "empty", executable_dirs=[tmp_path / "bin"])
    assert analysis.report.executable == str(tmp_path / "bin" / "renamed-by-a-deploy")
    assert any("another build" in text for text in analysis.report.soft_errors)
    assert analysis.report.crash_line is not None


async def test_a_library_that_is_another_build_gives_no_names(tmp_path: Path) -> None:
    """A sysroot with the right program and a wrong libc: libc's frames stay nameless instead of being guessed."""
    core = crashing.core("abort")
    with CoreFile(core) as opened:
        libc = next(mapped.path for mapped in opened.files if "libc.so" in mapped.path)
    for path, content in ((str(crashing.program()), crashing.program()), (libc, Path("/usr/bin/env"))):
        target = tmp_path / path.lstrip("/")
        target.parent.mkdir(parents=True)
        shutil.copy(content, target)
    report = (await analyze(core, sysroot=tmp_path)).report
    module = next(module for module in report.modules if module.filename == libc)
    assert module.build_id_match == "mismatch"
    assert module.file_used is None
    assert any("another build" in text for text in report.soft_errors)
    assert all(frame.function is None for frame in report.threads[0].frames if frame.module == libc)


async def test_a_wrong_executable_is_refused() -> None:
    other = crashing.program("other-build", "-O1")
    with pytest.raises(UnusableCore, match="not the program that crashed"):
        await analyze(crashing.core("null"), other)


async def test_a_core_given_as_executable_is_refused() -> None:
    with pytest.raises(UnusableCore, match="not an executable"):
        await analyze(crashing.core("null"), crashing.core("null"))


@pytest.mark.parametrize("mode", ["exception", "null"])
async def test_a_core_that_a_debugger_wrote_is_as_good(mode: str) -> None:
    report = (await analyze(crashing.debugger_core(mode))).report
    expected = {row[0]: row for row in CRASHES}[mode]
    assert (report.cause_class, report.signature, report.soft_errors) == (expected[1], expected[2], [])
    assert report.crash_line == f"{crashing.SOURCE}:{crashing.line_of(mode)}"


async def test_a_truncated_core_is_partial_and_says_what_is_missing(tmp_path: Path) -> None:
    if not crashing.kernel_writes_cores():
        pytest.skip("kernel.core_pattern leads elsewhere, and a debugger writes the notes at the end")
    whole = crashing.core("null")
    size = whole.stat().st_size
    cut = crashing.changed(whole, tmp_path / "core", lambda data: data.__delitem__(slice(size // 2, None)))
    analysis = await analyze(cut)
    report = analysis.report
    assert report.status == "PARTIAL"
    assert report.core.truncated
    assert 0 < report.core.missing_bytes <= size - size // 2
    assert any(f"{report.core.missing_bytes} bytes are missing" in text for text in analysis.diagnosis.unseen)
    assert analysis.diagnosis.causes[0].cause_class is CauseClass.NULL_DEREFERENCE  # the notes are at the start


def _unusable(folder: Path) -> dict[str, tuple[Path, str]]:
    text, empty, hole, cut = (folder / name for name in ("core", "empty", "hole", "cut"))
    text.write_text("Segmentation fault (core dumped)\n")
    empty.touch()
    hole.write_bytes(bytes(4096))
    cut.write_bytes(crashing.core("null").read_bytes()[:1000])
    compressed = folder / "core.zst"
    compressed.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    hostile = folder / "core\n\x1b[31mred"
    hostile.write_text("no")
    return {
        "text": (text, "not a core dump"),
        "empty": (empty, "is empty"),
        "zeros": (hole, "not a core dump"),
        "cut in its notes": (cut, "cut off|no thread"),
        "compressed": (compressed, "compressed with zstd"),
        "directory": (folder, "is a directory"),
        "missing": (folder / "nothing", "does not exist"),
        "device": (Path("/dev/zero"), "not a regular file"),
        "an executable": (crashing.program(), "not a core dump"),
        "hostile name": (hostile, r"core\\n\\x1b"),
        "impossible name": (folder / "zero\0byte", "not a possible file name|cannot be read"),
        "too long name": (folder / ("x" * 5000), "cannot be read"),
    }


@pytest.mark.parametrize(
    "kind",
    [
        *("text", "empty", "zeros", "cut in its notes", "compressed", "directory", "missing", "device"),
        *("an executable", "hostile name", "impossible name", "too long name"),
    ],
)
async def test_what_is_no_core_gets_one_clear_sentence(kind: str, tmp_path: Path) -> None:
    path, words = _unusable(tmp_path)[kind]
    with pytest.raises(UnusableCore, match=words) as caught:
        await analyze(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()


async def test_gdb_that_is_not_installed_is_named() -> None:
    with pytest.raises(ToolMissing, match="apt-get install gdb"):
        await analyze_core(crashing.core("null"), executable=None, settings=GdbSettings(program="no-such-gdb"))


async def test_hostile_names_of_files_reach_nobody(tmp_path: Path) -> None:
    """Paths in NT_FILE are bytes that the crashed process chose; here they are a traversal and a terminal escape."""
    program = str(crashing.program()).encode()
    for number, name in enumerate((b"/../../../../etc/shadow", b"/tmp/\x1b]0;x\x07\n-ex shell", b"relative", b"//")):
        padded = name + b"/" * (len(program) - len(name))
        core = crashing.changed(
            crashing.core("null"),
            tmp_path / f"core{number}",
            lambda data, padded=padded: data.__setitem__(slice(None), data.replace(program, padded)),
        )
        report = (await analyze(core)).report
        assert report.executable is None
        assert all(module.file_used != "/etc/shadow" for module in report.modules)
        assert report.cause_class == CauseClass.NULL_DEREFERENCE


async def test_the_report_survives_json() -> None:
    """What is printed with --json can be read back as the same report."""
    report = (await analyze(crashing.core("thread"), crashing.program())).report
    assert CrashReport.model_validate_json(report.model_dump_json()) == report
