"""`paramedic diagnose core`: one core dump, here and now."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from diagnosis.crashes.export.formats import ReportFormat, rendered


def core(
    core: Annotated[Path, typer.Argument(help="The core dump; packed ones and archives are unpacked")],
    exe: Annotated[
        Path | None, typer.Option("--exe", help="The executable that crashed; else it is searched by build-id")
    ] = None,
    sysroot: Annotated[
        Path | None, typer.Option("--sysroot", help="Root of the file system that the program ran in")
    ] = None,
    debug_dir: Annotated[
        list[Path] | None,
        typer.Option("--debug-dir", help="Folder of separate debug information (.build-id/…); may be repeated"),
    ] = None,
    source: Annotated[
        list[Path] | None,
        typer.Option("--source", help="Folder of the program's sources, where they are not where they were built"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout: --format json")] = False,
    format: Annotated[
        ReportFormat, typer.Option("--format", help="casrep and sarif are JSON for other tools")
    ] = ReportFormat.TEXT,
) -> None:
    """Say why a program crashed: signal, place, mechanism, stack, evidence.

    Exit status: 0 diagnosed, 1 unknown, 2 the input cannot be used, 3 internal error.
    """
    import asyncio

    from incidents.models import Diagnosis, DiagnosisStatus
    from settings import load_settings
    from tools.cores.plain import plain_core
    from tools.cores.sparse import Limits
    from tools.gdb.analysis import analyze_core
    from tools.gdb.indexes import keep_indexes
    from tools.gdb.server import prepare
    from tools.source import with_source

    _must_be_folder("--sysroot", sysroot)
    for folder in source or ():
        _must_be_folder("--source", folder)
    for folder in debug_dir or ():
        _must_be_folder("--debug-dir", folder)
    settings = load_settings()
    debuginfod = None
    if settings.core.debuginfod_urls:  # its HTTP client takes longer to import than a core to read
        from tools.debuginfod.client import configured

        debuginfod = configured(settings)

    prepare()

    not_indexed: dict[str, Path] = {}
    answer: list[Diagnosis] = []

    # it returns nothing: asyncio.run ends by asking for SIGINT's handler, and that costs a repr of what a task returned
    async def run() -> None:
        with _saying("opening the core") as say:
            async with plain_core(core, Limits(max_bytes=settings.core.max_bytes)) as plain:
                analysis = await analyze_core(
                    plain.core,
                    executable=exe,
                    settings=settings.gdb,
                    sysroot=sysroot or settings.core.sysroot,
                    debug_dirs=[*(debug_dir or ()), *settings.core.debug_dirs],
                    executable_dirs=[*plain.executable_dirs, *settings.core.executable_dirs],
                    debuginfod=debuginfod,
                    progress=say,
                )
                not_indexed.update(analysis.not_indexed)
                found = plain.described(analysis.diagnosis)
                answer.append(await asyncio.to_thread(with_source, found, source or (), as_named=True))

    asyncio.run(run())
    diagnosis = answer.pop()
    if as_json:
        format = ReportFormat.JSON
    if format is ReportFormat.TEXT:
        from rich.console import Console

        from terminal.crash_view import show_crash

        show_crash(Console(highlight=False, soft_wrap=True), diagnosis)
    else:
        typer.echo(rendered(diagnosis, format), nl=False)
    if not_indexed:
        with _saying("indexing debug information: the next core of this program is opened faster"):
            asyncio.run(keep_indexes(not_indexed, settings.gdb))
    if diagnosis.status is not DiagnosisStatus.DIAGNOSED:
        raise typer.Exit(1)


@contextmanager
def _saying(text: str) -> Iterator[Callable[[str], None]]:
    """A line of the terminal that says what is going on; where nobody watches, nothing is loaded for it."""
    if not sys.stderr.isatty():
        yield lambda now: None
        return
    from rich.console import Console

    with Console(stderr=True).status(text) as status:
        yield lambda now: status.update(now)


def _must_be_folder(option: str, folder: Path | None) -> None:
    from errors import InvalidInput

    if folder is not None and not folder.is_dir():
        raise InvalidInput(f"{option} {str(folder)[:300]!a} is not a folder")
