"""Secrets of the crashed process's start, and of its variables, are in nothing that is told of its core."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.process_secrets import ProcessSecrets
from diagnosis.redaction import redact_literals
from settings import GdbSettings
from tests.standins import crashing
from tools.gdb.analysis import analyze_core
from tools.gdb.queries import run_query

pytestmark = pytest.mark.gdb
WORD, ARGUMENT, HOST = "canary-env-9d8c7b6a", "canary-argv-1122aabb", "canary-url-77ff"


async def test_a_core_with_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crashing.require_tools()
    monkeypatch.setenv("DB_PASSWORD", WORD)
    monkeypatch.setenv("QUEUE_URL", f"amqp://shop:{HOST}@queue/1")
    monkeypatch.setenv("SHORT_TOKEN", "on")
    monkeypatch.setenv("OTHER_PASSWORD", "libc.so")  # as `postgres` is one of PostgreSQL
    monkeypatch.setenv("WEAK_PASSWORD", "session")
    program = tmp_path / "leak"
    source = Path(crashing.__file__).with_name("leaking.c")
    subprocess.run(["gcc", "-g", "-O0", "-Wl,--build-id", "-o", program, source], check=True, timeout=60)
    core = crashing.crash(program, ["--api-key", ARGUMENT, f"--token={ARGUMENT}2"], tmp_path / "run")
    with CoreFile(core) as opened:
        secrets = ProcessSecrets.of(opened)
    assert set(secrets.values) >= {word.encode() for word in (WORD, ARGUMENT, f"{ARGUMENT}2", HOST)}
    assert b"on" not in secrets.values and str(Path.cwd()).encode() not in secrets.values
    assert secrets.words == {b"libc.so", b"session"}
    settings = GdbSettings()
    found = await analyze_core(core, executable=program, settings=settings)
    whole = found.diagnosis.model_dump_json() + str(found.whole)
    assert "password=0x" in whole and "[redacted]" in whole, "the pointer stays"
    for name, args in (("locals", {"frame": 0}), ("locals", {"frame": 1}), ("backtrace", {})):
        whole += await run_query(
            name,
            dict(args),
            core=core,
            executable=program,
            settings=settings,
            sysroot=None,
            debug_dirs=(),
            executable_dirs=(),
        )
    assert "libc.so" in whole and "struct session" in whole
    for word in (WORD, ARGUMENT, HOST):
        assert word not in whole, word


def test_pieces_at_the_edges_of_memory_that_is_shown() -> None:
    secrets = ProcessSecrets((b"canary-0123456789",))
    assert secrets.hide_bytes(b"..canary-0123456789..") == b".." + b"*" * 17 + b".."
    assert secrets.hide_bytes(b"456789..canary-012") == b"*" * 6 + b".." + b"*" * 10
    assert secrets.hide_bytes(b"789..can") == b"789..can", "too little to be known by"
    assert secrets.hide_bytes(b"") == b""


@pytest.mark.parametrize(
    ("name", "shown", "told"),
    [
        ("password", '0x7ffd9e1b "x-canary"', '0x7ffd9e1b "[redacted]"'),
        ("token", "0x0", "0x0"),
        ("s", '{token = 0x55 "a\\"canary", hits = 0, name = ""}', '{token = 0x55 "[redacted]", hits = 0, name = ""}'),
        ("h", '"Authorization: Bearer abcdefgh"...', '"Authorization: [redacted]"...'),
        ("v", '{"a", "AKIAABCDEFGHIJKLMNOP"}', '{"a", "[redacted]"}'),
        ("name", '"cut off', '"cut off"'),
    ],
)
def test_values_of_variables(name: str, shown: str, told: str) -> None:
    assert redact_literals(name, shown) == told
