"""`paramedic models`: what an Ollama server has, fetching a model, and a try of the configured one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from settings import Settings

app = typer.Typer(help="Language models: list, fetch, and try the configured one.", no_args_is_help=True)


@app.command("list")
def list_models() -> None:
    """List the models of the Ollama server; the configured one is marked."""
    import asyncio

    from rich.console import Console
    from rich.table import Table

    from settings import load_settings
    from tools.llm.ollama_admin import OllamaAdmin

    settings = load_settings()
    found = asyncio.run(OllamaAdmin(settings.llm).list())
    configured = settings.llm.model or ""
    table = Table("model", "parameters", "quantization", "size", "configured")
    for model in found:
        ours = configured in (f"ollama:{model.name}", f"ollama:{model.name.removesuffix(':latest')}")
        size = f"{model.size / 1e9:.1f} GB"
        table.add_row(model.name, model.parameters, model.quantization, size, "yes" if ours else "")
    console = Console()
    console.print(table)
    if not found:
        console.print("No models yet. `paramedic models pull NAME` fetches one.")
    if not configured:
        console.print("No model is configured: the rules work alone. Set PARAMEDIC_LLM__MODEL=ollama:NAME to use one.")


@app.command()
def pull(name: Annotated[str, typer.Argument(help="NAME or NAME:TAG, as in Ollama's library")]) -> None:
    """Fetch a model to the Ollama server, with a progress bar."""
    import asyncio

    from settings import load_settings

    asyncio.run(_pull(load_settings(), name))


@app.command()
def check() -> None:
    """Make one tiny call to the configured model and say what works."""
    import asyncio

    from settings import load_settings

    asyncio.run(_check(load_settings()))


async def _pull(settings: Settings, name: str) -> None:
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    from tools.llm.ollama_admin import OllamaAdmin

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns) as progress:
        async for event in OllamaAdmin(settings.llm).pull(name):
            if event.layer is None or not event.total:
                progress.console.print(event.status)
                continue
            if event.layer not in tasks:
                tasks[event.layer] = progress.add_task(event.layer.removeprefix("sha256:")[:12], total=event.total)
            progress.update(tasks[event.layer], completed=event.completed)
    typer.echo(f"{name} is there. PARAMEDIC_LLM__MODEL=ollama:{name} uses it.")


async def _check(settings: Settings) -> None:
    """Three things a specialist needs: text, a tool call, an enforced answer. The last two may fail alone."""
    from langchain_core.messages import HumanMessage

    from errors import ToolFailed
    from incidents.database import Database
    from incidents.usage import UsageStore
    from tools.llm.models import Models, ToolSpec

    if settings.llm.model is None:
        typer.echo(
            "No model is configured: the rules work alone. Set PARAMEDIC_LLM__MODEL to openai:NAME or ollama:NAME."
        )
        return
    database = await Database.open(settings.sqlalchemy_url)
    try:
        models = Models(settings.llm, UsageStore(database))
        reply = await models.ask([HumanMessage("Answer with the word ready.")])
        usage = reply.usage_metadata
        typer.echo(f"answers: yes ({reply.text.strip()[:40]!r})")
        typer.echo(f"counts tokens: {'yes' if usage else 'no; estimates are used for the budgets'}")
        spec = ToolSpec(
            "report",
            "Report a number.",
            {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]},
        )
        for what, options in (("calls tools", {"tools": [spec]}), ("answers in a given shape", {"answer": spec})):
            try:
                tried = await models.ask([HumanMessage("Call the tool report with the number 7.")], **options)
                good = bool(tried.tool_calls) or (what != "calls tools" and tried.text.strip().startswith("{"))
                typer.echo(f"{what}: {'yes' if good else 'no'}")
            except ToolFailed as error:
                typer.echo(f"{what}: no ({error})")
        typer.echo(await models.budget.describe())
    finally:
        await database.close()
