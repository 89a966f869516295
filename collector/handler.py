"""The team's own program, run once for each collected core and each crash that left none.

It gets what is known in variables, by CoreDog's names, and none of the agent's. It runs after the core is stored and
told, so that nothing waits for it but the removal of the core's file. Every value may have come from a tenant.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

import structlog

from collector.local_file import LocalFile
from collector.measures import Measures
from collector.outbox import Item, Outbox
from collector.places import FoundFile, opened, pinned, root_of
from diagnosis.redaction import redact
from errors import InvalidInput, ParamedicError
from incidents.collected import CollectedCore, Completeness
from settings import HandlerSettings

_OUTPUT_BYTES = 64 << 10
_SHOWN = 2000
_MAX_VALUE = 4096
_REST_SECONDS = 1.0
"""For what a process outside of its group, which has its output, writes after its end."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

log = structlog.get_logger(__name__)


class Handler:
    """`where` is the store, as keys are told to the program. Raises InvalidInput when the program cannot be run."""

    def __init__(self, settings: HandlerSettings, outbox: Outbox, where: str, measures: Measures) -> None:
        program = shutil.which(settings.command[0], path=_PATH)
        if program is None:
            raise InvalidInput(f"collector.handler.command: {settings.command[0]!r} is no program that can be run")
        self._argv = [program, *settings.command[1:]]
        self._settings, self._outbox, self._where, self._measures = settings, outbox, where, measures
        self._running: dict[str, asyncio.Task[None]] = {}
        self._beginning: set[str] = set()
        self._waiting: set[str] = set()

    async def holds(self, item: Item, ended: Callable[[], None]) -> bool:
        """Whether the core's file is still needed: the program runs, or will. `ended` is called when it no longer is.

        Raises ToolFailed (the outbox): then it was not run.
        """
        if item.id in self._running:
            return True
        if not self._wants(item.record) or await asyncio.to_thread(self._outbox.was_handled, item.id):
            return False
        if len(self._running) + len(self._beginning) >= self._settings.parallel:
            self._waiting.add(item.id)
            return True
        self._waiting.discard(item.id)
        self._beginning.add(item.id)
        try:
            if not await asyncio.to_thread(self._outbox.begin_handling, item.id):
                return False
        finally:
            self._beginning.discard(item.id)
        task = asyncio.ensure_future(self._run(item))
        self._running[item.id] = task

        def forget(_: object) -> None:
            self._running.pop(item.id, None)
            ended()

        task.add_done_callback(forget)
        return True

    def busy(self, id: str) -> bool:
        """Whether to ask `holds` again would change nothing now."""
        full = len(self._running) + len(self._beginning) >= self._settings.parallel
        return id in self._running or (full and id in self._waiting)

    async def stop(self) -> None:
        """What runs is ended, and is not run again."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _wants(self, record: CollectedCore) -> bool:
        """As the filters of a notice's channel: all of them must let it through."""
        if record.completeness is Completeness.NOT_A_CORE:
            return False
        origin, chosen = record.origin, self._settings
        if chosen.namespaces and not _fits(chosen.namespaces, origin.namespace if origin else ""):
            return False
        owner = origin.owner if origin else None
        names = (f"{owner.kind}/{owner.name}", owner.name) if owner else ("",)
        if chosen.owners and not any(_fits(chosen.owners, name) for name in names):
            return False
        said = " ".join([record.executable or "", origin.pod if origin else "", owner.name if owner else ""])
        return chosen.keyword is None or chosen.keyword.casefold() in said.casefold()

    async def _run(self, item: Item) -> None:
        said, outcome = b"", "interrupted"
        try:
            outcome, said = await self._called(item)
        except (OSError, ParamedicError) as error:
            outcome = f"could not be run: {error.strerror if isinstance(error, OSError) else error}"
        except Exception as error:  # nothing of the agent may end because of it
            log.exception("the handler could not be run", record=item.id)
            outcome = f"could not be run: {type(error).__name__}"
        finally:
            self._measures.handled(ok=outcome == "exit 0")
            text = redact(said.decode("utf-8", "replace"))
            output = "".join(c if c.isprintable() else " " for c in text)[-_SHOWN:].strip()
            tell = log.info if outcome == "exit 0" else log.warning
            tell("the handler ended", record=item.id, outcome=outcome, output=output)
            with contextlib.suppress(ParamedicError):  # that it began is on record: it is not run again
                self._outbox.end_handling(item.id, outcome)

    async def _called(self, item: Item) -> tuple[str, bytes]:
        with _readable(item.file) as path:
            md5 = await asyncio.to_thread(_md5, path) if path is not None else ""
            said = bytearray()
            async with _pipe(said) as writing:
                process = await asyncio.create_subprocess_exec(
                    *self._argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=writing,
                    stderr=writing,
                    env=variables(item, path, md5, self._where),
                    cwd="/",
                    start_new_session=True,
                )
                try:
                    async with asyncio.timeout(self._settings.timeout):
                        code = await process.wait()
                    outcome = f"exit {code}" if code >= 0 else f"signal {-code}"
                except TimeoutError:
                    outcome = f"ended after {self._settings.timeout:g} s"
                finally:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(process.pid, signal.SIGKILL)  # with what it left behind
                    await process.wait()
            return outcome, bytes(said)


def variables(item: Item, path: Path | None, md5: str, where: str) -> dict[str, str]:
    """The whole environment of the program: CoreDog's names, and some of ours. What is not known is empty.

    COREDUMP_URL is the object's place in the store, and no link that opens it.
    """
    record, origin = item.record, item.record.origin
    owner = origin.owner if origin else None
    keys = {one.kind: one.key for one in record.stored}
    key = keys.get("full") or keys.get("minimal")
    found = {
        "COREDUMP_FILE": str(path) if path is not None else None,
        "COREDUMP_URL": f"{where}/{key}" if key else None,
        "COREDUMP_FILENAME": item.file.path.name if item.file is not None else None,
        "COREDUMP_MD5": md5,
        "COREDUMP_SIZE": record.size,
        "COREDUMP_EXECUTABLE": record.executable,
        "POD_NAME": origin.pod if origin else None,
        "POD_NAMESPACE": origin.namespace if origin else None,
        "POD_UID": origin.pod_uid if origin else None,
        "POD_NODE_IP": origin.host_ip if origin else None,
        "POD_IMAGE": origin.image if origin else None,
        "POD_CONTAINER": origin.container if origin else None,
        "HOST_IP": origin.host_ip if origin else None,
        "PARAMEDIC_CORE_ID": record.id,
        "PARAMEDIC_CORE_SHA256": record.sha256,
        "PARAMEDIC_COMPLETENESS": record.completeness.value,
        "PARAMEDIC_REASON": record.lost or record.reason,
        "PARAMEDIC_SIGNAL": record.signal,
        "PARAMEDIC_SIGNATURE": record.signature,
        "PARAMEDIC_NODE": record.node,
        "PARAMEDIC_OWNER": f"{owner.kind}/{owner.name}" if owner else None,
    }
    texts = {name: "" if value is None else str(value).replace("\0", "")[:_MAX_VALUE] for name, value in found.items()}
    return {"PATH": _PATH, "LANG": "C.UTF-8", **texts}


@contextmanager
def _readable(file: LocalFile | None) -> Iterator[Path | None]:
    """A name of the very file that its container cannot put something else under; None when it is gone."""
    with contextlib.ExitStack() as stack:
        path = None
        if file is not None:
            found = FoundFile(file.path, None, *file.stamp)
            try:
                very = stack.enter_context(opened(found))  # as long as it runs: its name may be of the open file
            except OSError:
                very = None
            if very is not None:
                folder = root_of(file.path) / ".paramedic-handler"
                path = stack.enter_context(pinned(found, very, folder))
        yield path


@asynccontextmanager
async def _pipe(into: bytearray) -> AsyncIterator[int]:
    """The end to write to. What comes is read to its end, and the last bytes are kept.

    It is a pipe of ours because asyncio waits for its own until whoever has inherited them is gone, too.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    stream = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb", buffering=0)
    )

    async def read() -> None:
        while part := await stream.read(1 << 16):
            into.extend(part)
            del into[:-_OUTPUT_BYTES]

    task = asyncio.ensure_future(read())
    try:
        yield writing
    finally:
        os.close(writing)
        await asyncio.wait({task}, timeout=_REST_SECONDS)
        task.cancel()
        transport.close()


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _fits(patterns: list[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
