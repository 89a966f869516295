"""gdb and hostile input: nothing of theirs runs, nothing of ours is reachable, nothing goes on for ever."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from errors import ToolMissing, UnusableCore
from incidents.models import CauseClass
from settings import GdbSettings
from tests.standins import crashing
from tests.standins.core_mutations import mutate
from tools.gdb.analysis import analyze_core
from tools.gdb.opened import opened_core
from tools.gdb.sandbox import launch
from tools.gdb.session import OPTIONS, GdbStopped, open_session

pytestmark = pytest.mark.gdb
MODES = ["rlimits", pytest.param("bubblewrap", marks=pytest.mark.skipif(not shutil.which("bwrap"), reason="no bwrap"))]


async def report_of(core: Path, settings: GdbSettings):  # type: ignore[no-untyped-def]
    try:
        return (await analyze_core(core, executable=None, settings=settings)).report
    except ToolMissing as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("mode", MODES)
async def test_scripts_beside_or_inside_the_program_do_not_run(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """.gdbinit here and at home, PROGRAM-gdb.gdb and PROGRAM-gdb.py beside it, .debug_gdb_scripts in it."""
    canary = tmp_path / "canary"
    home = tmp_path / "home"
    home.mkdir()
    program = tmp_path / "shop"
    python = f"import pathlib; pathlib.Path({str(canary)!r}).touch()\n"
    command = f"shell touch {canary}\n"
    script = tmp_path / "inline.txt"
    script.write_bytes(b"\x04" + b"canary.py\n" + python.encode() + b"\0")  # SECTION_SCRIPT_ID_PYTHON_TEXT
    section = f".debug_gdb_scripts={script}"
    subprocess.run(["objcopy", "--add-section", section, str(crashing.program()), str(program)], check=True)
    for path in (tmp_path / ".gdbinit", home / ".gdbinit", tmp_path / "shop-gdb.gdb"):
        path.write_text(command)
    (tmp_path / "shop-gdb.py").write_text(python)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    core = crashing.crash(program, ["null"], tmp_path / "run")
    report = await report_of(core, GdbSettings(sandbox=mode))  # type: ignore[arg-type]
    assert report.executable == str(program)
    assert report.crash_line is not None
    assert not canary.exists()
    # the trap is real: a careless gdb falls into it
    careless = ["gdb", "-batch", "-iex", "set auto-load safe-path /", str(program), str(core)]
    subprocess.run(careless, check=False, capture_output=True, timeout=60)
    assert canary.exists()


@pytest.mark.skipif(not shutil.which("bwrap"), reason="no bwrap")
async def test_a_taken_over_gdb_sees_only_the_case(tmp_path: Path) -> None:
    """As if a core had made gdb run code: the sandbox has no home, no configuration, no network, no other process."""
    settings = GdbSettings(sandbox="bubblewrap")
    probe = (
        "import os, socket; "
        "print('ROOT', sorted(os.listdir('/'))); "
        "print('SEEN', [os.path.exists(path) for path in ('/etc/passwd', '/root', '/home', '/proc/1', '/var')]); "
        "print('ENV', 'PARAMEDIC_CANARY' in os.environ); "
        "print('NET', len(socket.if_nameindex()))"
    )
    os.environ["PARAMEDIC_CANARY"] = "secret"
    try:
        async with opened_core(crashing.core("null"), executable=None) as opened:
            try:
                start = await launch(opened.case, settings, tmp_path, OPTIONS)
            except ToolMissing as error:
                pytest.skip(str(error))
            async with open_session(start, 1 << 20) as session:
                deadline = asyncio.get_running_loop().time() + 60
                (answer,) = await session.run([f'-interpreter-exec console "python {probe}"'], deadline)
    finally:
        del os.environ["PARAMEDIC_CANARY"]
    assert answer.ok, answer
    assert "SEEN [False, False, False, False, False]" in answer.console
    assert "ENV False" in answer.console
    assert "NET 1" in answer.console  # its own loopback
    root = answer.console.split("ROOT ")[1].split("\n")[0]
    assert "case" in root
    assert not {"home", "root", "etc/passwd", "work", "var"} & set(root.strip("[]").replace("'", "").split(", "))


async def test_both_ways_of_running_say_the_same() -> None:
    core = crashing.core("exception")
    contained = await report_of(core, GdbSettings(sandbox="auto"))
    bare = await report_of(core, GdbSettings(sandbox="rlimits"))
    assert contained == bare


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (GdbSettings(output_bytes=2000), "wrote more than is read"),
        (GdbSettings(memory_bytes=48 << 20), "ended by itself"),
    ],
    ids=["output", "memory"],
)
async def test_a_limit_leaves_a_partial_report(settings: GdbSettings, words: str) -> None:
    report = await report_of(crashing.core("null"), settings)
    assert report.status == "PARTIAL"
    assert any(words in text for text in report.soft_errors)
    assert report.cause_class == CauseClass.NULL_DEREFERENCE
    assert report.threads[0].frames[0].module_offset is not None


async def test_a_limit_that_fits_less_is_met_by_asking_for_less() -> None:
    """All frames with arguments and locals do not fit into this output; the crashing thread alone does."""
    report = await report_of(crashing.core("overflow"), GdbSettings(output_bytes=15_000))
    assert report.status == "PARTIAL"
    assert any("asked again for less" in text for text in report.soft_errors)
    assert report.threads[0].frames[0].function == "Shop::descend"


async def test_a_gdb_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    mark = str(random.randrange(10**6, 10**7))
    fake = tmp_path / "gdb"
    fake.write_text(f"#!/bin/sh\nsleep {mark} &\nwait\n")
    fake.chmod(0o755)
    settings = GdbSettings(program=str(fake), sandbox="rlimits", deadline=2.0)
    asked = asyncio.ensure_future(report_of(crashing.core("null"), settings))
    while not _running(mark):  # it does start
        await asyncio.sleep(0.02)
    report = await asked
    assert report.status == "PARTIAL"
    assert sum("in time" in text for text in report.soft_errors) == 2  # asked again, for the least
    assert not _running(mark)


def _running(mark: str) -> list[str]:
    return [pid for pid in os.listdir("/proc") if pid.isdigit() and mark in _command(pid)]


def _command(pid: str) -> str:
    try:
        return Path("/proc", pid, "cmdline").read_text()
    except OSError:
        return ""


async def test_answers_belong_to_their_commands_and_a_dead_gdb_gives_what_it_had(tmp_path: Path) -> None:
    async with opened_core(crashing.core("null"), executable=None) as opened:
        start = await launch(opened.case, GdbSettings(), tmp_path, OPTIONS)
        async with open_session(start, 1 << 20) as session:
            deadline = asyncio.get_running_loop().time() + 60
            commands = [f"-data-evaluate-expression {number}*3" for number in range(300)] + ["-no-such-command"]
            answers = await session.run(commands, deadline)
            assert [answer.payload.get("value") for answer in answers[:300]] == [str(n * 3) for n in range(300)]
            assert not answers[300].ok
            with pytest.raises(GdbStopped) as stopped:
                await session.run(["-data-evaluate-expression 1", "-gdb-exit", "-data-evaluate-expression 2"], deadline)
            assert stopped.value.answers[0] is not None
            assert stopped.value.answers[2] is None


@pytest.mark.parametrize("seeds", [range(3), pytest.param(range(3, 24), marks=pytest.mark.generated)], ids=str)
async def test_damaged_cores_through_gdb(seeds: range, tmp_path: Path) -> None:
    """Some of the mutations that the readers are tested with, all the way: an answer or one clear refusal."""
    if not crashing.kernel_writes_cores():
        pytest.skip("the mutations know the layout of a core that the kernel wrote")
    original = crashing.core("null")
    for seed in seeds:
        path = crashing.changed(original, tmp_path / "core", lambda data, seed=seed: mutate(data, random.Random(seed)))
        with contextlib.suppress(UnusableCore):
            analysis = await analyze_core(path, executable=None, settings=GdbSettings(deadline=60))
            assert analysis.diagnosis.causes
