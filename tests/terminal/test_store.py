"""`paramedic store`: the table, the dry run, and links that the audit log knows of."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from errors import InvalidInput, NotFound
from incidents.audit import AuditLog
from incidents.collected import CollectedCore, Completeness, Origin, StoredObject
from incidents.database import Database
from settings import load_settings
from terminal.store import app
from tests.standins import s3
from tools.objectstore.keys import core_key, record_key
from tools.objectstore.store import open_store


def _put(id: str, namespace: str = "prod", value: float = 5.0, kinds: tuple[str, ...] = ("minimal", "full")) -> None:
    async def put() -> None:
        store = open_store(load_settings())
        record = CollectedCore(
            id=id,
            completeness=Completeness.COMPLETE,
            collected_at=datetime.now(UTC),
            node="n1",
            origin=Origin(namespace=namespace, pod="api-0"),
            value=value,
        )
        stored = []
        for kind in kinds:
            data = f"{id} {kind}".encode()
            digest = hashlib.sha256(data).hexdigest()
            key = core_key(record, store.prefix, digest, False)
            await store.put(data, key, sha256=digest)
            stored.append(StoredObject.model_validate({"kind": kind, "key": key, "size": len(data), "sha256": digest}))
        told = record.model_copy(update={"stored": stored}).model_dump_json().encode()
        await store.put(told, record_key(record, store.prefix), sha256=hashlib.sha256(told).hexdigest())

    asyncio.run(put())


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PARAMEDIC_DATA_DIR", str(tmp_path))
    return tmp_path


def test_what_is_stored_is_listed(data: Path) -> None:
    assert _run("list").stderr == "0 cores, 0 B\n"
    _put("core_a")
    _put("core_b", "test", value=7.25)
    shown = _run("list").stdout.splitlines()
    assert len(shown) == 2
    assert "core_b  test/api-0" in shown[0]
    found = json.loads(_run("list", "--json", "-n", "prod").stdout)
    assert [(one["id"], len(one["objects"])) for one in found] == [("core_a", 2)]


def test_pruning_says_first_and_does_then(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _put("core_a", value=1.0)
    _put("core_b", value=9.0)
    monkeypatch.setenv("PARAMEDIC_RETENTION__MAX_BYTES", "30")
    said = _run("prune", "--dry-run")
    assert "would be deleted: 1 cores" in said.stderr
    assert len(_run("list").stdout.splitlines()) == 2
    assert _run("prune").stdout.endswith(said.stdout)
    assert [line.split()[2] for line in _run("list").stdout.splitlines()] == ["core_b"]


def test_a_folder_has_no_links(data: Path) -> None:
    _put("core_a")
    failed = _run("link", "core_a")
    assert isinstance(failed.exception, InvalidInput)
    assert str(data / "store" / "paramedic" / "prod") in str(failed.exception)
    for odd in ("core_none", "../etc", "x/y", "paramedic/none"):
        assert isinstance(_run("link", odd).exception, InvalidInput | NotFound)


@pytest.fixture
def server(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[s3.S3Server]:
    if (reason := s3.missing()) is not None:
        pytest.skip(reason)
    running = s3.S3Server(tmp_path / "s3").start()
    for name, value in {
        "URL": f"s3://{s3.BUCKET}",
        "ENDPOINT": running.endpoint,
        "ACCESS_KEY": s3.ACCESS,
        "SECRET_KEY": s3.SECRET,
    }.items():
        monkeypatch.setenv(f"PARAMEDIC_STORE__{name}", value)
    yield running
    running.kill()


def test_a_link_is_in_the_audit_log_and_reads_the_core(server: s3.S3Server, data: Path, migrated: Path) -> None:
    _put("core_a")
    _put("core_b", kinds=("full",))
    made = _run("link", "core_a")
    assert httpx.get(made.stdout.strip(), timeout=60).text == "core_a minimal"
    assert "not in the audit log" in made.stderr
    shutil.copy(migrated, data / "paramedic.db")
    made = _run("link", "core_a", "--full", "--seconds", "60")
    assert httpx.get(made.stdout.strip(), timeout=60).text == "core_a full"
    assert made.stderr == ""
    assert httpx.get(_run("link", "core_b").stdout.strip(), timeout=60).text == "core_b full"
    assert isinstance(_run("link", "core_none").exception, NotFound)

    async def entries() -> list[tuple[str, object, object]]:
        database = await Database.open(load_settings().sqlalchemy_url)
        try:
            log = AuditLog(database)
            await log.verify_chain()
            return [(one.action, one.data["key"], one.data["seconds"]) for one in await log.entries()]
        finally:
            await database.close()

    first, second = asyncio.run(entries())
    assert (first[0], first[2], second[2]) == ("store.link", 60, 900)
    assert str(first[1]).endswith(".core.zst")
    assert s3.SECRET not in made.stdout
