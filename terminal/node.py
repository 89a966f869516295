"""`paramedic node`: whether this machine keeps cores, and setting it up so that it does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Set up a node so that cores are kept.", no_args_is_help=True)

MountPath = Annotated[str | None, typer.Option(help="Folder that pods see; default: webhook.mount_path")]


@app.command()
def check(mount_path: MountPath = None, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Say what of this node would lose cores, and what sets it right. Exit code 1 when something would."""
    import json
    from dataclasses import asdict

    from collector.node_check import check_node
    from settings import load_settings

    settings = load_settings()
    path = mount_path or settings.webhook.mount_path
    found = check_node(settings.webhook.node_folder, path, settings.collector.socket, settings.collector.proc)
    if as_json:
        typer.echo(json.dumps([asdict(item) for item in found]))
    else:
        for item in found:
            mark = {True: "ok", False: "LOST", None: "?"}[item.ok]
            typer.echo(f"{mark:<5} {item.name}: {item.found}" + (f"\n      → {item.advice}" if item.advice else ""))
    if any(item.ok is False for item in found):
        raise typer.Exit(1)


@app.command()
def setup(
    mount_path: MountPath = None,
    socket: Annotated[bool, typer.Option("--socket", help="Cores to the agent's socket, Linux 6.16")] = False,
    pipe: Annotated[bool, typer.Option("--pipe", help="Cores to our program, run by this machine's Python")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Put back what stood before")] = False,
) -> None:
    """Set kernel.core_pattern and make the folder of cores; `--undo` puts back what was there."""
    from collector.node_setup import NodeSetup, file_pattern, pipe_pattern, socket_pattern
    from errors import InvalidInput
    from settings import load_settings

    settings = load_settings()
    pattern_file = settings.collector.proc / "sys/kernel/core_pattern"
    node = NodeSetup(settings.data_dir / "node-setup.json", pattern_file)
    if undo:
        typer.echo(f"kernel.core_pattern is {node.undo()!r} again")
        return
    if socket and pipe:
        raise InvalidInput("--socket and --pipe exclude each other")
    folder = settings.webhook.node_folder
    if socket:
        if settings.collector.socket is None:
            raise InvalidInput("name the agent's socket: collector.socket")
        pattern = socket_pattern(settings.collector.socket)
    else:
        pattern = pipe_pattern(folder) if pipe else file_pattern(mount_path or settings.webhook.mount_path)
    before = node.apply(pattern, Path(folder))
    typer.echo(f"kernel.core_pattern is {pattern!r}; it was {before!r} (paramedic node setup --undo)")
