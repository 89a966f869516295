"""Which files are believed: build-ids of programs, libraries and debug files, checksums, and links inside a sysroot."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from diagnosis.crashes.core_file import CoreFile
from incidents.crash_report import CrashReport, Module
from settings import GdbSettings
from tests.standins import crashing
from tools.gdb.analysis import analyze_core

pytestmark = pytest.mark.gdb


async def report_of(core: Path, **more: object) -> CrashReport:
    return (await analyze_core(core, executable=None, settings=GdbSettings(), **more)).report  # type: ignore[arg-type]


def main_of(report: CrashReport) -> Module:
    return next(module for module in report.modules if module.filename.endswith("/shop"))


def build_id_of(path: Path) -> str:
    notes = subprocess.run(["readelf", "-n", str(path)], check=True, capture_output=True, text=True).stdout
    return next(line.split()[-1] for line in notes.splitlines() if "Build ID" in line)


def by_build_id(folder: Path, build_id: str) -> Path:
    target = folder / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug"
    target.parent.mkdir(parents=True)
    return target


def debug_of(program: Path, target: Path) -> Path:
    subprocess.run(["objcopy", "--only-keep-debug", str(program), str(target)], check=True)
    return target


async def test_split_debug_information_gives_back_names_lines_and_variables(tmp_path: Path) -> None:
    core = crashing.core("offset", executable=crashing.stripped())
    bare = main_of(await report_of(core))
    assert (bare.build_id_match, bare.symbols, bare.debug_source) == ("exact", "none", "none")
    debug_of(crashing.program(), by_build_id(tmp_path, build_id_of(crashing.program())))
    report = await report_of(core, debug_dirs=[tmp_path])
    assert report.crash_line == f"{crashing.SOURCE}:{crashing.line_of('offset')}"
    assert (main_of(report).symbols, main_of(report).debug_source) == ("dwarf", "debug-dir")
    frame = report.threads[0].frames[0]
    assert frame.build_id_match == "exact"
    assert frame.args
    assert report.soft_errors == []


async def test_debug_information_of_another_build_is_refused(tmp_path: Path) -> None:
    """Under the right name lies the debug file of another build, as a careless copy would put it."""
    core = crashing.core("offset", executable=crashing.stripped())
    other = crashing.program("other-build", "-O1")
    debug_of(other, by_build_id(tmp_path, build_id_of(crashing.program())))
    report = await report_of(core, debug_dirs=[tmp_path])
    assert report.crash_line is None
    assert all(frame.function is None for frame in report.threads[0].frames if frame.in_app)
    assert main_of(report).debug_source == "none"
    assert any("of another build: not used" in text for text in report.soft_errors)


@pytest.mark.parametrize(("where", "whole"), [("bin", True), ("bin/.debug", True), ("debug", True), ("bin", False)])
async def test_a_debug_link_is_followed_when_its_checksum_is_right(where: str, whole: bool, tmp_path: Path) -> None:
    """A program without any build-id: name and checksum are all that there is."""
    built = crashing.program("linked", "-O0", "-Wl,--build-id=none")
    (tmp_path / "bin").mkdir()
    inside = str(tmp_path / "bin").lstrip("/") if where == "debug" else "."
    debug = tmp_path / where / inside / "shop.debug"
    debug.parent.mkdir(parents=True, exist_ok=True)
    debug_of(built, debug)
    program = tmp_path / "bin" / "shop"
    subprocess.run(["objcopy", "--strip-all", f"--add-gnu-debuglink={debug}", str(built), str(program)], check=True)
    if not whole:
        with debug.open("ab") as file:
            file.write(b"\0")
    report = await report_of(crashing.crash(program, ["null"], tmp_path / "run"), debug_dirs=[tmp_path / "debug"])
    assert main_of(report).build_id_match == "unchecked"
    assert main_of(report).symbols == ("dwarf" if whole else "none")
    if whole:
        assert report.crash_line == f"{crashing.SOURCE}:{crashing.line_of('null')}"
    else:
        assert report.crash_line is None
        assert any("another build: not used" in text for text in report.soft_errors)


async def test_what_dwz_moved_away_is_found_by_its_build_id(tmp_path: Path) -> None:
    if shutil.which("dwz") is None:
        pytest.skip("dwz not installed: apt-get install dwz")
    first, second = (tmp_path / name for name in ("first.debug", "second.debug"))
    debug_of(crashing.program(), first)
    debug_of(crashing.program("other-build", "-O1"), second)
    shared = tmp_path / "shared.debug"
    subprocess.run(["dwz", "-m", str(shared), "-M", "/nowhere/shared.debug", str(first), str(second)], check=True)
    folder = tmp_path / "debug"
    shutil.copy(first, by_build_id(folder, build_id_of(crashing.program())))
    core = crashing.core("offset", executable=crashing.stripped())
    without = await report_of(core, debug_dirs=[folder])
    assert any("is not at hand" in text and build_id_of(shared) in text for text in without.soft_errors)
    shutil.copy(shared, by_build_id(folder, build_id_of(shared)))
    report = await report_of(core, debug_dirs=[folder])
    assert report.soft_errors == []
    assert report.crash_line == f"{crashing.SOURCE}:{crashing.line_of('offset')}"


async def test_absolute_links_in_an_unpacked_image_stay_inside_it(tmp_path: Path) -> None:
    """The image's program is reached by an absolute link; on this machine that link leads to another program."""
    core = crashing.core("null")
    program = str(crashing.program())
    stored = tmp_path / "opt" / "release-7" / "shop"
    stored.parent.mkdir(parents=True)
    shutil.copy(program, stored)
    link = tmp_path / program.lstrip("/")
    link.parent.mkdir(parents=True)
    link.symlink_to("/opt/release-7/shop")
    report = await report_of(core, sysroot=tmp_path)
    assert report.executable == str(stored)
    assert report.executable_match == "exact"
    link.unlink()
    link.symlink_to("../" * 40 + program.lstrip("/"))  # up and out, to the very program: but there is no outside
    outside = await report_of(core, sysroot=tmp_path)
    assert outside.executable is None


async def test_a_program_without_a_build_id_is_not_the_one_that_had_one(tmp_path: Path) -> None:
    core = crashing.core("null")
    target = tmp_path / str(crashing.program()).lstrip("/")
    target.parent.mkdir(parents=True)
    shutil.copy(crashing.program("linked", "-O0", "-Wl,--build-id=none"), target)
    report = await report_of(core, sysroot=tmp_path)
    assert report.executable is None
    assert any("is another build than the one that crashed" in text for text in report.soft_errors)


@pytest.mark.parametrize("right", [True, False])
async def test_a_library_whose_first_page_is_not_in_the_core_is_still_told(right: bool, tmp_path: Path) -> None:
    """As with coredump_filter 0x23: no ELF header of libc, so no build-id; its dynamic section was dumped."""
    whole = crashing.core("abort")
    with CoreFile(whole) as opened:
        libc = next(mapped for mapped in opened.files if "libc.so" in mapped.path)
        at = opened.memory.file_offset(libc.start)
    if at is None:
        pytest.skip("this core holds no first pages of libraries anyway")
    core = crashing.changed(whole, tmp_path / "core", lambda data: data.__setitem__(slice(at, at + 64), bytes(64)))
    other = Path("/usr/bin/env") if not right else Path(libc.path)
    for path, content in ((str(crashing.program()), crashing.program()), (libc.path, other)):
        target = tmp_path / "root" / path.lstrip("/")
        target.parent.mkdir(parents=True)
        shutil.copy(content, target)
    report = await report_of(core, sysroot=tmp_path / "root")
    module = next(module for module in report.modules if module.filename == libc.path)
    assert module.build_id is None
    assert module.build_id_match == ("unchecked" if right else "mismatch")
    assert (
        any(frame.function == "raise" or "abort" in (frame.function or "") for frame in report.threads[0].frames)
        is right
    )
