"""The process that reads untrusted bytes: one for each core, confined, and ended with all that it started.

    service ─ server (this module; everything imported, reads nothing but our requests)
                └ one supervisor for each job: leaves the machine's namespaces, ends the job when the service is gone
                    └ the job: confined, parses the core, starts the debugger

The server is started once (see contained.py) and forks; a fork costs milliseconds where an interpreter with its
imports costs a third of a second. A job answers in frames (one letter, four bytes of length, that many bytes):
p progress, n needs (paths of files that it cannot see), r result, e error, x how it ended, written by the supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import stat
import struct
import tempfile
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn

from errors import ParamedicError, UnusableCore
from tools.gdb.confine import (
    Limits,
    View,
    adopt_orphans,
    die_with_parent,
    drop_privileges,
    enclose,
    limit,
    owner_of,
    separate,
)
from tools.gdb.landlock import allow_only
from tools.gdb.system_calls import filter_system_calls

JOBS = {
    "analyze": "tools.gdb.jobs:analyze",
    "query": "tools.gdb.jobs:query",
    "wanted": "tools.gdb.jobs:wanted",
    "unpack": "tools.gdb.jobs:unpack",
    "build_id": "tools.gdb.jobs:build_id",
    "index": "tools.gdb.jobs:index",
}
"""What can be asked: a function of the request's arguments and of `Answering`, in the module before the colon."""

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "TERM": "dumb"}
_FRAME = struct.Struct(">cI")
_MAX_REQUEST = 16 << 20
_POLL_SECONDS = 0.05


class Answering:
    """The job's end of the connection. What it writes is not believed by the other end before it is checked."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def progress(self, text: str) -> None:
        self.send(b"p", text.encode("utf-8", "replace")[:200])

    def send(self, kind: bytes, payload: bytes) -> None:
        self._connection.sendall(_FRAME.pack(kind, len(payload)) + payload)


Job = Callable[[dict[str, Any], Answering], Coroutine[Any, Any, None]]


def serve(control: socket.socket) -> NoReturn:
    """Fork a supervisor for each connection that comes over `control`; end when that is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the service decides when we end
    gc.disable()
    for name in (*JOBS.values(), "concurrent.futures.thread"):  # the last is what asyncio imports for its first thread
        importlib.import_module(name.partition(":")[0])
    gc.freeze()  # a collection in a child would copy every page
    while True:
        _, handles, _, _ = socket.recv_fds(control, 1, 1)
        if not handles:
            _reap(0)  # they end because their other side is gone; their CPU time is counted with ours
            os._exit(0)
        if os.fork() == 0:
            control.close()
            _supervise(socket.socket(fileno=handles[0]))
        os.close(handles[0])
        _reap(os.WNOHANG)


def _reap(options: int) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, options)[0]:
            pass


def _supervise(connection: socket.socket) -> NoReturn:
    """Start the job, wait for its end or for the other side to hang up, and leave nothing of it behind."""
    try:
        os.setsid()
        adopt_orphans()
        request = _request(connection)
        apart = request["sandbox"] != "rlimits" and separate()
        folder = None if apart else tempfile.mkdtemp(prefix="paramedic-job-")
        child = os.fork()
        if child == 0:
            _run(connection, request, apart, folder)
        status = _wait(connection, child, apart)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            connection.sendall(_FRAME.pack(b"x", len(status)) + status)
    except BaseException:
        os._exit(1)
    os._exit(0)


def _request(connection: socket.socket) -> dict[str, Any]:
    def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = connection.recv(min(count - len(data), 1 << 16))
            if not part:
                os._exit(0)
            data += part
        return data

    size = int.from_bytes(exactly(4), "big")
    if size > _MAX_REQUEST:
        os._exit(1)
    found: dict[str, Any] = json.loads(exactly(size))
    return found


def _wait(connection: socket.socket, child: int, apart: bool) -> bytes:
    """How `child` ended, as text. It is killed when the other side hangs up."""
    poller = select.poll()
    poller.register(connection, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
    timeout: float | None = _POLL_SECONDS * 1000
    with contextlib.suppress(AttributeError, OSError):  # pidfd_open: Linux 5.3
        poller.register(os.pidfd_open(child), select.POLLIN)
        timeout = None
    while True:
        events = poller.poll(timeout)
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if any(number == connection.fileno() for number, _ in events):
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            break
    if not apart:
        _end_orphans()
    code = os.waitstatus_to_exitcode(status)
    return (signal.Signals(-code).name if code < 0 else f"status {code}").encode()


def _end_orphans() -> None:
    """Without a process namespace: kill what the job left behind, generation by generation."""
    for _ in range(100):
        children = _children()
        if not children:
            return
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)


def _children() -> list[int]:
    own, found = os.getpid(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text()
            except OSError:
                continue
            if int(status.rpartition(")")[2].split()[1]) == own:
                found.append(int(entry.name))
    return found


def _run(connection: socket.socket, request: dict[str, Any], apart: bool, folder: str | None) -> NoReturn:
    """The confined process. `folder` is its own for temporary files, where it does not have all of them to itself."""
    code = 1
    gc.enable()
    try:
        answer = Answering(connection)
        _close_others(connection.fileno())
        enclosed = apart and _enclose(request)
        for path, identity in request["identities"].items():
            status = Path(path).stat()
            if [status.st_dev, status.st_ino] != identity:
                raise UnusableCore("the file was replaced by another while it was being opened")
        die_with_parent()
        os.environ.clear()
        os.environ.update({**ENVIRONMENT, "PATH": ":".join(request["path"])})
        limit(Limits(**request["limits"]), processes=enclosed)
        filtered = enclosed or request["sandbox"] == "rlimits" or not _bubblewrap_is_privileged()
        if filtered and not enclosed:
            tempfile.tempdir = folder or tempfile.mkdtemp(prefix="paramedic-job-")
            view = View(**request["view"])
            writable = [tempfile.tempdir, os.devnull, *([view.writable] if view.writable else [])]
            allow_only([*view.folders, *view.files.values(), "/dev/urandom"], writable)
        if filtered:
            filter_system_calls(network=apart)
        code = _work(request, answer, alone=enclosed or (filtered and request["sandbox"] != "bubblewrap"))
    except MemoryError:
        code = 3
    except UnusableCore as error:
        _fail(Answering(connection), "UnusableCore", str(error))
    except BaseException as error:
        with contextlib.suppress(Exception):
            _fail(Answering(connection), "ToolFailed", f"the worker could not start: {error}")
    finally:
        os._exit(code)


def _enclose(request: dict[str, Any]) -> bool:
    """See only the case; False where mounts are refused (AppArmor does so to user namespaces) and that is accepted."""
    view = View(**request["view"])
    owner = owner_of(Path(view.files[request["core"]]))
    try:
        enclose(view)
    except OSError:
        if request["sandbox"] == "bubblewrap":
            raise
        return False
    drop_privileges(owner)
    return True


def _bubblewrap_is_privileged() -> bool:
    """Installed set-uid, it can still contain gdb where we may make no namespaces; but not through the filter."""
    program = shutil.which("bwrap")
    return program is not None and bool(Path(program).stat().st_mode & stat.S_ISUID)


def _work(request: dict[str, Any], answer: Answering, *, alone: bool) -> int:
    """Do the job. `alone`: the debugger needs no further sandbox, or cannot have one."""
    module, _, name = JOBS[request["job"]].partition(":")
    job: Job = getattr(importlib.import_module(module), name)
    try:
        asyncio.run(job({**request["arguments"], "alone": alone}, answer))
    except ParamedicError as error:
        _fail(answer, type(error).__name__, str(error))
    except MemoryError:
        return 3
    except Exception as error:
        # of a failure of ours, names of our own code: a message could quote the core
        steps = traceback.extract_tb(error.__traceback__)[-3:]
        where = " < ".join(f"{Path(step.filename).name}:{step.lineno} {step.name}" for step in reversed(steps))
        _fail(answer, "ToolFailed", f"the analysis failed ({type(error).__name__} in {where})")
    return 0


def _fail(answer: Answering, kind: str, message: str) -> None:
    answer.send(b"e", json.dumps({"error": kind, "message": message}).encode())


def _close_others(kept: int) -> None:
    """Handles of the service (a terminal, a database) are no business of a confined process."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    os.closerange(3, kept)
    os.closerange(kept + 1, 1 << 16)


def main() -> NoReturn:
    """The server as a program of its own; its standard input is the control socket."""
    serve(socket.socket(fileno=os.dup(0)))


if __name__ == "__main__":
    main()
