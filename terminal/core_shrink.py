"""`paramedic core shrink`: a small core with the same stacks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def shrink(
    source: Annotated[Path, typer.Argument(metavar="IN", help="The core, packed or not; `-` reads it from stdin")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Where to write; `-` is stdout, `.zst` is compressed")],
    as_json: Annotated[bool, typer.Option("--json", help="What was done as one JSON document on stderr")] = False,
) -> None:
    """Reduce a core to what its stacks, modules and the context of the crash need; the rest of the heap is dropped.

    Any debugger opens the result and shows the same stacks. Works in the kernel's core_pattern pipe:
    `|/usr/bin/paramedic core shrink - /var/cores/core.%p.zst`.
    """
    import dataclasses
    import json
    import sys

    from tools.cores.alone import give_up_rights
    from tools.cores.shrink import shrink as reduce
    from tools.cores.sparse import Limits
    from tools.cores.streams import looks_packed

    shown = sys.stderr.isatty() and not as_json

    def say(text: str) -> None:
        if shown:
            typer.echo(f"\r\x1b[K{text}", nl=False, err=True)

    limits = Limits()
    if looks_packed(source):  # else nothing is unpacked, and settings take longer than the work
        from settings import load_settings

        limits = Limits(max_bytes=load_settings().core.max_bytes)
    give_up_rights(
        [source] if str(source) != "-" else [],
        [target.absolute().parent] if str(target) != "-" else [],
    )
    done = reduce(
        sys.stdin.buffer if str(source) == "-" else source,
        sys.stdout.buffer if str(target) == "-" else target,
        limits,
        say,
    )
    if shown:
        typer.echo("\r\x1b[K", nl=False, err=True)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(done)), err=True)
        return
    typer.echo(
        f"{_size(done.size)} ({_size(done.allocated)} on disk) -> {_size(done.reduced_size)}"
        + (f", {_size(done.packed_size)} written" if done.packed_size != done.reduced_size else "")
        + f": notes and stacks of {done.threads} threads, {done.pieces} pieces of memory",
        err=True,
    )
    for kind, size in sorted(done.bytes_by_kind.items(), key=lambda item: -item[1]):
        typer.echo(f"  {_size(size):>10}  {kind}", err=True)
    for error in done.soft_errors:
        typer.echo(f"  note: {error}", err=True)


def is_plain(arguments: list[str]) -> bool:
    """`paramedic core shrink IN OUT` without options, as in the kernel's pipe, where a dying process waits for us."""
    names = arguments[3:]
    return arguments[1:3] == ["core", "shrink"] and len(names) == 2 and all(n == "-" or n[:1] != "-" for n in names)


def _size(count: int) -> str:
    for unit, scale in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} B"
