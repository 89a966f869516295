"""gdb's indexes are made once, used for the very file they were made of, and change nothing in the report."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from settings import GdbSettings, Settings
from tests.standins import crashing
from tools.gdb import indexes
from tools.gdb.analysis import CrashAnalysis, analyze_core
from tools.gdb.indexes import keep_indexes, with_indexes
from tools.gdb.opened import OpenedCore, opened_core
from tools.gdb.plan import load
from tools.gdb.sandbox import launch, private_folder
from tools.gdb.session import OPTIONS, open_session


@pytest.fixture(autouse=True)
def _tools() -> None:
    crashing.require_tools()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return Path(shutil.copy(crashing.program(), tmp_path / "shop"))


def keeping(tmp_path: Path, least: int = 1) -> GdbSettings:
    return GdbSettings(index_cache=tmp_path / "indexes", index_from_bytes=least)


async def analysed(program: Path, settings: GdbSettings) -> CrashAnalysis:
    return await analyze_core(crashing.core("null"), executable=program, settings=settings)


async def hits(program: Path, settings: GdbSettings) -> str:
    """What gdb itself says of its cache."""
    core = crashing.core("null")
    settings = settings.model_copy(update={"sandbox": "rlimits"})
    async with opened_core(core, executable=program) as found, private_folder() as folder:
        opened, _ = with_indexes(found, settings)
        start = await launch(opened.case, settings, folder, OPTIONS)
        async with open_session(start, settings.output_bytes) as session:
            until = asyncio.get_running_loop().time() + 60
            await load(session, opened, 8, until, printers=False)
            (answer,) = await session.run(['-interpreter-exec console "show index-cache stats"'], until)
            return answer.console


async def test_the_second_core_of_a_program_is_opened_by_its_index(tmp_path: Path, program: Path) -> None:
    settings = keeping(tmp_path)
    first = await analysed(program, settings)
    assert list(first.not_indexed.values()) == [program]
    assert await keep_indexes(first.not_indexed, settings) == list(first.not_indexed)
    second = await analysed(program, settings)
    assert second.not_indexed == {}
    assert second.report.threads == first.report.threads
    assert second.report.soft_errors == first.report.soft_errors
    assert second.report.signature == first.report.signature
    assert "Cache hits (this session): 1" in await hits(program, settings)
    assert [path.suffix for path in (tmp_path / "indexes").iterdir()] == [".gdb-index"]
    assert await keep_indexes(first.not_indexed, settings) == []  # it is there


async def test_a_core_that_nobody_in_particular_owns_is_opened_by_it_too(tmp_path: Path, program: Path) -> None:
    settings = keeping(tmp_path)
    core = Path(shutil.copy(crashing.core("null"), tmp_path / "core"))
    core.chmod(0o644)  # read confined as nobody, where we are root
    first = await analyze_core(core, executable=program, settings=settings)
    await keep_indexes(first.not_indexed, settings)
    assert (await analyze_core(core, executable=program, settings=settings)).not_indexed == {}
    settings.index_cache.chmod(0o700)  # type: ignore[union-attr]
    assert (await analyze_core(core, executable=program, settings=settings)).report.status == "OK"


async def test_another_file_of_the_same_build_id_does_not_get_it(tmp_path: Path, program: Path) -> None:
    settings = keeping(tmp_path)
    await keep_indexes((await analysed(program, settings)).not_indexed, settings)
    os.utime(program, (1, 1))
    again = await analysed(program, settings)
    assert list(again.not_indexed.values()) == [program]
    assert "Cache hits (this session): 1" not in await hits(program, settings)


async def test_a_damaged_index_does_no_harm(tmp_path: Path, program: Path) -> None:
    settings = keeping(tmp_path)
    first = await analysed(program, settings)
    await keep_indexes(first.not_indexed, settings)
    (index,) = (tmp_path / "indexes").iterdir()
    whole = index.read_bytes()
    async with opened_core(crashing.core("null"), executable=program) as opened:
        for data in (b"", b"no index", whole[:100], whole[:-1]):
            index.write_bytes(data)
            used, missing = with_indexes(opened, settings)
            assert (dict(used.case.indexes), list(missing.values())) == ({}, [program]), "gdb may die of it"
    again = await analysed(program, settings)
    assert again.report.status == "OK"
    assert again.report.signature == first.report.signature
    assert list(again.not_indexed.values()) == [program]
    await keep_indexes(again.not_indexed, settings)
    assert index.read_bytes() == whole and not (await analysed(program, settings)).not_indexed


async def test_small_debug_information_is_not_indexed(tmp_path: Path, program: Path) -> None:
    found = await analysed(program, keeping(tmp_path, 48 << 20))
    assert found.not_indexed == {}
    assert not (tmp_path / "indexes").exists()


def test_less_of_a_library_is_indexed_than_of_a_program(monkeypatch: pytest.MonkeyPatch, program: Path) -> None:
    monkeypatch.setattr(indexes, "_LIBRARY_BYTES", 1)
    modules = [SimpleNamespace(path=name, build_id=name, is_main=name == "exe") for name in ("exe", "lib")]
    opened = SimpleNamespace(
        modules=SimpleNamespace(all=modules),
        resolved=SimpleNamespace(
            debug=SimpleNamespace(
                known=dict.fromkeys(("exe", "lib"), SimpleNamespace(symbols="dwarf")),
                by_build_id={"exe": program, "lib": program},
            )
        ),
    )
    assert list(indexes.large_debug_files(cast(OpenedCore, opened), 48 << 20)) == ["lib"]


async def test_old_indexes_make_room_and_bad_names_make_none(tmp_path: Path, program: Path) -> None:
    settings = keeping(tmp_path)
    folder = tmp_path / "indexes"
    folder.mkdir()
    old = folder / "00ff00ff-0123456789abcdef.gdb-index"
    old.write_bytes(bytes(1 << 20))
    os.utime(old, (1, 1))
    found = (await analysed(program, settings)).not_indexed
    small = settings.model_copy(update={"index_cache_bytes": 1 << 20})
    assert await keep_indexes(found, small) == list(found)
    assert not old.exists()
    assert len(list(folder.iterdir())) == 1
    assert await keep_indexes({"../../evil": program, "00ff00ff": tmp_path / "gone"}, settings) == []


def test_the_service_keeps_them_in_its_data_folder(tmp_path: Path) -> None:
    assert Settings(data_dir=tmp_path).gdb.index_cache == tmp_path / "gdb-index"
    assert Settings(data_dir=tmp_path, gdb={"index_cache_bytes": 0}).gdb.index_cache is None
