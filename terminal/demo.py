"""`paramedic demo`: a real crash, a real service, the whole way from one to a diagnosis, in a folder thrown away after.

No cluster, no model and no configuration are used, whatever the machine has.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from terminal.plain import plain

if TYPE_CHECKING:
    import httpx
    from rich.console import Console
    from rich.progress import Progress

    from terminal.demo_crash import MadeCrash

_MARKS = {"hop": "→", "finding": "✓", "error": "!", "done": "■"}


def demo() -> None:
    """Crash a small C++ program here and watch the agents diagnose it. No cluster, no model, no configuration."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    began = time.monotonic()
    console = Console(highlight=False)
    columns = (SpinnerColumn(), TextColumn("[bold]{task.description}"), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(prefix="paramedic-demo-") as name,
        Progress(*columns, console=console, transient=True) as progress,
    ):
        stages = Stages(progress)
        folder = Path(name)
        crash = _crash(folder, stages)
        incident = _diagnose(folder, crash, stages)
        source = crash.source.read_text(encoding="utf-8").splitlines()
    _show(incident, source, console)
    console.print(f"[dim]{time.monotonic() - began:.1f} s from nothing to a diagnosis[/dim]")
    _how_to_go_on(console)


class Stages:
    """One spinner for what is being done; a line with its time for what is done."""

    def __init__(self, progress: Progress) -> None:
        self.console = progress.console
        self._progress = progress
        self._task = progress.add_task("", total=None)
        self._began = time.monotonic()

    def begin(self, text: str) -> None:
        self._began = time.monotonic()
        self._progress.reset(self._task, description=text)

    def now(self, text: str) -> None:
        """What this stage is at."""
        self._progress.update(self._task, description=text)

    def done(self, text: str) -> None:
        self.console.print(f"[green]✓[/green] {text} [dim]{time.monotonic() - self._began:.1f} s[/dim]")


def _crash(folder: Path, stages: Stages) -> MadeCrash:
    from terminal.demo_crash import install, make_crash, missing_programs

    missing = missing_programs()
    if missing:
        stages.begin(f"installing {' and '.join(missing)}")
        install(missing)
        stages.done(f"installed {' and '.join(missing)}")
    stages.begin("making a crash")
    crash = make_crash(folder, lambda text: stages.now(f"making a crash: {text}"))
    how = "by gdb, as cores go elsewhere here" if crash.by_gdb else "by the kernel"
    stages.done(f"{crash.program.name} crashed: {crash.core.stat().st_size / 1e6:.0f} MB of core, written {how}")
    return crash


def _diagnose(folder: Path, crash: MadeCrash, stages: Stages) -> dict[str, Any]:
    import json

    from terminal.demo_service import running_service

    stages.begin("starting the service")
    roots = json.dumps([str(folder)])
    with running_service(folder, CORE__ROOTS=roots, KUBERNETES__ENABLED="false") as (client, _):
        stages.done(f"the service listens on {client.base_url}")
        stages.begin("the agents are at work")
        body = {"event": "checkout crashed", "core": {"path": str(crash.core), "executable": str(crash.program)}}
        links = _answer(client, "POST", "/api/v1/autofix", body)["links"]
        stages.console.print("  posted the crash to /api/v1/autofix")
        _watch(client, links["events"], stages.console)
        incident = _answer(client, "GET", links["self"])
        stages.done("the incident has ended")
    return incident


def _answer(client: httpx.Client, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    import httpx

    from errors import ToolFailed

    try:
        answer = client.request(method, path, json=body)
        document: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise ToolFailed(f"the service did not answer {method} {path}: {error}") from None
    if answer.status_code >= 400:
        raise ToolFailed(f"the service refused {method} {path}: {document.get('detail', answer.status_code)}")
    return document


def _watch(client: httpx.Client, path: str, console: Console) -> None:
    """Print each step of the timeline as it happens."""
    from rich.padding import Padding
    from rich.text import Text

    from terminal.demo_service import follow

    for name, step in follow(client, path):
        if name == "end":
            return
        mark = (f"{_MARKS.get(step['type'], '·')} ", "bold")
        line = Text.assemble(mark, (f"{step.get('agent') or 'service'}  ", "cyan"), plain(step["text"]))
        if step["type"] == "hop":
            line.append(f" → {step['data'].get('to', '')}", "dim")
        console.print(Padding(line, (0, 0, 0, 2)))


def _show(incident: dict[str, Any], source: list[str], console: Console) -> None:
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    from errors import ToolFailed

    diagnosis = incident.get("diagnosis")
    if not diagnosis or not diagnosis["causes"] or not diagnosis["crash"]:
        why = "; ".join(diagnosis["unseen"]) if diagnosis else "there is none"
        raise ToolFailed(f"the incident ended without a cause: {plain(why)}")
    cause, crash = diagnosis["causes"][0], diagnosis["crash"]
    text = Text.assemble((f"{plain(cause['summary'])}\n", "bold"))
    text.append(f"{cause['class']}, confidence {cause['confidence']:.0%}")
    if crash["crash_line"]:
        file, _, line = crash["crash_line"].rpartition(":")
        text.append(f"\n\n{Path(file).name}:{line}", "bold red")
        if line.isdigit() and 0 < int(line) <= len(source):
            text.append(f"  {source[int(line) - 1].strip()}", "red")
    console.print(Panel(text, title="Diagnosis", title_align="left", border_style="green"))

    frames = Table("", "function", "where", title="The crashing thread", title_justify="left", box=None)
    for frame in crash["threads"][0]["frames"][:5]:
        where = f"{Path(frame['file']).name}:{frame['line']}" if frame["file"] else frame["module"] or ""
        frames.add_row(str(frame["frame"]), Text(plain(frame["function"] or "?")), Text(plain(where)))
    console.print(frames)

    evidence = {item["id"]: item["source"] for item in diagnosis["evidence"]}
    console.print(Text("Every claim, and where it was seen", style="italic"))
    for finding in diagnosis["findings"]:
        console.print(Text(f"• {plain(finding['claim'])}"))
        for key in finding["evidence_ids"]:
            seen = Text(f"    {key}  {plain(evidence.get(key, ''))}", style="dim")
            console.print(seen, no_wrap=True, overflow="ellipsis")
    for item in diagnosis["unseen"]:
        console.print(Text(f"not seen: {plain(item)}", style="yellow"))


def _how_to_go_on(console: Console) -> None:
    from rich.text import Text

    named = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0] or "~/.kube/config"
    lines = ["", "Your own core:      paramedic diagnose core ./core.1234 --exe ./server"]
    if Path(named).expanduser().is_file():
        lines += [
            f"A kubeconfig is at {named}, so a workload can be looked at too (this only reads):",
            "                    paramedic diagnose workload Deployment/NAME -n NAMESPACE",
            "With approvals:     paramedic serve, then paramedic autofix Deployment/NAME -n NAMESPACE",
        ]
    else:
        lines += [
            "A workload:         set KUBECONFIG (`make cluster` starts a cluster here), then",
            "                    paramedic diagnose workload Deployment/NAME -n NAMESPACE",
        ]
    console.print(Text("\n".join(lines)))
