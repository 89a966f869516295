"""The `paramedic` command, each call a process of its own, forked off one that has its imports done.

What a call reads and writes, its environment, its folder and how it ends are a real process's. Only the half second
that the imports take is paid once. With `afresh`, an interpreter is started, as it is for users.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]
_IMPORTED = ("cli", "settings", "tools.gdb.analysis", "tools.gdb.queries", "diagnosis.workloads.load", "rich.console")
"""Without these only: what a command imports besides, it imports itself, as ever."""


def paramedic(
    *arguments: object, environment: Mapping[str, str], folder: Path = ROOT, afresh: bool = False, timeout: float = 100
) -> subprocess.CompletedProcess[str]:
    """Like subprocess.run. Raises TimeoutExpired."""
    command = ["-c", *map(str, arguments)]
    if afresh:
        start = [sys.executable, "-c", "from cli import main; main()", *command[1:]]
        return subprocess.run(start, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout)
    order = {"command": command, "environment": dict(environment), "folder": str(folder)}
    ours, theirs = socket.socketpair()
    with ours, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with theirs:
            socket.send_fds(_server(), [b"c"], [theirs.fileno(), out.fileno(), err.fileno()])
        ours.settimeout(timeout)
        ours.sendall(json.dumps(order).encode() + b"\n")
        try:
            ended = ours.makefile().readline()
        except TimeoutError:
            raise subprocess.TimeoutExpired(command, timeout) from None
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, int(ended), out.read().decode(), err.read().decode())


@cache
def _server() -> socket.socket:
    ours, theirs = socket.socketpair()
    code = "from tests.standins.command import serve; serve()()"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=theirs)
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait(60)

    atexit.register(end)
    return ours


def serve() -> Callable[[], object]:
    """Fork for each order. Comes back in the processes that are forked alone, with what they shall do."""
    control = socket.socket(fileno=os.dup(0))
    for name in _IMPORTED:
        import_module(name)
    from cli import main

    while True:
        _, handles, _, _ = socket.recv_fds(control, 1, 3)
        if not handles:
            os._exit(0)
        child = os.fork()
        if child == 0:
            _become(json.loads(socket.socket(fileno=handles[0]).makefile().readline()), *handles[1:])
            return main
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(OSError), socket.socket(fileno=handles[0]) as answer:
            answer.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        for handle in handles[1:]:
            os.close(handle)


def _become(order: dict[str, object], out: int, err: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    for given, own in ((nothing, 0), (out, 1), (err, 2)):
        os.dup2(given, own)
    os.closerange(3, 64)
    environment, sys.argv = order["environment"], order["command"]  # type: ignore[assignment]
    os.environ.clear()
    os.environ.update(environment)  # type: ignore[call-overload]
    os.chdir(str(order["folder"]))
