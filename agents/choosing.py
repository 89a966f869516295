"""Choices that a model may make: one out of a closed list that rules made, with a default that needs no model."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog
from langchain_core.messages import HumanMessage, SystemMessage
from pydantic import BaseModel, Field, create_model

from agents.fencing import Fence, clean, cut
from agents.structured import Unusable, answer_spec, parse_answer
from errors import ParamedicError
from incidents.models import Incident
from prompts import render
from tools.llm.models import Models

_ANSWER_TOOL = "choose"

log = structlog.get_logger(__name__)


async def choose_next(models: Models | None, *, incident: Incident, options: Mapping[str, str], default: str) -> str:
    """Who works next: one of the keys of `options` (name to the reason why it may), `default` without a model.

    `options` holds what the rules allow now. Anything else that a model says is the default.
    """
    if models is None or len(options) < 2:
        return default
    fence = Fence()
    # a name outside the list must not cost the default: it is compared below, not refused as a wrong shape
    shape = create_model("Choice", choice=(str, Field(json_schema_extra={"enum": list(options)})))
    system = render(
        "supervisor",
        fence=fence.word,
        options=[{"name": name, "reason": reason} for name, reason in options.items()],
        default=default,
        answer_tool=_ANSWER_TOOL,
    )
    data = fence.wrap("incident", clean(f"target: {incident.target}\nreported: {cut(incident.event, 1000)}"))
    chosen = await _choose(models, system, data, shape, incident.id)
    return chosen if isinstance(chosen, str) and chosen in options else default


async def _choose(models: Models, system: str, data: str, shape: type[BaseModel], incident_id: str | None) -> object:
    """One call, no repair: a choice is not worth a second. None when there is no usable answer."""
    spec = answer_spec(_ANSWER_TOOL, "Give the choice.", shape)
    try:
        async with asyncio.timeout(models.settings.timeout):
            reply = await models.ask([SystemMessage(system), HumanMessage(data)], incident_id=incident_id, answer=spec)
        return getattr(parse_answer(reply, _ANSWER_TOOL, shape), "choice", None)
    except (ParamedicError, Unusable, TimeoutError) as error:
        log.warning("the model made no choice", model=models.name, incident=incident_id, error=str(error))
        return None
