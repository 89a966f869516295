"""A parser that is taken over, hangs, floods, lies or dies: what it reaches, and what is left of it."""

from __future__ import annotations

import ctypes
import json
import os
import random
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from settings import GdbSettings
from tests.standins import crashing, hostile_jobs
from tools.gdb.analysis import analyze_core

pytestmark = [pytest.mark.gdb, pytest.mark.timeout(300)]  # the first test waits for all jobs
ROOT = Path(__file__).parents[3]
NAMESPACES = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], check=False).returncode == 0
LANDLOCK = ctypes.CDLL(None).syscall(444, None, 0, 1) > 0
confined_only = pytest.mark.skipif(not NAMESPACES, reason="no namespaces may be made here: run in a privileged place")


LOOKED_FOR = ["/etc/passwd", "/proc/self", "/sys/kernel", "/home", "/var", str(ROOT / "README.md"), "/opt"]
MARKS = {sandbox: f"{random.randrange(10**6, 10**7)}" for sandbox in ("auto", "rlimits")}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Paths of what is no program."""
    folder = tmp_path_factory.mktemp("secrets")
    key = folder / "id_rsa"
    key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----")
    link = folder / "link"
    link.symlink_to(key)
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    core = crashing.core("exception")
    machine = ["/etc/shadow", "/proc/self/environ", "/dev/kmsg", f"{folder}/../x"]
    return [*machine, *map(str, (core, key, link, pipe))]


@pytest.fixture(scope="module")
def answers(secrets: list[str]) -> dict[str, dict[str, Any]]:
    """All jobs, in a program of its own whose server is forked off it."""
    busy = {"cpu_seconds": 1}
    with socket.create_server(("127.0.0.1", 0)) as listening:
        reach = {"port": listening.getsockname()[1]}
        jobs: dict[str, tuple[str, dict[str, object], dict[str, object]]] = {
            "bare": ("look_around", {"sandbox": "rlimits"}, {"looked_for": [], "secret": secrets[-3], **reach}),
            "hang rlimits": ("hang", {"deadline": 4, "sandbox": "rlimits"}, {"mark": MARKS["rlimits"]}),
            **{name: (name, busy, {}) for name in ("flood", "eat", "spin", "shout")},
        }
        if NAMESPACES:
            jobs |= {
                "confined": ("look_around", {}, {"looked_for": LOOKED_FOR, "secret": "/etc/passwd", **reach}),
                "hang auto": ("hang", {"deadline": 4, "sandbox": "auto"}, {"mark": MARKS["auto"]}),
                "secrets": ("ask_for_secrets", {}, {"looked_for": [*secrets, str(crashing.program())]}),
            }
        request = {"jobs": jobs, "core": str(crashing.core("null"))}
        command = [sys.executable, "-m", "tests.standins.hostile_jobs", json.dumps(request)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    answers: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return answers


@confined_only
def test_a_taken_over_parser_sees_the_case_and_can_do_nothing(answers: dict[str, dict[str, Any]]) -> None:
    found = answers["confined"]["result"]
    assert found["seen"] == dict.fromkeys(LOOKED_FOR, False)
    assert found["core"] == "\x7fELF"
    assert hostile_jobs.SECRET not in found["environment"]
    assert found["network"] in ("done: []", "done: ['lo']")
    assert found["processes"] == 1
    assert found["capabilities"] == [0] * 6
    assert not crashing.core("null").with_name("new").exists()  # it may write in its own empty folder only
    refused = ("connect", "write_core", "write_root", "read_secret", "unshare", "mount", "chroot", "big_file")
    allowed = {name: found[name] for name in refused if not found[name].startswith("refused")}
    assert not allowed
    assert len(found["handles"]) <= 4  # its connection, and the event loop's own


def test_without_namespaces_there_is_still_no_network_and_no_way_to_more(answers: dict[str, dict[str, Any]]) -> None:
    """As in a pod that may make none: the filter of system calls is left, and Landlock where the kernel has it."""
    found = answers["bare"]["result"]
    refused = ["connect", "unshare", "mount", "chroot", "big_file"]
    if LANDLOCK:
        refused += ["write_core", "write_root", "write_beside", "read_secret"]
    assert not {name: found[name] for name in refused if not found[name].startswith("refused")}
    assert hostile_jobs.SECRET not in found["environment"]
    assert len(found["handles"]) <= 4


@pytest.mark.parametrize("sandbox", ["rlimits", pytest.param("auto", marks=confined_only)])
def test_a_parser_that_hangs_is_ended_with_all_that_it_started(
    answers: dict[str, dict[str, Any]], sandbox: str
) -> None:
    answer = answers[f"hang {sandbox}"]
    assert answer["error"] == "ToolTimeout"
    assert answer["progress"] == ["started"]
    assert not [pid for pid in os.listdir("/proc") if pid.isdigit() and MARKS[sandbox] in _command(pid)]


def _command(pid: str) -> str:
    try:
        return Path("/proc", pid, "cmdline").read_text()
    except OSError:
        return ""


def test_limits_end_a_parser_that_takes_too_much_and_what_it_says_is_checked(
    answers: dict[str, dict[str, Any]],
) -> None:
    flood, eat, spin, shout = (answers[name] for name in ("flood", "eat", "spin", "shout"))
    assert (flood["error"], "wrote more than" in flood["message"]) == ("WorkerDied", True)
    assert not any("\x1b" in text for text in flood["progress"])
    assert eat["error"] == "WorkerDied"
    assert (spin["error"], "SIGKILL" in spin["message"] or "SIGXCPU" in spin["message"]) == ("WorkerDied", True)
    assert (shout["error"], shout["message"]) == ("WorkerDied", "the worker's answer cannot be read")


@confined_only
def test_a_core_that_names_secrets_is_shown_programs_only(
    answers: dict[str, dict[str, Any]], secrets: list[str]
) -> None:
    assert answers["secrets"]["result"] == {**dict.fromkeys(secrets, False), str(crashing.program()): True}


async def test_a_parser_that_dies_is_asked_again_for_notes_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from tools.gdb import contained

    asked = []
    once = contained._once

    async def dying(document: bytes, deadline: float, progress: Any) -> tuple[bytes, bytes]:
        asked.append(json.loads(document)["arguments"]["effort"])
        if asked[-1] == "full":
            raise contained.WorkerDied("the worker ended by itself (SIGKILL)")
        return await once(document, deadline, progress)

    monkeypatch.setattr(contained, "_once", dying)
    report = (await analyze_core(crashing.core("double_free"), executable=None, settings=GdbSettings())).report
    assert asked[0] == "full"
    assert set(asked[1:]) == {"notes"}
    assert report.status == "PARTIAL"
    assert report.cause_class == "heap_corruption"
    assert any("SIGKILL" in text and "notes and memory alone" in text for text in report.soft_errors)
