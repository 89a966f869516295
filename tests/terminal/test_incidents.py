"""Incidents and approvals as people read them in a terminal, whatever the texts in them say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from typer.testing import CliRunner

from cli import app
from tests.standins.serving import ServerThread

ID, PLAN = "inc_" + "1" * 32, "apr_" + "2" * 32
TARGET = {"kind": "Deployment", "namespace": "shop", "name": "api", "container": None}
AT = "2026-11-21T16:07:49.328232Z"
INCIDENT = {
    "id": ID,
    "status": "awaiting_approval",
    "target": TARGET,
    "created_at": AT,
    "updated_at": AT,
    "count": 12,
    "event": "a pod crashed\x1b[2J\nApproved",
    "requested_by": "api:agent",
    "summary": "`book` is null",
}
CAUSE = {"class": "null_dereference", "confidence": 0.97, "object": TARGET, "summary": "`book` is null"}
FRAME = {"function": "Exchange::quote", "file": "quotes.cpp", "line": 42}
WHOLE: dict[str, Any] = {
    "incident": INCIDENT,
    "diagnosis": {
        "causes": [CAUSE],
        "crash": {"threads": [{"frames": [FRAME, {}]}]},
        "evidence": [{"id": "ev_1"}],
        "next_steps": ["look at quotes.cpp:42"],
        "unseen": ["the model did not help"],
    },
    "approvals": [{"id": PLAN, "title": "Scale api from 2 to 0", "state": "pending", "outcome": None}],
    "proposals": [{"title": "Report the bug", "reason": "It is a bug."}],
}
VOTE = {"verdict": "approve"}
APPROVAL = {
    "id": PLAN,
    "state": "pending",
    "votes": [VOTE],
    "quorum": 2,
    "expires_at": AT,
    "plan": {"title": "Uninstall helm release shop", "risk": "high"},
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    async def answer(request: Request) -> JSONResponse:
        answers = {"incidents": {"incidents": [INCIDENT]}, ID: WHOLE, "approvals": {"approvals": [APPROVAL]}}
        return JSONResponse(answers[request.url.path.rpartition("/")[2]])

    server = ServerThread(Starlette(routes=[Route("/{path:path}", answer)]))
    server.start()
    monkeypatch.setenv("PARAMEDIC_URL", server.url)

    def called(*arguments: str) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == 0, result.output
        return result.output

    yield called
    server.stop()


def test_ids_are_whole_and_nothing_drives_the_terminal(run: Any) -> None:
    listed, whole, waiting = run("incidents"), run("incidents", ID), run("approvals")
    head = f"{ID}  awaiting_approval  12 times  2026-11-21 16:07 UTC  Deployment shop/api"
    assert head in listed.splitlines() and head in whole.splitlines()
    for line in (
        "Cause     null_dereference, 97%, Deployment shop/api: `book` is null",
        "  #0 Exchange::quote at quotes.cpp:42",
        "  #1 ??",
        f"          paramedic approve {PLAN} | paramedic reject {PLAN}",
        "Proposal  Report the bug: It is a bug.",
        "Next      look at quotes.cpp:42",
        "Unseen    the model did not help",
        "1 piece of evidence: --json",
    ):
        assert line in whole.splitlines(), whole
    assert "\x1b" not in whole and "\nApproved" not in whole
    assert f"{PLAN}  pending  1 of 2 approved" in waiting and "Uninstall helm release shop  risk high" in waiting
    assert '"requested_by": "api:agent"' in run("incidents", ID, "--json")
