"""The trusted end of a confined job: starts it, decides which files it sees, checks what it says, ends it in time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import errors as error_tree
from diagnosis.crashes.elf import ET_DYN, ET_EXEC, FileBytes, parse_header
from errors import ParamedicError, ToolFailed, ToolTimeout, UnusableCore
from settings import GdbSettings
from tools.gdb.confine import Limits, View, owner_of
from tools.gdb.resolve import in_root
from tools.gdb.sandbox import system_view
from tools.gdb.server import server

_MAX_ANSWER_BYTES = 64 << 20
_MAX_PROGRESS = 1000
_MAX_ERROR_BYTES = 64 << 10
_EXTRA_SECONDS = 10.0
"""The job ends itself at the deadline, with what it has; when it does not, it is ended this much later."""

MAX_NEEDED = 1024
_LEAST_MEMORY = 2 << 30
"""A fork of the service has much address space from the start; the debugger's own limit is what the settings say."""

_ROOT = Path(__file__).parents[2]
_DEBUGGERS = ("gdb-multiarch", "dlv")
_NEVER_SHOWN = ("/proc", "/sys", "/dev", "/run")


class WorkerDied(ToolFailed):
    """The confined process ended without an answer: a limit of memory or time, or a crash of its own."""

    title = "The analysis did not finish"


@dataclass(frozen=True)
class Request:
    """One job. `more` are its arguments beside the files.

    `writable` is an empty private folder for results, files of at most `file_bytes` each.
    """

    job: str
    core: Path
    settings: GdbSettings
    executable: Path | None = None
    sysroot: Path | None = None
    debug_dirs: Sequence[Path] = ()
    executable_dirs: Sequence[Path] = ()
    fetched: Path | None = None
    writable: Path | None = None
    file_bytes: int = 16 << 20
    more: dict[str, Any] = field(default_factory=dict)
    progress: Callable[[str], None] | None = None


async def run(request: Request) -> bytes:
    """The job's result: JSON, at most 64 MiB, not yet validated.

    The job first says which files the core names; those that may be shown (`may_be_shown`) are, and it starts again.

    Raises the job's own ParamedicError, ToolTimeout, and WorkerDied.
    """
    deadline = asyncio.get_running_loop().time() + request.settings.deadline + _EXTRA_SECONDS
    needed: list[str] | None = None
    for _ in range(2):
        document = await asyncio.to_thread(_document, request, needed)
        kind, payload = await _once(document, deadline, request.progress)
        if kind == b"r":
            return payload
        paths = await asyncio.to_thread(_parsed, payload)
        needed = [path for path in paths if isinstance(path, str)][:MAX_NEEDED] if isinstance(paths, list) else []
    raise WorkerDied("the worker asked for files twice")


async def _once(document: bytes, deadline: float, progress: Callable[[str], None] | None) -> tuple[bytes, bytes]:
    ours, theirs = socket.socketpair()
    try:
        await asyncio.to_thread(server.start_job, theirs)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    reader, writer = await asyncio.open_connection(sock=ours, limit=1 << 20)
    try:
        async with asyncio.timeout_at(deadline):
            writer.write(len(document).to_bytes(4, "big") + document)
            await writer.drain()
            return await _answer(reader, progress)
    except TimeoutError:
        raise ToolTimeout("the analysis did not finish in its time") from None
    except (ConnectionError, asyncio.IncompleteReadError):
        raise WorkerDied("the worker ended without a word") from None
    finally:
        writer.close()  # the supervisor sees it and ends the job with all that it started
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader, progress: Callable[[str], None] | None) -> tuple[bytes, bytes]:
    left, told = _MAX_ANSWER_BYTES, 0
    while True:
        head = await reader.readexactly(5)
        kind, size = head[:1], int.from_bytes(head[1:], "big")
        left -= size
        if left < 0:
            raise WorkerDied(f"the worker wrote more than {_MAX_ANSWER_BYTES} bytes")
        payload = await reader.readexactly(size)
        if kind == b"p":
            told += 1
            if progress is not None and told <= _MAX_PROGRESS:
                progress(_line(payload.decode("utf-8", "replace")))
        elif kind == b"x":
            raise WorkerDied(f"the worker ended by itself ({_line(payload.decode('ascii', 'replace'))})")
        elif kind == b"e":
            raise _error(_parsed(payload[:_MAX_ERROR_BYTES]))
        else:
            return kind, payload


def _parsed(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        raise WorkerDied("the worker's answer cannot be read") from None


def _error(parsed: Any) -> ParamedicError:
    """The error that the job raised: only classes of our own tree, and one printable sentence."""
    kind, message = (parsed.get("error"), parsed.get("message")) if isinstance(parsed, dict) else (None, None)
    known = getattr(error_tree, str(kind), None)
    if isinstance(known, type) and issubclass(known, ParamedicError):
        return known(_line(str(message), 2000))
    return WorkerDied("the worker's answer cannot be read")


def _line(text: str, limit: int = 200) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:limit])


def _document(request: Request, needed: Sequence[str] | None) -> bytes:
    """The request as JSON. Looks at the machine's files. Raises UnusableCore for a core that is no readable file."""
    core = _real(request.core)
    executable = _real(request.executable) if request.executable else None
    sysroot = request.sysroot.resolve() if request.sysroot and request.sysroot.resolve() != Path("/") else None
    folders = [*request.debug_dirs, *request.executable_dirs, *([request.fetched] if request.fetched else [])]
    cache = request.settings.index_cache
    cache = cache.resolve() if cache is not None and cache.is_dir() and request.job != "index" else None
    folders += [cache] if cache is not None else []
    real = {
        str(folder): str(folder.resolve()) for folder in folders if folder.is_dir() and folder.resolve() != Path("/")
    }
    files = {str(core): str(core)}
    if executable is not None:
        files |= _with_companions(executable, str(executable))
    for path in needed or ():
        if (found := may_be_shown(path)) is not None:
            files |= _with_companions(found, path)
    programs = [shutil.which(name) for name in (request.settings.program, *_DEBUGGERS)]
    debuggers = [Path(program).absolute() for program in programs if program]
    system, system_files, links = system_view(debuggers)
    shown = [*system, *_own_folders(), *real.values(), *([str(sysroot)] if sysroot else [])]
    settings = request.settings
    if settings.index_cache is not None and cache is not None:
        settings = settings.model_copy(update={"index_cache": cache})
    limits = Limits(max(settings.memory_bytes, _LEAST_MEMORY), settings.cpu_seconds, request.file_bytes)
    writable = request.writable.resolve() if request.writable else None
    if writable is not None and os.geteuid() == 0:
        os.chown(writable, *owner_of(core))  # the job will be that user
    view = View(shown, {**system_files, **files}, links, str(writable) if writable else None)
    arguments = {
        "core": str(core),
        "executable": str(executable) if executable else None,
        "sysroot": str(sysroot) if sysroot else None,
        "debug_dirs": [real[str(folder)] for folder in request.debug_dirs if str(folder) in real],
        "executable_dirs": [real[str(folder)] for folder in request.executable_dirs if str(folder) in real],
        "fetched": real.get(str(request.fetched)),
        "writable": str(writable) if writable else None,
        "settings": settings.model_dump(mode="json"),
        "declared": needed is not None,
        **request.more,
    }
    return json.dumps(
        {
            "job": request.job,
            "core": str(core),
            "arguments": arguments,
            "view": asdict(view),
            "limits": asdict(limits),
            "identities": {str(path): _identity(path) for path in (core, executable) if path is not None},
            "sandbox": settings.sandbox,
            "path": [
                *dict.fromkeys(str(program.parent) for program in debuggers),
                "/usr/bin",
                "/bin",
            ],
        }
    ).encode()


def may_be_shown(path: str) -> Path | None:
    """The file here for a path that the core names: a program or library, never anything else that it may name.

    Only regular files that begin as an ELF program are shown, so that no key, database or core can be had this way.
    """
    found = in_root(Path("/"), path)
    if found is None or any(found.is_relative_to(folder) for folder in _NEVER_SHOWN):
        return None
    try:
        with FileBytes(found) as file:
            header = parse_header(file.read(0, 64))
    except UnusableCore:
        return None
    return found if header is not None and header.type in (ET_EXEC, ET_DYN) else None


def _with_companions(local: Path, shown_as: str) -> dict[str, str]:
    """The file, and the debug files that lie beside it under the usual names (see debug_files.py)."""
    folder = shown_as.rpartition("/")[0]
    names = (f"{local.name}.debug", f".debug/{local.name}.debug", f".debug/{local.name}")
    beside = {f"{folder}/{name}": str(local.parent / name) for name in names if may_be_shown(str(local.parent / name))}
    return {shown_as: str(local), **beside}


def _real(path: Path) -> Path:
    """`path` without symbolic links. Raises UnusableCore when it is no regular file that can be read."""
    FileBytes(path).close()
    return path.resolve()


def _identity(path: Path) -> list[int]:
    """Device and inode: the job looks whether what it sees is still the file that was checked here."""
    status = path.stat()
    return [status.st_dev, status.st_ino]


def _own_folders() -> Iterable[str]:
    """Where the interpreter and our own code are, for what is imported late."""
    paths = sysconfig.get_paths()
    packages = [str(_ROOT / name) for name in ("diagnosis", "incidents", "tools")]
    return dict.fromkeys(
        os.path.realpath(path)
        for path in (paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"], *packages)
    )
