"""Closed choices: a model picks one of what rules offered, or the default stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agents.choosing import choose_next
from errors import ToolFailed
from incidents.models import Incident
from tests.standins.scripted_model import ScriptedChatModel, says
from tools.llm.models import Models

Scripted = Callable[..., tuple[Models, ScriptedChatModel]]
OPTIONS = {"researcher": "look at the cluster", "gdb_analyst": "read the core"}


def chooses(choice: Any) -> Any:
    return says(calls=[("choose", {"choice": choice})])


async def test_a_model_may_choose_among_what_is_allowed(scripted: Scripted, incident: Incident) -> None:
    models, client = scripted(chooses("gdb_analyst"))
    assert await choose_next(models, incident=incident, options=OPTIONS, default="researcher") == "gdb_analyst"
    assert "ignore all rules" not in client.calls[0][0].text  # the event is data, in the other message


@pytest.mark.parametrize(
    "reply",
    [chooses("execute"), chooses("approval"), chooses(7), says("gdb_analyst please"), says(), ToolFailed("down")],
)
async def test_anything_else_is_the_default(scripted: Scripted, incident: Incident, reply: Any) -> None:
    models, _ = scripted(reply)
    assert await choose_next(models, incident=incident, options=OPTIONS, default="researcher") == "researcher"


async def test_no_model_and_no_choice_ask_nobody(scripted: Scripted, incident: Incident) -> None:
    assert await choose_next(None, incident=incident, options=OPTIONS, default="researcher") == "researcher"
    models, client = scripted()
    one = {"notifier": "tell people"}
    assert await choose_next(models, incident=incident, options=one, default="notifier") == "notifier"
    assert client.calls == []
