"""`paramedic store`: what the store of cores holds, what its limits would delete, and a link to one core."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collector.retention import Examples, Kept
    from incidents.database import Database
    from settings import Settings
    from tools.objectstore.store import ObjectStore

app = typer.Typer(help="The store of collected cores: list, prune, link.", no_args_is_help=True)
_OPEN = 10_000


@app.command("list")
def list_cores(
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Only cores of this namespace")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document")] = False,
) -> None:
    """Every stored core, the newest first."""
    from settings import load_settings

    asyncio.run(_list(load_settings(), namespace, as_json))


async def _list(settings: Settings, namespace: str | None, as_json: bool) -> None:
    from collector.pruning import contents
    from tools.objectstore.store import open_store

    found = await contents(await asyncio.to_thread(open_store, settings))
    kept = [one for one in found.kept if namespace in (None, one.namespace)]
    kept.sort(key=lambda one: one.stored_at, reverse=True)
    if as_json:
        typer.echo(json.dumps([_document(one) for one in kept]))
    else:
        heads = ("stored at (UTC)", "id", "namespace/workload", "value", "size")
        if kept:
            typer.echo("{:<16}  {:<21}  {:<40}  {:>4}  {}".format(*heads), err=True)
        for one in kept:
            place = f"{one.namespace}/{one.workload}"
            typer.echo(f"{one.stored_at:%Y-%m-%d %H:%M}  {one.id}  {place:<40}  {one.value:>4.1f}  {_size(one.size)}")
        typer.echo(f"{len(kept)} core{'s' * (len(kept) != 1)}, {_size(sum(one.size for one in kept))}", err=True)
    for key in found.unreadable:
        typer.echo(f"this record cannot be read: {key}", err=True)


@app.command()
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted")] = False,
) -> None:
    """Delete what the section retention says, least valuable first; never the only core of an open incident."""
    from settings import load_settings

    asyncio.run(_prune(load_settings(), dry_run))


async def _prune(settings: Settings, dry_run: bool) -> None:
    from datetime import UTC, datetime

    from collector.pruning import prune as pruned
    from tools.objectstore.store import open_store

    store = await asyncio.to_thread(open_store, settings)
    async with _database(settings) as database:
        examples = await open_examples(database)
    done = await pruned(store, settings.retention, datetime.now(UTC), examples, dry_run=dry_run)
    for one in done.going:
        typer.echo(f"{one.kept.id}  {one.kept.namespace}/{one.kept.workload}  {_size(one.kept.size)}  {one.reason}")
    for info in done.orphans:
        typer.echo(f"{info.key}  {_size(info.size)}  belongs to no core")
    verb = "would be deleted" if dry_run else "deleted"
    typer.echo(f"{verb}: {len(done.going)} cores, {len(done.orphans)} other objects, {_size(done.size)}", err=True)


@app.command()
def link(
    core: Annotated[str, typer.Argument(help="A key of the store, or a core's id as `store list` shows it")],
    whole: Annotated[bool, typer.Option("--full", help="Of an id: the whole core, not the reduced one")] = False,
    seconds: Annotated[int | None, typer.Option(min=1, max=3600, help="How long it is valid")] = None,
) -> None:
    """Print a link that reads one object without any key, for a short time. Whoever has it can read the memory of the
    crashed process: do not paste it into a chat. The audit log says who made it."""
    from settings import load_settings

    settings = load_settings()
    asyncio.run(_link(settings, core, whole, seconds or settings.store.link_seconds))


async def _link(settings: Settings, core: str, whole: bool, seconds: int) -> None:
    import getpass

    from incidents.audit import AuditLog
    from tools.objectstore.keys import ENCRYPTED
    from tools.objectstore.store import open_store

    store = await asyncio.to_thread(open_store, settings)
    key = core if "/" in core else await _key_of(settings, core, whole)
    made = await store.presign(key, seconds)
    async with _database(settings) as database:
        if database is not None:  # before anybody has the link
            data = {"key": key, "seconds": seconds, "user": getpass.getuser()}
            await AuditLog(database).append("local", "store.link", data=data)
        else:
            typer.echo(f"not in the audit log: there is no database in {settings.data_dir}", err=True)
    if key.endswith(ENCRYPTED):
        typer.echo("the object is encrypted: the link alone does not open it", err=True)
    typer.echo(made)


async def keep_pruned(settings: Settings, stop: asyncio.Event) -> None:
    """What the service does beside everything else, until `stop`."""
    from collector.pruning import keep_pruned as keep

    async def store() -> ObjectStore:
        from tools.objectstore.store import open_store

        return await asyncio.to_thread(open_store, settings)

    async def examples() -> Examples:
        async with _database(settings) as database:
            return await open_examples(database)

    await keep(store, settings.retention, examples, stop)


async def _key_of(settings: Settings, id: str, whole: bool) -> str:
    from collector.pruning import record_of
    from errors import NotFound
    from tools.objectstore.store import open_store

    record = await record_of(await asyncio.to_thread(open_store, settings), id)
    kinds = [one for one in record.stored if one.kind == ("full" if whole else "minimal")]
    if not kinds and not whole:
        kinds = [one for one in record.stored if one.kind == "full"]
    if not kinds:
        raise NotFound(f"of {id} there is no {'whole ' if whole else ''}core in the store")
    return kinds[0].key


async def open_examples(database: Database | None) -> Examples:
    """Which cores are examples of incidents that have not ended; none without a database."""
    from collector.retention import examples_of

    if database is None:
        return examples_of([])
    from pathlib import Path

    from incidents.store import IncidentStore

    return examples_of(await IncidentStore(database, Path()).recent(open_only=True, limit=_OPEN))


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Database | None]:
    """The service's database, where there is one."""
    from incidents.database import Database

    if not await asyncio.to_thread((settings.data_dir / "paramedic.db").exists):
        yield None
        return
    database = await Database.open(settings.sqlalchemy_url)
    try:
        yield database
    finally:
        await database.close()


def _document(one: Kept) -> dict[str, object]:
    return {
        "id": one.id,
        "namespace": one.namespace,
        "workload": one.workload,
        "pod": one.pod,
        "stored_at": one.stored_at.isoformat(),
        "signature": one.signature,
        "value": one.value,
        "size": one.size,
        "record": one.key,
        "objects": list(one.objects),
    }


def _size(count: int) -> str:
    for unit, scale in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} B"
