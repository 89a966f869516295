"""Looking on while an incident is worked on."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from incidents.models import Incident, IncidentStatus, Step
from incidents.store import IncidentStore


def settled(incident: Incident) -> bool:
    """Whether nothing more happens by itself: it has ended, or it waits for a person."""
    return incident.status.ended or incident.status is IncidentStatus.AWAITING_APPROVAL


async def watch(store: IncidentStore, incident_id: str, seconds: float = 90.0) -> AsyncIterator[Step]:
    """The steps of an incident as they happen, until it is settled or `seconds` are over."""
    after, deadline = 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        # asked before the steps are read: a step written in between is still given
        over = settled(await store.get(incident_id))
        fresh = await store.steps(incident_id, after)
        for step in fresh:
            after = step.seq
            yield step
        if over:
            return
        if not fresh:
            await store.wait_change(incident_id, 1.0)


async def wait_settled(store: IncidentStore, incident_id: str, seconds: float) -> Incident:
    """The incident once it is settled, or as it stands after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        incident = await store.get(incident_id)
        left = deadline - time.monotonic()
        if settled(incident) or left <= 0:
            return incident
        await store.wait_change(incident_id, min(left, 1.0))
