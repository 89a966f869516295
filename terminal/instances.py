"""`paramedic instances`: what the service sees of the software that its rules know."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from terminal.client import call
from terminal.plain import plain


def instances(
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Only of this namespace")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document, pods and workloads included")] = False,
) -> None:
    """List the instances that the configuration's rules know, with versions, restarts and crashes on record."""
    answer = call("GET", "/api/v1/instances", namespace=namespace)
    if as_json:
        typer.echo(json.dumps(answer, ensure_ascii=False))
        return
    for one in answer["instances"]:
        ready = f"{sum(pod['ready'] for pod in one['pods'])}/{len(one['pods'])} ready" if one["pods"] else "no pods"
        crashes = f"{one['crashes']} crashes" if answer["mode"] != "off" else "crashes are not counted"
        line = f"{one['namespace']}/{one['name']}  {one['rule']}  {', '.join(one['versions']) or 'version unknown'}"
        typer.echo(plain(f"{line}  {ready}  {one['restarts']} restarts  {crashes}"))
        for pod in one["pods"]:
            state = "ready" if pod["ready"] else "not ready"
            typer.echo(plain(f"  {pod['name']}  {pod['version'] or ''}  {state}  {pod['restarts']} restarts"))
    typer.echo(f"{len(answer['instances'])} instance{'s' * (len(answer['instances']) != 1)}", err=True)
