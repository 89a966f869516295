"""A core in our own store is opened by its key: decrypted, with its programs, and not when it was changed."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from collector.local_file import LocalFile
from collector.reduce import Program
from diagnosis.crashes.elf import ElfFile, FileBytes
from diagnosis.crashes.sections import build_id_of, sections_of
from errors import InputTooLarge, InvalidInput, NotFound, UnusableCore
from incidents.models import CoreRef
from settings import CoreSettings, GdbSettings, StoreSettings
from tests.standins import crashing
from tests.standins.shipping import Depot
from tools.cores.opening import open_core
from tools.cores.stored import StoredCore
from tools.gdb.analysis import analyze_core
from tools.objectstore.failures import Damaged, StoreDenied, StoreUnreachable

pytestmark = pytest.mark.gdb


def _keys(folder: Path, name: str, text: bytes) -> Path:
    file = folder / name
    file.write_text(f"{name} {base64.b64encode(text).decode()}")
    return file


def _build_id(program: Path) -> str:
    with FileBytes(program) as file:
        elf = ElfFile(file)
        found = build_id_of(elf, sections_of(elf))
    assert found is not None
    return found


@pytest.fixture
async def shipped(tmp_path: Path) -> tuple[Depot, str]:
    """A core whose file and executable are gone from here: encrypted in a store, by the key of the reduced one."""
    crashing.require_tools()
    settings = StoreSettings(
        url=(tmp_path / "store").as_uri(),
        encryption_key_file=_keys(tmp_path, "k1", b"canary-key-of-thirty-two-bytes!!"),
    )
    depot = Depot(tmp_path, settings, full_core="always")
    executable = tmp_path / "gone" / "shop"
    executable.parent.mkdir()
    executable.write_bytes(crashing.program().read_bytes())
    executable.chmod(0o755)
    core = crashing.crash(executable, ["null"], tmp_path / "run")
    build_id = _build_id(executable)
    copy = tmp_path / "copy"
    executable.rename(copy)
    path = depot.core(content=core.read_bytes())
    core.unlink()
    record = depot.record(
        path, build_ids={str(executable): build_id, "/lib/old.so": "cd" * 20}, executable=str(executable)
    )
    depot.outbox.add(record, LocalFile.at(path), [Program(copy, build_id, "executable")])
    await depot.ship()
    copy.unlink()
    [minimal] = [one.key for one in depot.told[0].stored if one.kind == "minimal"]
    return depot, minimal


async def test_a_stored_core_is_analysed_with_its_stored_program(shipped: tuple[Depot, str], tmp_path: Path) -> None:
    depot, minimal = shipped
    for one in depot.told[0].stored:
        if one.build_id is None:
            ref = CoreRef(url=f"store:{one.key}")
            async with open_core(ref, CoreSettings(), tmp_path / "uploads", store=depot.store_settings) as local:
                analysis = await analyze_core(
                    local.core, executable=None, settings=GdbSettings(), executable_dirs=local.executable_dirs
                )
                assert local.unseen == ()
            frames = [frame.function for frame in analysis.report.threads[0].frames]
            assert any((name and "put" in name) or name == "main" for name in frames), frames
    assert list((tmp_path / "uploads").iterdir()) == []
    assert minimal in {one.key for one in depot.told[0].stored}


async def test_without_the_program_it_is_analysed_and_said(shipped: tuple[Depot, str], tmp_path: Path) -> None:
    depot, minimal = shipped
    [program] = [one for one in depot.told[0].stored if one.build_id]
    file = tmp_path / "store" / program.key
    content = file.read_bytes()
    ref = CoreRef(url=f"store:{minimal}")
    for bad in (content[:-1], content + b"x", b""):
        file.write_bytes(bad)
        async with open_core(ref, CoreSettings(), tmp_path / "uploads", store=depot.store_settings) as local:
            assert len(local.unseen) == 1
    file.unlink()
    async with open_core(ref, CoreSettings(), tmp_path / "uploads", store=depot.store_settings) as local:
        assert "no such object" in local.unseen[0]
    [record] = (tmp_path / "store").rglob("*.json")
    record.write_text("{damaged")
    async with open_core(ref, CoreSettings(), tmp_path / "uploads", store=depot.store_settings) as local:
        assert (local.unseen, local.programs) == ((), None)


async def test_what_cannot_be_had_is_one_clear_error(shipped: tuple[Depot, str], tmp_path: Path) -> None:
    depot, minimal = shipped

    async def fails(error: type[Exception], text: str, url: str, limit: int = 1 << 30, **more: object) -> None:
        store = depot.store_settings.model_copy(update=more)
        with pytest.raises(error, match=text) as caught:
            async with open_core(CoreRef(url=url), CoreSettings(max_bytes=limit), tmp_path / "up", store=store):
                raise AssertionError("it opened")
        assert "canary" not in str(caught.value)

    await fails(InvalidInput, "begin with paramedic/", "store:other/core")
    await fails(InvalidInput, "not a possible key", "store:paramedic/../../etc/passwd")
    await fails(InvalidInput, "not a possible key", "store:")
    await fails(NotFound, "no such object", "store:paramedic/none.core.zst")
    await fails(InputTooLarge, "more than the 100 bytes", f"store:{minimal}", limit=100)
    await fails(
        UnusableCore, "the key 'k1', which", f"store:{minimal}", encryption_key_file=_keys(tmp_path, "k2", b"x" * 32)
    )
    await fails(Damaged, "another one", f"store:{minimal}", encryption_key_file=_keys(tmp_path, "k1", b"y" * 32))
    await fails(UnusableCore, "names no keys", f"store:{minimal}", encryption_key_file=None)
    await fails(InvalidInput, "not a possible key", "store://host/core")
    file = tmp_path / "store" / minimal
    file.write_bytes(file.read_bytes()[:-3])
    await fails(Damaged, "changed or cut off", f"store:{minimal}")
    if (tmp_path / "up").exists():
        assert list((tmp_path / "up").iterdir()) == []


class Bucket:
    """A bucket that holds what a folder does, and dies as it is told while programs are fetched from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dies = ""
        self.met = self.listed = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "list-type" in request.query:
            self.listed += 1
            return web.Response(text="<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
        key = request.path.removeprefix("/cores/")
        path = self.folder / key
        if not path.is_file():
            return web.Response(status=404)
        if self.dies and "/build-id/" in key:
            self.met += 1
            if self.dies == "gone for good":
                return web.Response(status=403)
            if self.dies == "refuses all":
                return web.Response(status=403)
            if self.dies == "busy":
                return web.Response(status=503)
            response = web.StreamResponse(headers=self._headers(path))
            await response.prepare(request)
            await response.write(path.read_bytes()[:100])
            assert request.transport is not None
            request.transport.abort()
            return response
        if self.dies == "refuses all" and self.met:
            return web.Response(status=403)
        return web.Response(body=path.read_bytes(), headers=self._headers(path))

    def _headers(self, path: Path) -> dict[str, str]:
        record = next(path.parent.glob("*.json"), path)
        length = {"Content-Length": str(path.stat().st_size)} if self.dies == "cut" else {}
        return length | {
            "ETag": '"e"',
            "Last-Modified": "Sat, 21 Nov 2026 00:00:00 GMT",
            "x-amz-meta-id": record.stem,
        }


@pytest.fixture
async def bucket(shipped: tuple[Depot, str]) -> AsyncIterator[tuple[Bucket, StoreSettings]]:
    depot, _ = shipped
    served = Bucket(depot.folder / "store")
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", served.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield (
        served,
        StoreSettings(
            url="s3://cores",
            endpoint=f"http://127.0.0.1:{runner.addresses[0][1]}",
            access_key="a",
            secret_key="b",
            encryption_key_file=depot.store_settings.encryption_key_file,
        ),
    )
    await runner.cleanup()


async def test_a_store_that_goes_away_while_programs_are_fetched(
    shipped: tuple[Depot, str], bucket: tuple[Bucket, StoreSettings], tmp_path: Path
) -> None:
    _, minimal = shipped
    served, settings = bucket
    ref, uploads = CoreRef(url=f"store:{minimal}"), tmp_path / "uploads"

    async def programs(store: StoreSettings = settings, **more: bool) -> tuple[int, str]:
        async with open_core(ref, CoreSettings(), uploads, store=store, **more) as local:
            assert local.programs is not None
            return len(list(local.programs.iterdir())), " ".join(local.unseen)

    assert await programs() == (1, "")
    for dies, error in (("cut", StoreUnreachable), ("busy", StoreUnreachable), ("refuses all", StoreDenied)):
        served.dies, served.met = dies, 0
        with pytest.raises(error):
            await programs()
        assert served.met, dies
        assert list(uploads.iterdir()) == [], "nothing half-read is left"
        served.met = served.listed = 0
        count, unseen = await programs(programs_may_miss=True)
        assert count == 0 and "could not be had from the store" in unseen
        assert served.listed == (error is StoreDenied), "a store that is away is not asked for program after program"
    served.dies = "gone for good"
    count, unseen = await programs()
    assert count == 0 and "refused" in unseen, "the refusal of one program is none of the core"


async def test_a_folder_that_is_taken_away_while_programs_are_fetched(
    shipped: tuple[Depot, str], tmp_path: Path
) -> None:
    depot, minimal = shipped
    stored = await StoredCore.open(f"store:{minimal}", depot.store_settings)
    await stored.fetch(tmp_path / "core", 1 << 30)
    (program,) = (path for path in (depot.folder / "store").rglob("*.enc") if "build-id" in path.parts)
    program.rename(tmp_path / "program")
    assert "no such object" in " ".join(await stored.programs(tmp_path / "one"))
    (depot.folder / "store").rename(depot.folder / "away")
    with pytest.raises(StoreUnreachable, match="mounted"):
        await stored.programs(tmp_path / "two")
