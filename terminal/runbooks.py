"""`paramedic runbooks`: search the team's runbooks, and read them anew."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tools.runbooks.library import Answer, Hit, Runbooks

app = typer.Typer(help="The team's own runbooks: search them, read them anew.", no_args_is_help=True)
_SHOWN = 10


@app.command()
def search(
    text: Annotated[str, typer.Argument(help="Words to look for, in English or Chinese")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout")] = False,
) -> None:
    """Find passages of the runbooks. Exit status: 0 found, 1 nothing found, 2 no folder of runbooks."""
    import asyncio
    import json

    answer = asyncio.run(_search(text))
    for note in answer.notes:
        typer.echo(f"not seen: {note}", err=True)
    if as_json:
        typer.echo(json.dumps({"passages": [_document(hit) for hit in answer.hits]}, ensure_ascii=False, indent=2))
    else:
        _show(answer)
    if not answer.hits:
        raise typer.Exit(1)


@app.command()
def index() -> None:
    """Read every runbook anew, and say which cannot be used. Searching does so by itself for what changed."""
    import asyncio

    asyncio.run(_index())


async def _search(text: str) -> Answer:
    from tools.runbooks.asking import question_of

    async with _opened() as runbooks:
        return await runbooks.search(question_of(text), limit=_SHOWN)


async def _index() -> None:
    from terminal.render import plain

    async with _opened() as runbooks:
        update, vectors, notes = await runbooks.update()
    changes = f"{update.changed} read anew, {update.removed} gone"
    typer.echo(f"{update.files} runbooks ({changes}), {update.passages} passages in {runbooks.index.path}")
    if vectors:
        typer.echo(f"{vectors} new vectors")
    for note in [*update.problems, *notes]:
        typer.echo(plain(note), err=True)


@asynccontextmanager
async def _opened() -> AsyncIterator[Runbooks]:
    """The configured runbooks. Raises InvalidInput when there are none."""
    from errors import InvalidInput
    from incidents.database import Database
    from incidents.usage import UsageStore
    from settings import load_settings
    from tools.llm.embeddings import Embeddings
    from tools.runbooks.library import Runbooks

    settings = load_settings()
    if settings.runbooks.folder is None:
        raise InvalidInput("no folder of runbooks is configured; set PARAMEDIC_RUNBOOKS__FOLDER or runbooks.folder")
    if not settings.runbooks.embeddings:  # nothing is spent: no database is needed
        yield Runbooks(settings.runbooks, settings.data_dir)
        return
    database = await Database.open(settings.sqlalchemy_url)
    try:
        embeddings = Embeddings(settings.llm, settings.runbooks.embeddings, UsageStore(database))
        yield Runbooks(settings.runbooks, settings.data_dir, embeddings)
    finally:
        await database.close()


def _document(hit: Hit) -> dict[str, object]:
    passage = hit.passage
    return {
        "source": passage.source,
        "path": passage.path,
        "headings": list(passage.trail),
        "first_line": passage.first,
        "last_line": passage.last,
        "text": passage.text,
        "words": [term.text for term in hit.terms],
    }


def _show(answer: Answer) -> None:
    import textwrap

    from rich.console import Console
    from rich.text import Text

    from terminal.render import plain

    console = Console(highlight=False, soft_wrap=True)
    for hit in answer.hits:
        console.print(Text(plain(hit.passage.source), style="bold"))
        console.print(Text(textwrap.indent(plain(hit.passage.text), "   ")))
        words = ", ".join(term.text for term in hit.terms) or "alike in meaning; it has none of these words"
        console.print(Text(plain(f"   [{words}]"), style="dim"))
    if not answer.hits:
        console.print("No runbook has these words.")
