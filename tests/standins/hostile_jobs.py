"""Jobs as a parser that was taken over by a hostile core would run them: a program, asked and answering in JSON.

It registers its own jobs with the worker's server, which is forked off it, and runs them from the trusted end, one
after the other.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from settings import GdbSettings
from tools.gdb import contained, server, worker

SECRET = "PARAMEDIC_CANARY"


def _tries(what: Callable[[], object]) -> str:
    try:
        return f"done: {what()}"
    except OSError as error:
        return f"refused: {type(error).__name__}"


async def look_around(arguments: dict[str, Any], answer: worker.Answering) -> None:
    """What a confined process sees, and what it can still do."""
    core = Path(arguments["core"])
    libc = ctypes.CDLL(None, use_errno=True)
    found = {
        "root": _tries(lambda: sorted(os.listdir("/"))),
        "seen": {path: os.path.exists(path) for path in arguments["looked_for"]},
        "environment": sorted(os.environ),
        "network": _tries(lambda: [name for _, name in socket.if_nameindex()]),
        "connect": _tries(lambda: socket.create_connection(("127.0.0.1", arguments["port"]), 1)),
        "processes": os.getpid(),
        "capabilities": _capabilities(libc),
        "core": core.open("rb").read(4).decode("latin-1"),
        "write_core": _tries(lambda: core.open("r+b").close()),
        "write_root": _tries(lambda: Path("/paramedic-new").open("wb").close()),
        "write_beside": _tries(lambda: core.with_name("new").open("wb").close()),
        "read_secret": _tries(lambda: Path(arguments["secret"]).read_text()),
        "unshare": _tries(lambda: _check(libc.unshare(0x10000000 | 0x00020000), libc)),
        "mount": _tries(lambda: _check(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None), libc)),
        "chroot": _tries(lambda: os.chroot("/tmp")),
        "big_file": _tries(lambda: _write(Path(tempfile.gettempdir(), "big"), 17 << 20)),
        "handles": [number for number in range(3, 64) if _is_open(number)],
    }
    answer.send(b"r", json.dumps(found).encode())


async def hang(arguments: dict[str, Any], answer: worker.Answering) -> None:
    """Never answers, and has children that no ordinary signal ends."""
    for _ in range(3):
        subprocess.Popen(["/bin/sh", "-c", f"trap '' TERM HUP INT; sleep {arguments['mark']}"], start_new_session=True)
    answer.progress("started")
    time.sleep(600)


async def flood(arguments: dict[str, Any], answer: worker.Answering) -> None:
    for _ in range(100_000):
        answer.send(b"p", b"\x1b[31m" + b"x" * (1 << 16))


async def eat(arguments: dict[str, Any], answer: worker.Answering) -> None:
    held = []
    while True:
        held.append(bytes(64 << 20))


async def spin(arguments: dict[str, Any], answer: worker.Answering) -> None:
    while True:
        pass


async def lie(arguments: dict[str, Any], answer: worker.Answering) -> None:
    answer.send(b"r", b'{"diagnosis": {"status": "diagnosed", "causes": "everything is fine"}, "whole": {}}')


async def shout(arguments: dict[str, Any], answer: worker.Answering) -> None:
    answer.send(b"e", json.dumps({"error": "SystemExit", "message": "\x1b]0;owned\x07"}).encode())


async def ask_for_secrets(arguments: dict[str, Any], answer: worker.Answering) -> None:
    """Names files as if the core had named them; then says which it was given."""
    if not arguments["declared"]:
        answer.send(b"n", json.dumps(arguments["looked_for"]).encode())
        return
    seen = {path: os.path.exists(path) for path in arguments["looked_for"]}
    answer.send(b"r", json.dumps(seen).encode())


def _capabilities(libc: Any) -> list[int]:
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    libc.capget(header, data)
    return list(data)


def _check(result: int, libc: Any) -> str:
    if result != 0:
        raise OSError(ctypes.get_errno(), "refused")
    return "0"


def _write(path: Path, count: int) -> int:
    try:
        return path.write_bytes(bytes(count))
    finally:
        path.unlink(missing_ok=True)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


async def _main(job: str, core: Path, settings: GdbSettings, more: dict[str, Any]) -> dict[str, Any]:
    said: list[str] = []
    try:
        found = await contained.run(contained.Request(job, core, settings, progress=said.append, more=more))
        return {"result": json.loads(found), "progress": said[:3]}
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error), "progress": said[:3]}


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    names = ("look_around", "hang", "flood", "eat", "spin", "lie", "shout", "ask_for_secrets")
    worker.JOBS |= {name: f"{__name__}:{name}" for name in names}
    os.environ[SECRET] = "secret"
    kept_open = os.open(__file__, os.O_RDONLY)  # a handle of the service
    contained._EXTRA_SECONDS = 0.0
    server.prepare()
    answers = {}
    for name, (job, asked, more) in given["jobs"].items():
        answers[name] = asyncio.run(_main(job, Path(given["core"]), GdbSettings(**asked), more))
    print(json.dumps(answers))
    server.finish()
