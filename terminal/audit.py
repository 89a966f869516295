"""`paramedic audit`: read and verify the audit log in the data directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def audit(
    data_dir: Annotated[Path | None, typer.Option(help="The service's data directory")] = None,
    incident: Annotated[str | None, typer.Option("--incident", help="Only entries of this incident")] = None,
) -> None:
    """Verify the hash chain, then print entries as JSON lines, oldest first."""
    import asyncio

    from errors import NotFound
    from settings import load_settings

    settings = load_settings(**({"data_dir": data_dir} if data_dir else {}))
    if not (settings.data_dir / "paramedic.db").exists():
        raise NotFound(f"{settings.data_dir} holds no database")
    asyncio.run(_print(settings.sqlalchemy_url, incident))


async def _print(url: str, incident: str | None) -> None:
    from incidents.audit import AuditLog
    from incidents.database import Database

    database = await Database.open(url)
    try:
        log = AuditLog(database)
        count = await log.verify_chain()
        typer.echo(f"{count} entries, chain intact", err=True)
        for entry in await log.entries(incident_id=incident):
            typer.echo(json.dumps(entry.model_dump(mode="json"), ensure_ascii=False))
    finally:
        await database.close()
