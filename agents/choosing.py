"""Choices that a model may make: one out of a closed list, with a default that needs no model."""

from __future__ import annotations

from collections.abc import Mapping

from incidents.models import Incident
from tools.llm.models import Models


async def choose_next(models: Models | None, *, incident: Incident, options: Mapping[str, str], default: str) -> str:
    return default
