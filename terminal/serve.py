"""`paramedic serve`: the service in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one and prints it")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Database, evidence and checkpoints")] = None,
) -> None:
    """Run the service: HTTP API, console page, background incidents and deliveries."""
    import asyncio

    from api.server import run
    from settings import load_settings
    from terminal.store import keep_pruned
    from tools.logs import configure_logging

    settings = load_settings(**({"data_dir": data_dir} if data_dir else {}))
    if host is not None:
        settings.api.host = host
    if port is not None:
        settings.api.port = port
    configure_logging(settings.log_level)

    async def serving() -> None:
        stop = asyncio.Event()
        pruning = asyncio.create_task(keep_pruned(settings, stop), name="retention")
        try:
            await run(settings, lambda url: typer.echo(f"paramedic serves {url}", err=True))
        finally:
            stop.set()
            await pruning

    asyncio.run(serving())
