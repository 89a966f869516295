"""Tells of collected cores: one CloudEvent a core, whose id is the record's, so that a repetition is known as one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import structlog

from incidents.collected import CollectedCore
from tools.cloudevents.event import CloudEvent
from tools.cloudevents.sink import EventRefused, Sink

COLLECTED = "io.paramedic.core.collected"
_MOST_LETTERS = 1000

log = structlog.get_logger(__name__)


def event_of(record: CollectedCore) -> CloudEvent:
    """The record as an event. There is no link to the core in it, only its key in the store."""
    return CloudEvent(
        specversion="1.0",
        id=record.id,
        source=f"/paramedic/nodes/{record.node}",
        type=COLLECTED,
        time=record.collected_at,
        subject=_subject(record),
        datacontenttype="application/json",
        data=record.model_dump(mode="json"),
    )


def _subject(record: CollectedCore) -> str | None:
    origin = record.origin
    return f"{origin.namespace}/{origin.pod}/{origin.container or ''}" if origin else None


class Announcer:
    """Sends to one sink; an event that it refuses for good becomes a file in `letters`, and nothing waits for it."""

    def __init__(self, sink: Sink | None, letters: Path) -> None:
        self._sink, self._letters = sink, letters

    async def announce(self, record: CollectedCore) -> None:
        """Raises ToolFailed when the sink may take it later."""
        if self._sink is None:
            return
        event = event_of(record)
        try:
            await self._sink.send(event)
        except EventRefused as error:
            await asyncio.to_thread(self._keep, event, str(error))
            log.error("an event was refused and is kept as a dead letter", record=record.id, error=str(error))

    def _keep(self, event: CloudEvent, reason: str) -> None:
        self._letters.mkdir(mode=0o700, parents=True, exist_ok=True)
        older = sorted(self._letters.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for path in older[: max(0, len(older) + 1 - _MOST_LETTERS)]:
            path.unlink(missing_ok=True)
        document = {"reason": reason, "event": event.model_dump(mode="json", exclude_none=True)}
        draft = self._letters / f"{event.id}.part"
        draft.write_text(json.dumps(document, ensure_ascii=False))
        draft.rename(self._letters / f"{event.id}.json")
