"""`paramedic approvals`, `approve`, `reject`: the gate from a terminal. The service decides; this asks and shows."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from terminal.client import call
from terminal.plain import plain

ApprovalId = Annotated[str, typer.Argument(help="As `paramedic approvals` lists it, or its first characters")]
Reason = Annotated[str | None, typer.Option("--reason", help="Kept in the audit log")]


def approvals(
    approval_id: Annotated[str | None, typer.Argument(help="Show one plan, whole")] = None,
    all_states: Annotated[bool, typer.Option("--all", help="Decided ones too")] = False,
) -> None:
    """List the plans that wait for a decision, or show one."""
    if approval_id is not None:
        _show(_find(approval_id))
        return
    found = _approvals(None if all_states else "pending")
    if not found:
        typer.echo("Nothing waits for a decision.")
    for item in found:
        votes = f"{sum(vote['verdict'] == 'approve' for vote in item['votes'])} of {item['quorum']}"
        until = f"{item['expires_at'][:10]} {item['expires_at'][11:16]} UTC"
        typer.echo(plain(f"{item['id']}  {item['state']}  {votes} approved  valid until {until}"))
        typer.echo(plain(f"    {item['plan']['title']}  risk {item['plan']['risk']}"))


def approve(
    approval_id: ApprovalId,
    waive_core: Annotated[
        bool, typer.Option("--waive-core", help="Go ahead although the crash's core is not captured")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask again after showing the plan")] = False,
    reason: Reason = None,
) -> None:
    """Show a plan and approve exactly what was shown."""
    item = _find(approval_id)
    _show(item)
    if not yes and not typer.confirm("Approve exactly this?"):
        raise typer.Exit(1)
    _decide(item, "approve", waive_core, reason)


def reject(approval_id: ApprovalId, reason: Reason = None) -> None:
    """Reject a plan."""
    _decide(_find(approval_id), "reject", False, reason)


def _approvals(state: str | None) -> list[dict[str, Any]]:
    answer = call("GET", "/api/v1/approvals", state=state)
    found: list[dict[str, Any]] = answer["approvals"]
    return found


def _find(approval_id: str) -> dict[str, Any]:
    found = [item for item in _approvals(None) if item["id"].startswith(approval_id)]
    if len(found) != 1:
        raise typer.BadParameter("no such approval" if not found else "more than one approval begins with that")
    return found[0]


def _show(item: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.syntax import Syntax
    from rich.text import Text

    plan = item["plan"]
    console = Console()
    console.print(Text(plan["title"], style="bold"))
    for name, value in (
        ("Because", plan["reason"]),
        ("Risk", f"{plan['risk']}; {plan['blast_radius']}"),
        ("Undo", "recorded, and done by itself if the fix does not help" if plan["reversible"] else "not possible"),
        ("Core dump", _evidence(plan)),
        ("Approvers needed", str(item["quorum"])),
        ("Digest", item["digest"]),
        ("Expires", item["expires_at"]),
    ):
        console.print(Text(f"{name}: ", style="dim") + Text(value))
    console.print(Syntax(plan["diff"], "diff", background_color="default"))


def _evidence(plan: dict[str, Any]) -> str:
    if plan["evidence_need"] == "none":
        return "not needed"
    return (
        f"captured, sha256 {plan['evidence_sha256'][:12]}…"
        if plan["evidence_sha256"]
        else "MISSING; needs --waive-core"
    )


def _decide(item: dict[str, Any], verdict: str, waive_core: bool, reason: str | None) -> None:
    body = {"verdict": verdict, "digest": item["digest"], "waive_evidence": waive_core, "reason": reason}
    answer = call("POST", f"/api/v1/approvals/{item['id']}/decision", body)
    typer.echo(f"{answer['id']}: {answer['state']}")
