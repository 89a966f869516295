"""What the service tells other systems, as CloudEvents: an incident opened, diagnosed and ended, an approval asked for.

Events go through the outbox of the notices: kept before the incident goes on, sent with retries, dead when a sink
refuses them for good. Their ids depend on what they tell alone, so that a repetition is known as one. They carry no
address that opens anything and nobody's identity, and texts from outside without secrets.
"""

from __future__ import annotations

import asyncio
import re
from fnmatch import fnmatchcase
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from agents.notice import severity_of
from diagnosis.redaction import redact
from errors import InvalidInput, ToolFailed
from incidents.deliveries import Deliveries, Delivery
from incidents.models import Diagnosis, Incident, IncidentStatus, ObjectRef, content_id
from incidents.plan import Approval
from settings import EventSink, EventsSettings
from tools.cloudevents.event import CloudEvent
from tools.cloudevents.sink import EventRefused, Sink
from tools.notices.post import NoticeError

OPENED = "io.paramedic.incident.opened"
DIAGNOSED = "io.paramedic.incident.diagnosed"
REQUESTED = "io.paramedic.approval.requested"
ENDED = "io.paramedic.incident.ended"
_PREFIX = "events:"
_MAX_TEXT = 1000
_MAX_CAUSES = 5
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s\"'<>]{1,4000}", re.IGNORECASE)

log = structlog.get_logger(__name__)


class Publisher:
    """Adds events to the outbox, and sends what the notifier takes out of it. Raises InvalidInput (a key's file)."""

    def __init__(self, settings: EventsSettings, deliveries: Deliveries) -> None:
        self._source, self._deliveries = settings.source, deliveries
        self._settings = {_PREFIX + one.name: one for one in settings.sinks}
        self._keys = {channel: _key(one) for channel, one in self._settings.items()}
        self._sinks: dict[str, Sink] = {}
        self._opening = asyncio.Lock()

    async def opened(self, incident: Incident) -> bool:
        """Whether an event was added for some sink: false for a repetition. So do all of these; none raises."""
        if not self._settings:
            return False
        return await self._tell(OPENED, incident, "", {})

    async def diagnosed(self, incident: Incident, diagnosis: Diagnosis, content: str) -> bool:
        """`content` tells one diagnosis from another of the same incident."""
        if not self._settings:
            return False
        causes = [
            {
                "class": str(cause.cause_class),
                "object": _object(cause.object),
                "confidence": cause.confidence,
                "summary": plain_text(cause.summary),
            }
            for cause in diagnosis.causes[:_MAX_CAUSES]
        ]
        found = {
            "diagnosis": diagnosis.status.value,
            "severity": severity_of(diagnosis).value,
            "causes": causes,
            "from_core": diagnosis.crash is not None,
        }
        return await self._tell(DIAGNOSED, incident, content, found)

    async def requested(self, incident: Incident, approval: Approval) -> bool:
        if not self._settings:
            return False
        return await self._tell(REQUESTED, incident, approval.id, {"approval": _approval(approval)})

    async def ended(self, incident: Incident, status: IncidentStatus, approval: Approval | None = None) -> bool:
        """`status` is what it ends with; to be told before that is on record, so that a kill loses nothing."""
        if not self._settings:
            return False
        about = {"approval": _approval(approval)} if approval is not None else {}
        return await self._tell(ENDED, incident.model_copy(update={"status": status}), status.value, about)

    async def _tell(self, type: str, incident: Incident, content: str, more: dict[str, Any]) -> bool:
        try:
            event = self._event(type, incident, content, more).model_dump(mode="json", exclude_none=True)
            added = [
                await self._deliveries.enqueue(
                    f"{channel}:{event['id']}",
                    incident_id=incident.id,
                    channel=channel,
                    kind="event",
                    payload={"event": event},
                )
                for channel, sink in self._settings.items()
                if _wants(sink, type, incident.target)
            ]
        except (SQLAlchemyError, ToolFailed) as error:
            log.error("event not queued", incident_id=incident.id, type=type, error=str(error)[:200])
            return False
        except Exception as error:  # an event that cannot be made must not end the incident
            log.exception("event not made", incident_id=incident.id, type=type, error=error.__class__.__name__)
            return False
        return any(added)

    def _event(self, type: str, incident: Incident, content: str, more: dict[str, Any]) -> CloudEvent:
        target = incident.target
        data = {
            "incident": incident.id,
            "status": incident.status.value,
            "target": _object(target),
            "via": incident.via.value,
            "signature": plain_text(incident.signature) if incident.signature else None,
            "summary": plain_text(incident.summary) if incident.summary else None,
            "count": incident.count,
            "opened_at": incident.created_at.isoformat(),
            **more,
        }
        return CloudEvent(
            specversion="1.0",
            id=content_id("evt", type, incident.id, content),
            source=self._source,
            type=type,
            time=incident.created_at if type == OPENED else incident.updated_at,
            subject="/".join(part for part in (target.namespace, target.kind, target.name) if part)[:1024],
            datacontenttype="application/json",
            data=data,
        )

    # --- sending --------------------------------------------------------------------------------------------------

    def owns(self, delivery: Delivery) -> bool:
        return delivery.channel.startswith(_PREFIX)

    async def send(self, delivery: Delivery) -> None:
        """Raises NoticeError, which says whether to try again."""
        sink = await self._sink(delivery.channel)
        try:
            await sink.send(CloudEvent.model_validate(delivery.payload["event"]))
        except EventRefused as error:
            raise NoticeError(str(error), retryable=False) from None
        except ToolFailed as error:
            raise NoticeError(str(error), retryable=True) from None

    async def _sink(self, channel: str) -> Sink:
        async with self._opening:
            if channel not in self._sinks:
                if channel not in self._settings:
                    raise NoticeError(f"the sink {channel} is no longer configured", retryable=False)
                one = self._settings[channel]
                # reads the certificate store, which blocks
                address = one.url.get_secret_value()
                self._sinks[channel] = await asyncio.to_thread(Sink, address, self._keys[channel], mode=one.mode)
        return self._sinks[channel]

    async def close(self) -> None:
        sinks, self._sinks = self._sinks, {}
        for sink in sinks.values():
            await sink.close()


def plain_text(text: str) -> str:
    """Outside text for another system: one line of a bounded length without secrets and addresses."""
    line = " ".join("".join(c if c.isprintable() else " " for c in redact(text)).split())
    line = _ADDRESS.sub("[link]", line)
    return line if len(line) <= _MAX_TEXT else line[: _MAX_TEXT - 1] + "…"


def _wants(sink: EventSink, type: str, target: ObjectRef) -> bool:
    if sink.types and type not in sink.types:
        return False
    return not sink.namespaces or any(fnmatchcase(target.namespace or "", one) for one in sink.namespaces)


def _object(found: ObjectRef) -> dict[str, str | None]:
    return {
        "kind": found.kind,
        "namespace": found.namespace,
        "name": plain_text(found.name),
        "container": found.container,
    }


def _approval(approval: Approval) -> dict[str, Any]:
    plan = approval.plan
    return {
        "id": approval.id,
        "state": approval.state.value,
        "title": plain_text(plan.title),
        "risk": plan.risk.value,
        "reversible": plan.reversible,
        "quorum": approval.quorum,
        "digest": approval.digest,
        "expires_at": approval.expires_at.isoformat(),
    }


def _key(sink: EventSink) -> str | None:
    if sink.key is not None:
        return sink.key.get_secret_value()
    if sink.key_file is None:
        return None
    try:
        return sink.key_file.read_text().strip()
    except OSError as error:
        raise InvalidInput(f"key_file of sink {sink.name} cannot be read: {error.strerror}") from None
