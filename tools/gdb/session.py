"""One gdb process spoken to through its machine interface, commands pipelined by token.

All commands are written at once and each answer is known by its token. gdb's exit status says nothing and is not looked
at, except to tell that a limit killed it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from errors import ToolFailed
from tools.gdb.mi import result_record, stream_text
from tools.gdb.sandbox import Launch
from tools.gdb.unread import Unread

OPTIONS = (
    "--interpreter=mi3", "-q", "-nx", "-nh",
    "-iex", "set auto-load off",
    "-iex", "set auto-load safe-path /nonexistent",
    "-iex", "set debuginfod enabled off",
    "-iex", "set libthread-db-search-path /nonexistent",
    "-iex", "maint set worker-threads 0",
    "-iex", "set source open off",
    "-iex", "set history save off",
    "-iex", "set confirm off",
    "-iex", "set pagination off",
    "-iex", "set width 0",
    "-iex", "set max-value-size 4096",
    "-iex", "set print elements 64",
    "-iex", "set print repeats 4",
    "-iex", "set print max-depth 3",
    "-iex", "set print frame-arguments scalars",
    "-iex", "set print asm-demangle on",
    "-iex", "set disassembly-flavor intel",
)  # fmt: skip
"""Nothing is loaded or run but what we ask for, and everything that is printed is bounded (reference: gdb manual)."""

_ANSWER = re.compile(rb"^(\d+)\^")
_INLINE_BYTES = 1 << 20
_LOG_LINES = 200
_MAX_LINE = 32 << 20


@dataclass(frozen=True)
class Answer:
    """What one command gave. `kind` is done, error, connected, running, exit, or garbled when it cannot be parsed."""

    command: str
    kind: str
    payload: dict[str, Any]
    console: str = ""

    @property
    def ok(self) -> bool:
        return self.kind in ("done", "connected")

    @property
    def message(self) -> str:
        return str(self.payload.get("msg", "")) or self.kind


class GdbStopped(ToolFailed):
    """gdb ended, or was ended, before it answered everything. `answers` are those that came, None for the others."""

    title = "gdb did not finish"

    def __init__(self, reason: str, answers: list[Answer | None]) -> None:
        super().__init__(f"gdb {reason}")
        self.reason = reason
        self.answers = answers


@dataclass
class _Raw:
    line: bytes
    console: list[bytes] = field(default_factory=list)


class GdbSession:
    """Use `open_session`. One `run` at a time."""

    def __init__(self, process: asyncio.subprocess.Process, output_bytes: int) -> None:
        self._process = process
        self._left = output_bytes
        self._token = 0
        self._buffer = bytearray()
        self.warnings: list[str] = []
        self.unread: Unread | None = None
        """Libraries whose symbols wait: when an answer needs them they are read, and the commands are sent again."""

    async def run(self, commands: Sequence[str], deadline: float) -> list[Answer]:
        """Send all `commands`, return their answers in order. `deadline` is in the event loop's time.

        Raises GdbStopped when gdb dies, exceeds its output or does not finish in time; gdb is dead then.
        """
        first, left = self._token + 1, self._left
        self._token += len(commands)
        lines = "".join(f"{first + index}{command}\n" for index, command in enumerate(commands))
        writer = asyncio.ensure_future(self._write(lines.encode("utf-8", "surrogateescape")))
        raw: dict[int, _Raw] = {}
        try:
            async with asyncio.timeout_at(deadline):
                failure = await self._collect(raw, first, len(commands))
        except TimeoutError:
            failure = "did not finish in time"
        finally:
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writer
        size = sum(len(item.line) for item in raw.values())
        if size > _INLINE_BYTES:  # a megabyte takes 40 ms
            answers = await asyncio.to_thread(_parse, raw, first, commands)
        else:
            answers = _parse(raw, first, commands)
        if failure is not None:
            await self.kill()
            raise GdbStopped(failure, answers)
        if self.unread:
            said = [line for item in raw.values() for line in (item.line, *item.console)]
            if missing := await asyncio.to_thread(self.unread.needed_by, said):
                try:
                    await self.run(missing, deadline)
                except GdbStopped as error:  # what it had answered is told, though it lacks names
                    raise GdbStopped(error.reason, answers) from None
                self._left = left  # the same again, and it takes the place of what was read
                return await self.run(commands, deadline)
        return [answer for answer in answers if answer is not None]

    async def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the reader sees the end of gdb
            self._process.stdin.write(data)
            await self._process.stdin.drain()

    async def _collect(self, raw: dict[int, _Raw], first: int, count: int) -> str | None:
        """Read until all answers are there; the reason why not, otherwise."""
        console: list[bytes] = []
        while len(raw) < count:
            line = await self._line()
            if isinstance(line, str):
                return line
            if found := _ANSWER.match(line):
                token = int(found[1])
                if first <= token < first + count:
                    raw[token] = _Raw(line, console)
                    console = []
            elif line.startswith(b'~"'):
                console.append(line)
            elif line.startswith(b'&"') and len(self.warnings) < _LOG_LINES:
                self.warnings.append(_stream(line))
        return None

    async def _line(self) -> bytes | str:
        """The next line, or why there is none."""
        assert self._process.stdout is not None
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            chunk = await self._process.stdout.read(1 << 18)
            if not chunk:
                code = await self._process.wait()
                return f"ended by itself (status {code}): a limit of memory or time, or a damaged file"
            self._left -= len(chunk)
            if self._left < 0 or len(self._buffer) > _MAX_LINE:
                return "wrote more than is read"
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    async def kill(self) -> None:
        """End gdb and everything that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()


@asynccontextmanager
async def open_session(launch: Launch, output_bytes: int) -> AsyncIterator[GdbSession]:
    """Start gdb; it is dead when the block ends. Raises ToolFailed when it cannot be started."""
    try:
        process = await asyncio.create_subprocess_exec(
            *launch.argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=launch.env,
            cwd=launch.cwd,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise ToolFailed(f"gdb cannot be started: {error}") from None
    session = GdbSession(process, output_bytes)
    try:
        yield session
    finally:
        await asyncio.shield(session.kill())
        transport = getattr(process, "_transport", None)
        if transport is not None:
            transport.close()


def _parse(raw: dict[int, _Raw], first: int, commands: Sequence[str]) -> list[Answer | None]:
    answers: list[Answer | None] = []
    for index, command in enumerate(commands):
        item = raw.get(first + index)
        answers.append(None if item is None else _answer(command, item))
    return answers


def _answer(command: str, item: _Raw) -> Answer:
    console = "".join(_stream(line) for line in item.console)
    try:
        kind, payload = result_record(item.line.decode("utf-8", "replace"))
    except ValueError as error:
        return Answer(command, "garbled", {"msg": f"gdb's answer cannot be parsed: {error}"}, console)
    return Answer(command, kind, payload, console)


def _stream(line: bytes) -> str:
    return stream_text(line.decode("utf-8", "replace"))
