"""The process that forks confined jobs, from the service's side: started when first needed, again when it is gone."""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from errors import ToolFailed
from tools.gdb.worker import ENVIRONMENT, serve

_ROOT = Path(__file__).parents[2]


class Server:
    """The process that forks jobs: started at the first one, again when it is gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._forked: int | None = None

    def start_job(self, connection: socket.socket) -> None:
        """Hand `connection` to a new job. Blocking. Raises ToolFailed when no server can be started."""
        with self._lock:
            for attempt in range(2):
                if self._control is None:
                    self._start()
                assert self._control is not None
                try:
                    socket.send_fds(self._control, [b"j"], [connection.fileno()])
                    return
                except OSError:
                    self.stop()
                    if attempt:
                        raise ToolFailed("the process that analyses cores cannot be started") from None

    def fork(self) -> None:
        """Become the server's parent by a fork: only while this process has one thread and no event loop."""
        with self._lock:
            if self._control is not None or threading.active_count() != 1:
                return
            self._control, theirs = socket.socketpair()
            self._forked = os.fork()
            if self._forked == 0:
                self._control.close()
                try:
                    serve(theirs)
                finally:  # nothing of the command line's own is run at the end of this process
                    os._exit(1)
            theirs.close()

    def _start(self) -> None:
        self._control, theirs = socket.socketpair()
        code = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from tools.gdb.worker import main; main()"
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", code],
                stdin=theirs.fileno(),
                env=ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            self._control = None
            raise ToolFailed(f"the process that analyses cores cannot be started: {error}") from None
        finally:
            theirs.close()

    def stop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            self._process = None
        if self._forked is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._forked, 0)
            self._forked = None


server = Server()
atexit.register(server.stop)


def finish() -> None:
    """End the server; what it and all jobs took is then counted with this process's children (getrusage). Blocking."""
    server.stop()


def prepare() -> None:
    """Fork the server off this process, which has everything imported. For a command line, before its event loop."""
    server.fork()
