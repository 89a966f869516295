"""Fetch what is missing from debuginfod servers, in a step of its own before any debugger runs.

The protocol is debuginfod(8): `GET /buildid/<hexadecimal>/executable` and `/debuginfo`. gdb's own client stays off: it
would ask from inside the sandbox, and for whatever a hostile core names. Here only configured servers are asked, no
redirect is followed, no proxy or credential of this machine is used, and a file counts only when it holds the build-id
that was asked for. The folder is laid out as a debug directory (`.build-id/ab/cdef`, `….debug`).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import httpx

from errors import ParamedicError
from settings import GdbSettings, Settings
from tools.debuginfod.wanted import Wanted
from tools.gdb.contained import Request, run
from tools.trust import trusted

MAX_FILE_BYTES = 1 << 30
MAX_FILES = 64
"""Of one core; the program itself comes first."""

_SECONDS = 90.0
_PARALLEL = 4
_ABSENT_SECONDS = 24 * 3600.0
_CHUNK = 1 << 20
_TIMEOUT = httpx.Timeout(20.0, connect=5.0)
_BUILD_ID = re.compile(r"[0-9a-f]{8,128}")
_STORED = {"executable": "", "debuginfo": ".debug"}


class Debuginfod:
    """`urls` are asked in their order; `folder` keeps what came, and for a day that a server has nothing."""

    def __init__(self, urls: Sequence[str], folder: Path, settings: GdbSettings) -> None:
        self._settings = settings
        self._urls = [url.rstrip("/") for url in urls]
        self.folder = folder

    async def complete(self, request: Request) -> list[str]:
        """Fetch what the files of `request` lack; what went wrong, a sentence each.

        Raises what reading the core raises.
        """
        pairs = json.loads(await run(replace(request, job="wanted")))
        if request.progress is not None:
            request.progress("asking debuginfod for what is missing")
        return await self.fetch([Wanted(build_id, kind) for build_id, kind in pairs if _BUILD_ID.fullmatch(build_id)])

    async def fetch(self, wanted: Sequence[Wanted]) -> list[str]:
        """Have each of `wanted` in `folder` where a server has it; what went wrong, a sentence each. Never raises."""
        missing = await asyncio.to_thread(lambda: [item for item in wanted if not self._known(item)][:MAX_FILES])
        if not missing or not self._urls:
            return []
        failures: dict[str, str] = {}
        gate = asyncio.Semaphore(_PARALLEL)

        async def one(client: httpx.AsyncClient, item: Wanted) -> None:
            async with gate:
                await self._one(client, item, failures)

        try:
            async with (
                asyncio.timeout(_SECONDS),
                httpx.AsyncClient(
                    timeout=_TIMEOUT, follow_redirects=False, trust_env=False, verify=trusted()
                ) as client,
            ):
                await asyncio.gather(*(one(client, item) for item in missing))
        except TimeoutError:
            failures[""] = f"debuginfod did not send everything within {_SECONDS:g} s"
        return list(failures.values())

    async def _one(self, client: httpx.AsyncClient, item: Wanted, failures: dict[str, str]) -> None:
        """Ask the servers in turn. One that does not answer is not asked again for this core."""
        asked_all = True
        for url in self._urls:
            host = httpx.URL(url).host
            if url in failures:
                asked_all = False
                continue
            try:
                if await self._download(client, f"{url}/buildid/{item.build_id}/{item.kind}", item):
                    return
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                failures[url] = f"debuginfod at {host!a} did not answer: {type(error).__name__}"
                asked_all = False
            except _Unusable as error:
                failures[f"{url} {item}"] = f"debuginfod at {host!a}: {error}"
                asked_all = False
            except OSError as error:
                failures["disk"] = f"what debuginfod sends cannot be kept: {error.strerror}"
                return
        if asked_all:
            await asyncio.to_thread(self._nobody_has, item)

    async def _download(self, client: httpx.AsyncClient, url: str, item: Wanted) -> bool:
        """False when the server has nothing. Raises _Unusable for an answer that is not the file."""
        async with client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response:
            if response.status_code == 404:
                return False
            if response.status_code != 200:
                raise _Unusable(f"it answered {response.status_code} for {item.kind} {item.build_id}")
            part = await asyncio.to_thread(self._new_file)
            try:
                size = 0
                with await asyncio.to_thread(part.open, "wb") as file:
                    async for chunk in response.aiter_raw(_CHUNK):
                        size += len(chunk)
                        if size > MAX_FILE_BYTES:
                            raise _Unusable(f"{item.kind} {item.build_id} is larger than {MAX_FILE_BYTES} bytes")
                        await asyncio.to_thread(file.write, chunk)
                if await self._build_id(part) != item.build_id:
                    raise _Unusable(f"what it sent for {item.kind} {item.build_id} is another file: not used")
                await asyncio.to_thread(self._keep, part, item)
            finally:
                await asyncio.to_thread(part.unlink, missing_ok=True)
        return True

    async def _build_id(self, part: Path) -> object:
        """What is in a file that came over the network is read in a confined process."""
        try:
            return json.loads(await run(Request("build_id", part, self._settings)))
        except ParamedicError as error:
            raise _Unusable(f"what it sent cannot be read: {error}") from None

    def path(self, item: Wanted) -> Path:
        return self.folder / ".build-id" / item.build_id[:2] / f"{item.build_id[2:]}{_STORED[item.kind]}"

    def _known(self, item: Wanted) -> bool:
        """It is there, or nobody had it when the servers were last asked."""
        if self.path(item).is_file():
            return True
        try:
            return time.time() - self._absent(item).stat().st_mtime < _ABSENT_SECONDS
        except OSError:
            return False

    def _absent(self, item: Wanted) -> Path:
        path = self.path(item)
        return path.with_name(f"{path.name}.absent")

    def _nobody_has(self, item: Wanted) -> None:
        try:
            self._absent(item).parent.mkdir(parents=True, exist_ok=True)
            self._absent(item).touch()
        except OSError:  # it is asked for again, then
            pass

    def _new_file(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix="part-", dir=self.folder)
        os.close(handle)
        return Path(name)

    def _keep(self, part: Path, item: Wanted) -> None:
        target = self.path(item)
        target.parent.mkdir(parents=True, exist_ok=True)
        part.chmod(0o644)
        part.rename(target)


def configured(settings: Settings) -> Debuginfod | None:
    """The servers of `core.debuginfod_urls`, with the data directory's cache; None when none is named."""
    urls = settings.core.debuginfod_urls
    return Debuginfod(urls, settings.data_dir / "debuginfod", settings.gdb) if urls else None


class _Unusable(Exception):
    """The server answered, but not with the file."""
