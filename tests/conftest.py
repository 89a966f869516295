"""Fixtures that every room's tests share."""

from __future__ import annotations

import os

os.environ["LANGGRAPH_STRICT_MSGPACK"] = "true"  # before anything imports langgraph

import asyncio
import gc
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import incidents.database
from incidents.database import Database
from incidents.store import IncidentStore

# structlog's default prints every variable of a traceback, for seconds
structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()])

# no test cuts the power, and waiting for the disk was a third of the run; what is killed here loses nothing by it
incidents.database.SYNCHRONOUS = "OFF"

# the extra `ets` takes seconds to import; whoever imports it unasked fails here, and its own test takes this away
sys.modules["statsmodels"] = None  # type: ignore[assignment]


_create, _first = create_async_engine, list[Engine]()


def _engine(url: str, **options: object) -> AsyncEngine:
    """SQLAlchemy compiles a statement once for each engine, and each test has its own: here, once for all of them."""
    engine = _create(url, **options)
    sync = engine.sync_engine
    if _first and hasattr(_first[0].dialect, "server_version_info"):  # it was connected, and knows its SQLite
        sync.dialect = sync.pool._dialect = _first[0].dialect
        sync._compiled_cache = _first[0]._compiled_cache
    else:
        _first[:] = [sync]
    return engine


incidents.database.create_async_engine = _engine


LONG = (
    "terminal/test_diagnose_core",
    "tools/gdb/test_analysis",
    "tools/gdb/test_go_tables",
    "graph/test_runs",
    "graph/test_storm",
    "graph/test_memory",
    "actions/test_attacks",
    "actions/test_catalogue",
    "actions/test_helm",
    "actions/test_killed",
    "actions/test_template_changes",
    "api/test_events",
    "api/test_storm",
    "api/test_rca",
    "collector/test_shipping",
    "diagnosis/workloads/test_diagnose",
    "agents/test_reading",
    "tools/cores/test_shrink",
    "tools/gdb/test_fuzz",
    "tools/gdb/test_containment",
    "tools/gdb/test_architectures",
    "tools/gdb/test_worker",
    "tools/objectstore/test_store",
    "generated/",
)
"""Files that take longest: begun first, so that none of them is left alone at the end."""


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: while one waits for a server or a debugger, another computes."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    gc.disable()  # while everything is imported


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not any(f"tests/{name}" in item.nodeid for name in LONG))


def pytest_collection_finish() -> None:
    """What was imported and collected stays: to look for garbage in it again and again took a fifth of the run."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    gc.enable()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A developer's own configuration must not decide what a test sees."""
    for name in list(os.environ):
        if name.startswith("PARAMEDIC_") and name not in ("PARAMEDIC_REQUIRE_CLUSTER", "PARAMEDIC_AUDIT_LOG"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PARAMEDIC_CONFIG", "/nonexistent/paramedic.toml")
    yield


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, migrated once: migrating costs a second, copying nothing."""
    path = tmp_path_factory.mktemp("database") / "empty.db"

    async def make() -> None:
        await (await Database.open(f"sqlite+aiosqlite:///{path}")).close()

    asyncio.run(make())
    return path


@pytest.fixture
async def database(migrated: Path, tmp_path: Path) -> AsyncIterator[Database]:
    """A fresh, migrated SQLite database at `paramedic.db` in the test's folder."""
    path = tmp_path / "paramedic.db"
    shutil.copy(migrated, path)
    database = await Database.open(f"sqlite+aiosqlite:///{path}")
    yield database
    await database.close()


@pytest.fixture
def incidents(database: Database, tmp_path: Path) -> IncidentStore:
    return IncidentStore(database, tmp_path / "evidence")
