"""`paramedic deliveries`: notices and events that were given up, and another attempt."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def deliveries(
    again: Annotated[str | None, typer.Option(help="Send this one anew, or `all`; the service does it")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document")] = False,
    data_dir: Annotated[Path | None, typer.Option(help="The service's data directory")] = None,
) -> None:
    """List the notices and events that their channel or sink refused or never took, newest first."""
    import asyncio

    from errors import NotFound
    from settings import load_settings

    settings = load_settings(**({"data_dir": data_dir} if data_dir else {}))
    if not (settings.data_dir / "paramedic.db").exists():
        raise NotFound(f"{settings.data_dir} holds no database")
    asyncio.run(_run(settings.sqlalchemy_url, again, as_json))


async def _run(url: str, again: str | None, as_json: bool) -> None:
    from errors import NotFound
    from incidents.database import Database
    from incidents.deliveries import Deliveries

    database = await Database.open(url)
    try:
        found = Deliveries(database)
        if again is not None:
            count = await found.again(None if again == "all" else again)
            if not count and again != "all":
                raise NotFound(f"no delivery {again[:80]!a} was given up")
            typer.echo(f"{count} to be sent anew", err=True)
            return
        dead = await found.dead()
        if as_json:
            typer.echo(json.dumps([{**asdict(one), "created_at": one.created_at.isoformat()} for one in dead]))
            return
        for one in dead:
            told = f"{one.created_at:%Y-%m-%d %H:%M}  {one.id}  {one.channel:<20}  {one.kind:<9}"
            typer.echo(f"{told}  {one.incident_id or '-'}  {one.attempts} attempts: {one.error}")
        typer.echo(f"{len(dead)} given up", err=True)
    finally:
        await database.close()
