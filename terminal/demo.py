"""`paramedic demo`: a real crash, a real service, the whole way from one to a diagnosis, in a folder thrown away after.

No cluster, no model and no configuration are used, whatever the machine has.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    console = Console()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(prefix="paramedic-demo-") as name,
        Progress(*columns, console=console) as progress,
    ):
        folder = Path(name)
        crash = _crash(folder, progress)
        incident = _diagnose(folder, crash, progress)
        source = crash.source.read_text(encoding="utf-8").splitlines()
    _show(incident, source, console)
    console.print(f"[dim]{time.monotonic() - began:.1f} s from nothing to a diagnosis[/dim]")
    _how_to_go_on(console)


def _crash(folder: Path, progress: Progress) -> MadeCrash:
    from terminal.demo_crash import install, make_crash, missing_programs

    missing = missing_programs()
    if missing:
        task = progress.add_task(f"installing {' and '.join(missing)}", total=None)
        install(missing)
        progress.update(task, total=1, completed=1)
    task = progress.add_task("making a crash", total=None)
    crash = make_crash(folder, lambda text: progress.update(task, description=f"making a crash: {text}"))
    size = crash.core.stat().st_size / 1e6
    how = "gdb wrote it, for the kernel sends cores elsewhere" if crash.by_gdb else "the kernel wrote it"
    text = f"a crash: {crash.program.name} died of a signal and left a core of {size:.0f} MB ({how})"
    progress.update(task, description=text, total=1, completed=1)
    return crash


def _diagnose(folder: Path, crash: MadeCrash, progress: Progress) -> dict[str, Any]:
    import json

    from terminal.demo_service import running_service

    task = progress.add_task("starting the service", total=None)
    roots = json.dumps([str(folder)])
    with running_service(folder, CORE__ROOTS=roots, KUBERNETES__ENABLED="false") as (client, _):
        progress.update(task, description=f"the service listens on {client.base_url}", total=1, completed=1)
        task = progress.add_task("the agents at work", total=None)
        body = {"event": "checkout crashed", "core": {"path": str(crash.core), "executable": str(crash.program)}}
        progress.console.print("[dim]POST /api/v1/autofix[/dim]")
        links = _answer(client, "POST", "/api/v1/autofix", body)["links"]
        _watch(client, links["events"], progress)
        incident = _answer(client, "GET", links["self"])
        progress.update(task, total=1, completed=1)
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


def _watch(client: httpx.Client, path: str, progress: Progress) -> None:
    """Print each step of the timeline as it happens."""
    from rich.text import Text

    from terminal.demo_service import follow

    for name, step in follow(client, path):
        if name == "end":
            return
        line = Text.assemble(
            (f"{_MARKS.get(step['type'], '·')} ", "bold"),
            (f"{step.get('agent') or 'service':<12}", "cyan"),
            _plain(step["text"]),
        )
        if step["type"] == "hop":
            line.append(f" → {step['data'].get('to', '')}", "dim")
        progress.console.print(line)


def _show(incident: dict[str, Any], source: list[str], console: Console) -> None:
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    from errors import ToolFailed

    diagnosis = incident.get("diagnosis")
    if not diagnosis or not diagnosis["causes"] or not diagnosis["crash"]:
        why = "; ".join(diagnosis["unseen"]) if diagnosis else "there is none"
        raise ToolFailed(f"the incident ended as {incident['status']}, without a cause: {_plain(why)}")
    cause, crash = diagnosis["causes"][0], diagnosis["crash"]
    text = Text()
    text.append(f"{cause['summary']}\n", "bold")
    text.append(f"{cause['class']}, confidence {cause['confidence']:.0%}\n")
    if crash["crash_line"]:
        file, _, line = crash["crash_line"].rpartition(":")
        text.append(f"\n{crash['crash_line']}", "bold red")
        if line.isdigit() and 0 < int(line) <= len(source) and file.endswith("crash.cpp"):
            text.append(f"   {source[int(line) - 1].strip()}")
    console.print(Panel(text, title="Diagnosis", title_align="left", border_style="green"))

    frames = Table("#", "function", "where", title="The crashing thread", title_justify="left", box=None)
    for frame in crash["threads"][0]["frames"][:5]:
        where = f"{Path(frame['file']).name}:{frame['line']}" if frame["file"] else frame["module"] or ""
        cells = (str(frame["frame"]), _plain(frame["function"] or "?"), _plain(where))
        frames.add_row(*(Text(cell, overflow="ellipsis", no_wrap=True) for cell in cells))
    console.print(frames)

    evidence = {item["id"]: item for item in diagnosis["evidence"]}
    claims = Table("claim", "as seen by", title="On this evidence", title_justify="left", box=None)
    for finding in diagnosis["findings"]:
        sources = "\n".join(f"{key}  {evidence[key]['source']}" for key in finding["evidence_ids"] if key in evidence)
        claims.add_row(Text(_plain(finding["claim"])), Text(_plain(sources, "\n"), style="dim"))
    console.print(claims)
    for item in diagnosis["unseen"]:
        console.print(Text(f"not seen: {_plain(item)}", style="yellow"))


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


def _plain(text: str, keep: str = "") -> str:
    """Outside text without control characters, so that it cannot command the terminal."""
    return "".join(char if char in keep or char.isprintable() else " " for char in text)
