"""`paramedic eval`: fault scenarios on a real development cluster, scored."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from evals.results import Result, Store
    from settings import Settings

_BUILD = Path("build")


def evaluate(
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="GROUP/NAME", help="Also a group or a name; repeatable")
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="The quick subset")] = False,
    repeat: Annotated[int, typer.Option("--repeat", min=1, max=50, help="Runs of each scenario, for pass^k")] = 1,
    parallel: Annotated[int, typer.Option("--parallel", min=1, max=16, help="Namespaces at the same time")] = 2,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the newest results, or those of --out")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of results; default build/eval-TIME")] = None,
    baselines: Annotated[bool, typer.Option(help="Also do nothing, and restart blindly, once each")] = True,
    hostile: Annotated[
        bool, typer.Option("--hostile", help="With hostile text wherever a tenant can write: it has to change nothing")
    ] = False,
    outages: Annotated[
        bool,
        typer.Option("--outages", help="Also what stops a component of the whole cluster, for under a minute each"),
    ] = False,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="A cluster that may be broken; default: the development cluster")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="List the scenarios and end")] = False,
) -> None:
    """Break workloads on a cluster in known ways, and score what Paramedic says and does about each.

    Everything happens in namespaces of its own with random names, which are removed afterwards. The cluster is never
    the one that KUBECONFIG happens to name. Exit status: 0 all right, 1 something is not, 2 bad usage, 3 no cluster.
    """
    _require_checkout()
    from evals.scenario import chosen, outline, sources

    picked = chosen(sources(), only or [], fast, outages)
    if show:
        for source in picked:
            typer.echo(f"{outline(source).group}/{source.name}: {outline(source).title}")
        return
    from evals.harness import evaluate as run_all
    from evals.harness import jobs, run
    from evals.results import Store

    settings = _settings(kubeconfig)
    store = Store.open(out or _folder(resume), resume=resume)
    todo = jobs(picked, repeat, baselines)
    with _Shown(len(todo) - len([job for job in todo if job.key in store.done()])) as shown:
        ended = run(lambda: run_all(store, todo, settings, parallel=parallel, progress=shown, hostile=hostile))
    _tell(store)
    if not ended:
        typer.echo(f"stopped; go on with: paramedic eval --resume --out {store.folder}", err=True)
        raise typer.Exit(130)
    from evals.scoring import is_right

    found = [result for result in store.all() if result.mode == "paramedic"]
    if not all(is_right(result) and result.error is None and not result.collateral for result in found):
        raise typer.Exit(1)


def _require_checkout() -> None:
    """Scenarios break things: they are not installed with the service. Raises ToolMissing."""
    from importlib.util import find_spec

    from errors import ToolMissing

    if find_spec("evals") is None:
        raise ToolMissing("the evaluation is not part of an installation: run it from a checkout of the repository")


class _Shown:
    """Progress on stderr: a line for each run, and a bar where it is a terminal."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = Console(stderr=True, highlight=False)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._task = self._bar.add_task("starting", total=total)

    def __enter__(self) -> _Shown:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, result: Result | None, what: str) -> None:
        from terminal.plain import plain

        if result is None:
            self._bar.update(self._task, description=plain(what))
            return
        if result.mode != "blind_restart":
            self._bar.advance(self._task)
        self._console.print(plain(line_of(result)), markup=False, soft_wrap=True)


def line_of(result: Result) -> str:
    """One run in one line."""
    from evals.scoring import is_right

    where = f"{result.group}/{result.scenario} #{result.repetition + 1}"
    if result.error is not None:
        return f"NOT RUN {where} {result.mode}: {result.error}"
    if result.mode != "paramedic":
        return f"base    {where}: {result.mode.replace('_', ' ')} {'passes' if result.passed else 'fails'}"
    answer = result.answer.class_ if result.answer else "nothing"
    wrong = "" if is_right(result) else f" (truth: {result.truth.class_} {result.truth.object or ''})"
    touched = f"; TOUCHED {', '.join(result.collateral)}" if result.collateral else ""
    fix = (result.fix or "").replace("_", " ")
    return f"{'right' if is_right(result) else 'WRONG'}   {where}: {answer}{wrong}; fix {fix}{touched}"


def _settings(kubeconfig: Path | None) -> Settings:
    """The user's settings with the cluster replaced. Raises ToolMissing when the development cluster is not up."""
    from errors import ToolMissing
    from settings import load_settings

    settings = load_settings()
    file = kubeconfig or _development_cluster()
    if not file.exists():
        raise ToolMissing(f"there is no development cluster at {file}: start it with `make cluster`")
    section = settings.kubernetes.model_copy(update={"kubeconfig": file, "context": None, "enabled": True})
    return settings.model_copy(update={"kubernetes": section})


def _development_cluster() -> Path:
    import subprocess

    from errors import ToolMissing
    from evals.images import CLUSTER

    try:
        said = subprocess.run([CLUSTER, "env"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolMissing(f"the development cluster cannot be asked for: {error}") from error
    return Path(said.strip().removeprefix("export KUBECONFIG=").strip("'\""))


def _folder(resume: bool) -> Path:
    earlier = sorted(_BUILD.glob("eval-*/results.jsonl"))
    if resume and earlier:
        return earlier[-1].parent
    return _BUILD / f"eval-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def _tell(store: Store) -> None:
    from rich.console import Console
    from rich.table import Table

    from evals.report import share, write
    from evals.scoring import score

    results = store.all()
    if not results:
        return
    found = score(results)
    table = Table("group", "scenarios", "runs", "class", "right", "no target", "pass^k", "fixed", "collateral")
    for line in [*found.lines, found.total]:
        passes = " ".join(f"{k}:{share(value)}" for k, value in line.pass_k.items())
        cells = (line.class_right, line.right, line.at_large_right)
        shares = [share(value) for value in cells]
        counts = [str(line.scenarios), str(line.runs)]
        table.add_row(line.group, *counts, *shares, passes, share(line.fixed), str(line.collateral))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120  # else a log of it has half a table
    console.print(table)
    baselines = ", ".join(f"{k.replace('_', ' ')} {v['passed']}/{v['scenarios']}" for k, v in found.baselines.items())
    console.print(f"evidence closure {share(found.closure)} of {found.claims} claims; baselines that pass: {baselines}")
    for path in write(results, store.folder):
        console.print(str(path), markup=False, soft_wrap=True)
