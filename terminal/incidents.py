"""`paramedic autofix` and `paramedic incidents`: report to a running service, and read from it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from terminal.client import call


def autofix(
    workload: Annotated[str, typer.Argument(help="KIND/NAME, such as Deployment/api")],
    namespace: Annotated[str, typer.Option("--namespace", "-n")],
    event: Annotated[str, typer.Option("--event", help="What happened, in your words")] = "reported from a terminal",
    force: Annotated[bool, typer.Option("--force", help="Look again at what is already known")] = False,
) -> None:
    """Report a workload to the service; it diagnoses, and proposes a fix for approval."""
    body = {"workload": workload, "namespace": namespace, "event": event, "force": force}
    answer = call("POST", "/api/v1/autofix", body)
    typer.echo(answer["incident"]["id"])


def incidents(
    incident_id: Annotated[str | None, typer.Argument(help="One incident, whole, as JSON")] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n")] = None,
) -> None:
    """List incidents, or show one."""
    if incident_id is not None:
        typer.echo(json.dumps(call("GET", f"/api/v1/incidents/{incident_id}"), indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("id", "status", "target", "summary")
    for item in call("GET", "/api/v1/incidents", namespace=namespace)["incidents"]:
        target = item["target"]
        where = f"{target['kind']} {target.get('namespace') or ''}/{target['name']}"
        cells = [item["id"], item["status"], where, item["summary"] or ""]
        table.add_row(*(Text(str(cell)) for cell in cells))
    Console().print(table)
