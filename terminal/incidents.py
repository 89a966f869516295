"""`paramedic autofix` and `paramedic incidents`: report to a running service, and read from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from terminal.client import call
from terminal.plain import plain

_FRAMES = 8


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
    incident_id: Annotated[str | None, typer.Argument(help="One incident, as the list shows it")] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document, evidence included")] = False,
) -> None:
    """List incidents, newest first, or show one: what came in, what was found, and what waits for a decision."""
    if incident_id is None:
        answer = call("GET", "/api/v1/incidents", namespace=namespace)
    else:
        answer = call("GET", f"/api/v1/incidents/{incident_id}")
    if as_json:
        typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        return
    if incident_id is None:
        for item in answer["incidents"]:
            _say(_head(item), *([f"    {item['summary']}"] if item["summary"] else []))
        typer.echo(f"{len(answer['incidents'])} incident{'s' * (len(answer['incidents']) != 1)}", err=True)
        return
    _say(*_lines(answer))


def _lines(answer: dict[str, Any]) -> Iterator[str]:
    incident, found = answer["incident"], answer["diagnosis"] or {}
    yield _head(incident)
    yield f"Reported  {incident['event']} (by {incident['requested_by']}, {_minute(incident['created_at'])})"
    for cause in found.get("causes") or []:
        yield f"Cause     {cause['class']}, {cause['confidence']:.0%}, {_name(cause['object'])}: {cause['summary']}"
    crash = found.get("crash") or {}
    for thread in (crash.get("threads") or [])[:1]:
        for number, frame in enumerate(thread["frames"][:_FRAMES]):
            where = f" at {frame['file']}:{frame['line']}" if frame.get("file") else ""
            yield f"  #{number} {frame.get('function') or '??'}{where}"
    for approval in answer["approvals"]:
        yield f"Plan      {approval['title']}: {approval['state']}"
        yield f"          {approval['outcome'] or ''}" if approval["outcome"] else f"          {approval['id']}"
        if approval["state"] == "pending":
            yield f"          paramedic approve {approval['id']} | paramedic reject {approval['id']}"
    for proposal in answer["proposals"]:
        yield f"Proposal  {proposal['title']}: {proposal['reason']}"
    yield from (f"Next      {step}" for step in found.get("next_steps") or [])
    yield from (f"Unseen    {what}" for what in found.get("unseen") or [])
    if found:
        count = len(found.get("evidence") or [])
        yield f"{count} piece{'s' * (count != 1)} of evidence: --json"


def _head(item: dict[str, Any]) -> str:
    times = f"  {item['count']} times" if item["count"] > 1 else ""
    return f"{item['id']}  {item['status']}{times}  {_minute(item['updated_at'])}  {_name(item['target'])}"


def _name(target: dict[str, Any]) -> str:
    where = f"{target['namespace']}/" if target.get("namespace") else ""
    inside = f" container {target['container']}" if target.get("container") else ""
    return f"{target['kind']} {where}{target['name']}{inside}"


def _minute(time: str) -> str:
    return f"{time[:10]} {time[11:16]} UTC"


def _say(*lines: str) -> None:
    for line in lines:
        typer.echo(plain(line))
