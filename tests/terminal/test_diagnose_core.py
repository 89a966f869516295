"""`paramedic diagnose core` as a process: what is on stdout, on stderr, and the exit status."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from incidents.models import Diagnosis
from tests.standins import crashing
from tests.standins.command import paramedic

pytestmark = pytest.mark.gdb


def run(*arguments: object, afresh: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
    crashing.require_tools()
    environment = {**os.environ, "COLUMNS": "200", **environment}
    return paramedic("diagnose", "core", *arguments, environment=environment, afresh=afresh)


def test_people_read_signal_place_mechanism_source_and_evidence() -> None:
    done = run(crashing.core("thread"))
    assert done.returncode == 0, done.stderr
    out = done.stdout
    line = crashing.line_of("thread")
    assert "SIGSEGV / SEGV_MAPERR in shop" in out
    assert "null pointer dereference: write of 4 bytes at address 0x18" in out
    assert f"→ {line:5}     static_cast<Order*>(order)->amount = 1;" in out
    assert "#0  Shop::work(order=0x0)" in out
    assert "5 threads in" in out
    lines = out.splitlines()
    marked = next(index for index, text in enumerate(lines) if text.startswith("→"))
    assert lines[marked + 1].index("^^^^^") == lines[marked].index("order)")
    assert "Shop::idle" in out
    assert "gdb -stack-list-frames --thread 1" in out
    assert "core note NT_SIGINFO at offset" in out
    assert "\x1b" not in out


def test_json_is_one_document_and_nothing_else() -> None:
    done = run(crashing.core("assert"), "--json", afresh=True)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    diagnosis = Diagnosis.model_validate(document)
    assert document["causes"][0]["class"] == "assertion"
    assert document["crash"]["crash_info"]["assertion"].endswith("failed.")
    assert diagnosis.signature == "SIGABRT | Shop::check | main"


def test_unknown_is_an_answer_with_status_1() -> None:
    done = run(crashing.core("self"), "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["status"] == "unknown"


def test_unusable_input_is_one_line_with_status_2(tmp_path: Path) -> None:
    text = tmp_path / "core"
    text.write_text("Segmentation fault\n")
    other = crashing.program("other-build", "-O1")
    for arguments, words in (
        ([text], "not a core dump"),
        ([crashing.core("null"), "--exe", other], "not the program that crashed"),
        ([other], "is a program or library, not a core dump: name the core that it left"),
        ([other, "--exe", crashing.core("null")], "core and executable are swapped"),
        ([crashing.core("null"), "--sysroot", text], "--sysroot"),
        ([tmp_path / "a\x1b[31m\nb"], "does not exist"),
    ):
        done = run(*arguments, "--json")
        assert done.returncode == 2, (arguments, done)
        assert done.stdout == ""
        assert words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert "\x1b" not in done.stderr


def test_text_of_the_crashed_program_cannot_steer_the_terminal(tmp_path: Path) -> None:
    """The same length of message, with an escape sequence and rich's markup in it."""
    message = b"connection refused: 10.0.0.3:5432"
    hostile = b"\xe2\x80\xae[bold]red[/x] \xc2\x9b31m \x1b[31m"

    def change(data: bytearray) -> None:
        data[:] = data.replace(message, hostile.ljust(len(message), b"!"))

    core = crashing.changed(crashing.core("exception"), tmp_path / "core", change)
    done = run(core)
    assert done.returncode == 0, done.stderr
    assert "[bold]red[/x]" in done.stdout
    assert "\x1b" not in done.stdout
    assert "\x9b" not in done.stdout
    assert "\u202e" not in done.stdout


def test_settings_of_the_machine_are_used(tmp_path: Path) -> None:
    done = run(crashing.core("null"), "--json", PARAMEDIC_GDB__PROGRAM="no-such-gdb")
    assert done.returncode == 3
    assert "apt-get install gdb" in done.stderr


def test_a_core_of_another_machine_still_has_its_notes(tmp_path: Path) -> None:
    if shutil.which("gdb-multiarch"):
        pytest.skip("gdb-multiarch is installed: nothing is missing here")
    core = crashing.changed(crashing.core("null"), tmp_path / "core", lambda data: data.__setitem__(18, 183))
    done = run(core, "--json")
    crash = json.loads(done.stdout)["crash"]
    assert crash["architecture"] == "aarch64"
    assert crash["status"] == "PARTIAL"
    assert any("apt-get install gdb-multiarch" in error for error in crash["soft_errors"])
    assert crash["crash_info"]["si_code_name"] == "SEGV_MAPERR"
    assert len(crash["modules"]) > 3


def test_a_packed_core_brings_its_executable_along(tmp_path: Path) -> None:
    """On a machine that has neither: the archive's program is the one by its build-id, and nothing is left behind."""
    crashing.require_tools()
    program = tmp_path / "gone"
    shutil.copy(crashing.program(), program)
    core = crashing.crash(program, ["null"], tmp_path / "run")
    archive = tmp_path / "crash.tar.xz"
    with tarfile.open(archive, "w:xz", preset=0) as packed:
        packed.add(core, "../../core")
        packed.add(program, "bin/gone")
    program.unlink()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = run(archive, "--json", TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    crash = json.loads(done.stdout)["crash"]
    assert crash["core"]["compression"] == "tar+xz"
    assert crash["core"]["size"] == core.stat().st_size
    assert 0 < crash["core"]["size_allocated"] <= core.stat().st_size
    assert crash["executable_match"] == "exact"
    assert crash["threads"][0]["frames"][0]["function"] == "Shop::read_null"
    assert list(temporary.iterdir()) == []


def test_a_recursion_is_one_line_and_the_place_where_it_began_is_listed() -> None:
    out = run(crashing.core("overflow")).stdout
    assert "rounds" in out
    assert sum("Shop::descend(" in line for line in out.splitlines() if line.startswith("  #")) < 6
    assert "main() at" in out


def test_a_ticket_holds_the_report_and_no_markup_of_the_program(tmp_path: Path) -> None:
    done = run(crashing.core("exception"), "--format", "markdown")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# SIGABRT")
    assert "connection refused" in done.stdout
    assert "## Crashed thread" in done.stdout
    assert "::" in done.stdout


def test_code_scanning_gets_a_place_and_fingerprints() -> None:
    document = json.loads(run(crashing.core("null"), "--format", "sarif").stdout)
    assert document["version"] == "2.1.0"
    (run_,) = document["runs"]
    (result,) = run_["results"]
    assert result["ruleId"] == run_["tool"]["driver"]["rules"][0]["id"]
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == f"file://{crashing.SOURCE}"
    assert place["region"]["startLine"] == crashing.line_of("null")
    assert result["partialFingerprints"]["signature/v1"] == "SIGSEGV | Shop::read_null | main"


def test_casr_gets_its_fields() -> None:
    document = json.loads(run(crashing.core("null"), "--format", "casrep").stdout)
    assert document["CrashSeverity"]["ShortDescription"] == "SourceAvNearNull"
    assert document["CrashLine"].endswith(f":{crashing.line_of('null')}")
    assert "Shop::read_null" in document["Stacktrace"][0]
    assert isinstance(document["Registers"]["rip"], int)
