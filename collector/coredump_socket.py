"""The kernel's coredump socket: cores come as streams to the agent itself (Linux 6.16 and later, core(5)).

With `kernel.core_pattern` set to `@/path/of/socket` the kernel connects for every crash, the peer being the dying
process, and sends its core. It holds the process until we close the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog

from collector.dying import describe, keep

_CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid
_TIMEOUT = struct.Struct("2l")  # struct timeval
_STALLED = 60
_MOST = 8
_PIECE = 64 << 10  # about what such a socket holds: the kernel fills it again while this is written

log = structlog.get_logger(__name__)


class CoredumpSocket:
    """Receives cores into `root`/.incoming, at most eight at once: the others' processes wait."""

    def __init__(self, path: Path, root: Path, proc: Path) -> None:
        self._path, self._root, self._proc = path, root, proc
        # threads of its own: a core that comes slowly must not take those that the rest of the agent needs
        self._threads = ThreadPoolExecutor(_MOST, "coredump-socket")
        self._receiving: set[asyncio.Task[None]] = set()

    async def serve(self, stop: asyncio.Event) -> None:
        """Receive until `stop` is set; what is being received then is still finished. Raises OSError (no socket)."""
        with contextlib.closing(self._listen()) as listener:
            loop = asyncio.get_running_loop()
            stopped = asyncio.create_task(stop.wait())
            while not stop.is_set():
                coming = asyncio.ensure_future(loop.sock_accept(listener))
                await asyncio.wait({coming, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    coming.cancel()
                    break
                connection, _ = coming.result()
                task = asyncio.create_task(self._receive(connection))
                self._receiving.add(task)
                task.add_done_callback(self._receiving.discard)
            stopped.cancel()
        await asyncio.gather(*self._receiving, return_exceptions=True)
        self._threads.shutdown()
        self._path.unlink(missing_ok=True)

    def _listen(self) -> socket.socket:
        """Only root may connect: whoever could would have other programs' cores made up."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listener.bind(str(self._path))
        finally:
            os.umask(before)
        listener.listen(64)
        listener.setblocking(False)
        return listener

    async def _receive(self, connection: socket.socket) -> None:
        with contextlib.closing(connection):
            peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            pid = _CREDENTIALS.unpack(peer)[0]
            try:
                loop = asyncio.get_running_loop()
                name = await loop.run_in_executor(self._threads, self._keep, connection, pid)
            except OSError as error:
                log.warning("a core was not kept whole", pid=pid, error=error.strerror or str(error))
            else:
                log.info("a core came through the socket", pid=pid, name=name)

    def _keep(self, connection: socket.socket, pid: int) -> str:
        connection.setblocking(True)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEOUT.pack(_STALLED, 0))
        told = {**describe(pid, str(self._proc)), "time": int(time.time())}
        return keep(str(self._root), told, from_socket(connection), _PIECE)


def from_socket(connection: socket.socket) -> Callable[[memoryview], int]:
    """The kernel sends page by page: it is left to it to wait until the memory is full."""

    def read(view: memoryview) -> int:
        filled = 0
        while filled < len(view) and (came := connection.recv_into(view[filled:], 0, socket.MSG_WAITALL)):
            filled += came
        return filled

    return read
