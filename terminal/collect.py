"""`paramedic collect`: the node agent in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def collect(
    root: Annotated[
        list[Path] | None, typer.Option("--root", help="Folder that cores appear in; may be repeated")
    ] = None,
    node: Annotated[str | None, typer.Option(help="The node's name in the cluster; default: the host's")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Outbox, and the store where none is configured")] = None,
) -> None:
    """Collect the cores of this node: whose each is, reduced, stored once, told to the service."""
    import asyncio
    import signal

    from collector.service import run
    from settings import load_settings
    from tools.gdb.server import prepare
    from tools.logs import configure_logging

    settings = load_settings(**({"data_dir": data_dir} if data_dir else {}))
    if root:
        settings.collector.roots = root
    if node is not None:
        settings.collector.node_name = node
    configure_logging(settings.log_level)
    prepare()

    async def main() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await run(settings, stop)

    asyncio.run(main())
