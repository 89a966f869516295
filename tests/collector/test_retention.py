"""What is deleted from the store: least valuable first, never an open incident's only core, and nothing by halves."""

from __future__ import annotations

import asyncio
import hashlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from collector.pruning import contents, keep_pruned, prune
from collector.retention import Examples, Kept, choose, examples_of
from errors import NotFound
from incidents.collected import CollectedCore, Completeness, Origin, StoredObject
from incidents.models import CoreRef, Incident, IncidentStatus, ObjectRef
from settings import RetentionSettings, StoreSettings
from tools.objectstore.failures import StoreUnreachable
from tools.objectstore.keys import build_key, core_key, record_key
from tools.objectstore.store import ObjectStore

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NOBODY: Examples = examples_of([])
NONE = RetentionSettings(max_age_days=None, max_bytes=None, keep_per_signature=None)


def _kept(id: str, **more: Any) -> Kept:
    given: dict[str, Any] = {
        "key": f"p/{id}.json",
        "id": id,
        "namespace": "prod",
        "workload": "api",
        "signature": "s",
        "value": 5.0,
        "size": 100,
        "stored_at": NOW - timedelta(days=1),
        "objects": (f"p/{id}.core.zst",),
        "programs": frozenset(),
    }
    return Kept(**{**given, **more})


def _incident(id: str, **more: Any) -> Incident:
    given: dict[str, Any] = {
        "id": id,
        "created_at": NOW,
        "updated_at": NOW,
        "status": IncidentStatus.ANALYSING,
        "target": ObjectRef(kind="Deployment", namespace="elsewhere", name="x"),
        "event": "",
        "requested_by": "local",
    }
    return Incident.model_validate({**given, **more})


def _going(kept: list[Kept], examples: Examples = NOBODY, **limits: Any) -> list[str]:
    settings = NONE.model_copy(update=limits)
    return [one.kept.id for one in choose(kept, settings, NOW, examples)]


def test_without_limits_nothing_goes() -> None:
    assert _going([_kept("a", stored_at=NOW - timedelta(days=9999), size=1 << 60)]) == []


def test_age_takes_what_is_older_and_nothing_from_the_future() -> None:
    days = {"old": 31.0, "edge": 30.0, "new": 1.0, "future": -900.0}
    kept = [_kept(id, stored_at=NOW - timedelta(days=age)) for id, age in days.items()]
    assert _going(kept, max_age_days=30.0) == ["old"]


def test_of_one_crash_the_most_valuable_and_newest_stay() -> None:
    kept = [_kept(f"v{n}", value=float(n % 3), stored_at=NOW - timedelta(hours=n)) for n in range(6)]
    kept += [_kept("other", signature="t", value=0.0), _kept("none1", signature=None), _kept("none2", signature=None)]
    assert _going(kept, keep_per_signature=2) == ["v3", "v0", "v4", "v1"]


def test_bytes_of_a_namespace_and_in_all() -> None:
    kept = [_kept(f"a{n}", value=float(n), signature=f"a{n}") for n in range(4)]
    kept += [_kept(f"b{n}", value=float(n), signature=f"b{n}", namespace="test") for n in range(2)]
    assert _going(kept, namespace_bytes=200) == ["a0", "a1"]
    assert _going(kept, max_bytes=350) == ["a0", "b0", "a1"]
    assert _going(kept, namespace_bytes=200, max_bytes=350) == ["a0", "a1", "b0"]
    assert _going(kept, max_bytes=0) == ["a0", "b0", "a1", "b1", "a2", "a3"]


def test_the_last_core_of_an_open_incident_never_goes() -> None:
    open_ones = examples_of(
        [
            _incident("i1", signature="s1"),
            _incident("i2", core=CoreRef(url="store:p/c.core.zst")),
            _incident("i3", target=ObjectRef(kind="Deployment", namespace="prod", name="db")),
        ]
    )
    kept = [
        _kept("a", signature="s1", value=1.0),
        _kept("b", signature="s1", value=2.0),
        _kept("c", signature="s2"),
        _kept("d", signature="s3", workload="db"),
        _kept("e", signature="s3", workload="db", namespace="test"),
    ]
    assert _going(kept, open_ones, max_bytes=0) == ["a", "e"]
    assert _going(kept, open_ones, max_age_days=0.1) == ["a", "e"]
    assert _going(kept, open_ones, keep_per_signature=1) == ["a", "e"]


# against a store


async def _put(store: ObjectStore, n: int, *, value: float = 5.0, program: bytes | None = None) -> CollectedCore:
    record = CollectedCore(
        id=f"core_{n}",
        completeness=Completeness.COMPLETE,
        collected_at=NOW,
        node="n1",
        origin=Origin(namespace="prod", pod="api-0"),
        signature=f"s{n}",
        value=value,
    )
    stored = []
    data = f"core {n}".encode() * 100
    digest = hashlib.sha256(data).hexdigest()
    key = core_key(record, store.prefix, digest, False)
    await store.put(data, key, sha256=digest)
    stored.append(StoredObject(kind="minimal", key=key, size=len(data), sha256=digest))
    if program is not None:
        digest = hashlib.sha256(program).hexdigest()
        key = build_key("ab" * 20, store.prefix, digest, False)
        await store.put(program, key, sha256=digest)
        stored.append(StoredObject(kind="library", key=key, size=len(program), sha256=digest, build_id="ab" * 20))
    record = record.model_copy(update={"stored": stored})
    told = record.model_dump_json().encode()
    await store.put(told, record_key(record, store.prefix), sha256=hashlib.sha256(told).hexdigest())
    return record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "objects").mkdir()
    return tmp_path / "objects"


@pytest.fixture
def store(folder: Path) -> ObjectStore:
    return ObjectStore(StoreSettings(url=folder.as_uri()))


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_a_dry_run_says_what_a_run_then_does(store: ObjectStore, folder: Path) -> None:
    for n in range(4):
        await _put(store, n, value=float(n), program=b"libc")
    limits = NONE.model_copy(update={"max_bytes": 1300})
    before = _files(folder)
    said = await prune(store, limits, datetime.now(UTC), NOBODY, dry_run=True)
    assert _files(folder) == before
    done = await prune(store, limits, datetime.now(UTC), NOBODY)
    assert [one.kept.id for one in said.going] == [one.kept.id for one in done.going] == ["core_0", "core_1"]
    assert said.size == done.size
    assert len(_files(folder)) == len(before) - 4
    assert sum("build-id" in name for name in _files(folder)) == 1
    again = await prune(store, limits, datetime.now(UTC), NOBODY)
    assert (again.going, again.orphans) == ([], [])


async def test_what_belongs_to_no_core_goes_after_a_week_and_programs_with_their_last_core(
    store: ObjectStore, folder: Path
) -> None:
    await _put(store, 1, program=b"libc")
    (folder / "paramedic/prod/api-0/2026-11-21/lost.core.zst").write_bytes(b"of an agent that never came back")
    (folder / "foreign").mkdir()
    (folder / "foreign/file").write_bytes(b"not ours")
    late = datetime.now(UTC) + timedelta(days=8)
    assert (await prune(store, NONE, datetime.now(UTC), NOBODY)).orphans == []
    done = await prune(store, NONE, late, NOBODY)
    assert [info.key.rpartition("/")[2] for info in done.orphans] == ["lost.core.zst"]
    done = await prune(store, NONE.model_copy(update={"max_bytes": 0}), late, NOBODY)
    assert len(done.going) == 1
    assert _files(folder) == ["foreign/file"]


async def test_beside_a_record_that_cannot_be_read_nothing_is_touched(store: ObjectStore, folder: Path) -> None:
    await _put(store, 1, program=b"libc")
    record = next(folder.rglob("*.json"))
    record.write_text('{"id": 1}')
    before = _files(folder)
    found = await contents(store)
    assert (found.kept, found.unreadable) == ([], [str(record.relative_to(folder))])
    await prune(store, NONE.model_copy(update={"max_bytes": 0}), datetime.now(UTC) + timedelta(days=99), NOBODY)
    assert _files(folder) == before


async def test_a_store_that_is_away_is_not_decided_about(folder: Path) -> None:
    os.rmdir(folder)
    with pytest.raises(StoreUnreachable):
        await prune(ObjectStore(StoreSettings(url=folder.as_uri())), NONE, NOW, NOBODY)


async def test_the_service_prunes_again_and_again(store: ObjectStore, folder: Path) -> None:
    stop, rounds = asyncio.Event(), 0

    async def opened() -> ObjectStore:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            raise NotFound("a store that is away")
        if rounds > 2:
            stop.set()
        return store

    async def examples() -> Examples:
        return NOBODY

    await _put(store, 1)
    limits = NONE.model_copy(update={"max_bytes": 0, "interval_seconds": 0.01})
    await asyncio.wait_for(keep_pruned(opened, limits, examples, stop), 60)
    assert _files(folder) == []
