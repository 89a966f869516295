"""Running the helm program: an argument list, a time limit, an output cap, errors of our own."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Sequence

from errors import NotFound, ToolFailed, ToolMissing, ToolTimeout

_STDERR_CHARS = 600
_KILL_SECONDS = 5.0
_CHUNK = 1 << 16


class HelmFailed(ToolFailed):
    """helm ended with an error. After a write, part of it may have been done: look at the release."""

    title = "helm failed"


class OutputTooLong(ToolFailed):
    title = "helm printed too much"


async def run(program: str, arguments: Sequence[str], *, timeout: float, output_bytes: int) -> str:
    """Run `program` with `arguments` and return its stdout.

    Raises ToolMissing when it is not installed, ToolTimeout after `timeout` seconds (the process is killed),
    NotFound when there is no such release or revision, HelmFailed for any other failure.
    """
    path = shutil.which(program)
    if path is None:
        raise ToolMissing(f"{program} is not installed: see https://helm.sh/docs/intro/install")
    process = await asyncio.create_subprocess_exec(
        path,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout and process.stderr
    what = f"helm {arguments[0]}"
    try:
        async with asyncio.timeout(timeout):
            stdout, stderr = await asyncio.gather(
                _read(process, process.stdout, output_bytes), _read(process, process.stderr, output_bytes)
            )
            code = await process.wait()
    except TimeoutError:
        raise ToolTimeout(f"{what} did not end within {timeout:g} s") from None
    finally:
        await _end(process)
    if code != 0:
        message = stderr.decode("utf-8", "backslashreplace").strip()[-_STDERR_CHARS:]
        if "release: not found" in message or "release: no revision" in message:
            raise NotFound(f"{what}: {message}")
        raise HelmFailed(f"{what}: {message}")
    return stdout.decode("utf-8", "backslashreplace")


async def _read(process: asyncio.subprocess.Process, stream: asyncio.StreamReader, limit: int) -> bytes:
    """All of a stream. What prints past the limit is killed, and read to its end all the same: see `_end`."""
    parts, size = [], 0
    while chunk := await stream.read(_CHUNK):
        size += len(chunk)
        if size <= limit:
            parts.append(chunk)
        elif process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    if size > limit:
        raise OutputTooLong(f"helm printed more than {limit} bytes")
    return b"".join(parts)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill what still runs. Python 3.11.2 (Debian 12) ends `wait` only when the pipes are closed, and a full one that
    nobody reads never is: so they are read to their end."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        async with asyncio.timeout(_KILL_SECONDS):
            for stream in (process.stdout, process.stderr):
                while stream is not None and await stream.read(_CHUNK):
                    pass
            await process.wait()
