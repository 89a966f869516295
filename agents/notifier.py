"""The notifier: tells people at the diagnosis, at the request for approval and at the result.

Telling only adds rows to the outbox, so an incident never waits for a channel and never fails because of one. `run`
delivers them, with retries, in the vendor's rate limits; after a restart it goes on with what is queued.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, cast

import structlog
from sqlalchemy.exc import SQLAlchemyError

from agents.dispatcher import Dispatcher
from agents.notice import channel_id, cores_of, notice_of, posts_of, severity_of, wants, wants_notice
from agents.publisher import Publisher
from errors import InvalidInput, ToolFailed
from incidents.database import Database, utcnow
from incidents.deliveries import Deliveries
from incidents.models import Diagnosis, Incident, IncidentStatus, Severity, Via
from incidents.plan import Approval, ApprovalState, Proposal, canonical_json
from settings import Settings
from tools.feishu.approval_card import approval_card
from tools.feishu.callback import callbacks_enabled
from tools.feishu.cards import incident_link
from tools.feishu.channels import CARD_BYTES, Channel, Channels, configured_channels
from tools.feishu.client import Card
from tools.feishu.diagnosis_card import diagnosis_card, notice_card, result_card
from tools.feishu.texts import language_of, text
from tools.notices.message import VARIABLES, Notice, unknown_variables
from tools.notices.message import render as body_of

_Told = tuple[str, dict[str, Any]]
"""A channel's id, and the payload of its message."""
_BAD_ENDS = {IncidentStatus.ESCALATED, IncidentStatus.FAILED, IncidentStatus.NOT_FIXED}
_BAD_OUTCOMES = {ApprovalState.UNDONE, ApprovalState.FAILED}
_DECIDED = _BAD_OUTCOMES | {
    *(ApprovalState.DONE, ApprovalState.REJECTED, ApprovalState.EXPIRED),
    *(ApprovalState.SUPERSEDED, ApprovalState.STALE),
}
_TOLD_BY_DIAGNOSIS = {IncidentStatus.DIAGNOSED, IncidentStatus.UNKNOWN, IncidentStatus.HEALTHY}
_QUEUED = "queued for"
_REPEAT_SECONDS = 300

log = structlog.get_logger(__name__)


class Notifier:
    """Channels are the app bot (`feishu.app_id`, `app_secret`, `chat_id`) and the custom bot (`feishu.webhook_url`).

    `notify.channels` are told beside them what their filters let through: Slack, WeCom and further groups of Feishu.
    `events.sinks` get CloudEvents through the same outbox.
    Raises InvalidInput when the address of one cannot be read, or its template names what is no variable.
    `diagnosis`, `request` and `outcome` return one sentence for the incident's timeline and raise nothing.
    """

    def __init__(self, settings: Settings, database: Database, *, now: Callable[[], datetime] = utcnow) -> None:
        self._settings = settings
        self._language = language_of(settings)
        self._deliveries = Deliveries(database, now=now)
        self._now = now
        self._channels = configured_channels(settings.feishu)
        self._buttons = callbacks_enabled(settings.feishu)
        self._database = database
        for channel in settings.notify.channels:
            if channel.template and (wrong := unknown_variables(channel.template)):
                known = ", ".join(VARIABLES)
                raise InvalidInput(f"the template of channel {channel.name} names {wrong[0]!r}; variables are {known}")
        self._posts = posts_of(settings.notify.channels)
        self._publisher = Publisher(settings.events, self._deliveries)
        sender = Channels(settings.feishu, now=now)
        self._dispatcher = Dispatcher(self._deliveries, sender, self._posts, self._publisher)

    # --- telling --------------------------------------------------------------------------------------------------

    async def opened(self, incident: Incident) -> None:
        """Sinks of events alone are told: people hear of it with the diagnosis."""
        await self._published(self._publisher.opened(incident))

    async def ended(self, incident: Incident, status: IncidentStatus, approval: Approval | None = None) -> None:
        """Sinks of events alone are told, before `status` is on record."""
        await self._published(self._publisher.ended(incident, status, approval))

    async def _published(self, telling: Awaitable[bool]) -> None:
        if await telling:
            self._dispatcher.wake()

    async def diagnosis(self, incident: Incident, diagnosis: Diagnosis, proposals: Sequence[Proposal]) -> str:
        """Tell what was found. The same diagnosis of the same incident is told once."""
        content = _same_diagnosis(diagnosis, proposals)
        await self._published(self._publisher.diagnosed(incident, diagnosis, content))

        def render(channel: Channel) -> dict[str, Any]:
            card = diagnosis_card(
                incident,
                diagnosis,
                proposals,
                language=self._language,
                link=self._link(incident.id),
                max_bytes=CARD_BYTES[channel],
            )
            return {"card": card}

        async def others() -> list[_Told]:
            name = "storm" if incident.via is Via.POLICY else diagnosis.status.value
            title, severity = text(self._language, f"title.{name}"), severity_of(diagnosis)
            return await self._others(incident, title, severity, render, diagnosis=diagnosis, proposals=proposals)

        return await self._tell(incident.id, "diagnosis", f"{incident.id}:{content}", render, others)

    async def request(self, incident: Incident, approval: Approval) -> str:
        """Ask for a decision, once for each approval."""
        await self._published(self._publisher.requested(incident, approval))

        def render(channel: Channel) -> dict[str, Any]:
            return {"card": self._approval_card(channel, incident, approval), "approval_id": approval.id}

        async def others() -> list[_Told]:
            title = text(self._language, "title.request")
            return await self._others(incident, title, None, render, approval=approval)

        return await self._tell(incident.id, "request", approval.id, render, others)

    async def outcome(self, incident: Incident, approval: Approval | None) -> str:
        """Tell where an approval or a whole incident stands now; the card of the request is updated."""
        if approval is None:
            return await self._end(incident)
        base = approval.id

        def render(channel: Channel) -> dict[str, Any]:
            payload: dict[str, Any] = {"card": self._approval_card(channel, incident, approval)}
            if channel == "feishu":
                payload["updates"] = f"feishu:request:{base}"
            return payload

        view = f"{approval.state.value}:{incident.status.value if incident.status.ended else 'open'}"
        key = f"{base}:{view}:{len(approval.votes)}"

        async def others() -> list[_Told]:
            if incident.status.ended:
                title = self._ended(incident)
            elif approval.state in _DECIDED:
                title = text(self._language, f"title.outcome.{approval.state.value}")
            else:  # buttons and votes are Feishu's
                return []
            return await self._others(incident, title, None, render, approval=approval)

        return await self._tell(incident.id, "result", key, render, others, supersedes=base)

    async def notice(self, title: str, text: str, severity: str) -> bool:
        """Tell people something that is no incident's. False without a channel, or for a repeat within 5 minutes."""
        window = int(self._now().timestamp()) // _REPEAT_SECONDS
        content = hashlib.sha256(canonical_json([title, text, severity, window])).hexdigest()[:32]

        def render(channel: Channel) -> dict[str, Any]:
            return {"card": notice_card(title, text, severity, language=self._language, max_bytes=CARD_BYTES[channel])}

        async def others() -> list[_Told]:
            found: list[_Told] = []
            for channel in self._settings.notify.channels:
                if not wants_notice(channel, f"{title} {text}", severity):
                    continue
                if channel.kind == "feishu":
                    found.append((channel_id(channel), {"body": render("feishu_webhook")["card"]}))
                else:
                    body = body_of(channel.kind, Notice(title, [(severity, text)]), None)
                    found.append((channel_id(channel), {"body": body}))
            return found

        return (await self._tell(None, "notice", content, render, others)).startswith(_QUEUED)

    async def _end(self, incident: Incident) -> str:
        if incident.status in _TOLD_BY_DIAGNOSIS:
            return "told with the diagnosis"

        def render(channel: Channel) -> dict[str, Any]:
            link = self._link(incident.id)
            card = result_card(incident, language=self._language, link=link, max_bytes=CARD_BYTES[channel])
            return {"card": card}

        async def others() -> list[_Told]:
            return await self._others(incident, self._ended(incident), None, render)

        return await self._tell(incident.id, "result", f"{incident.id}:{incident.status.value}", render, others)

    def _ended(self, incident: Incident) -> str:
        status = text(self._language, f"incident.{incident.status.value}")
        return f"{text(self._language, 'title.result')}: {status}"

    async def _others(
        self,
        incident: Incident,
        title: str,
        severity: Severity | None,
        render: Callable[[Channel], dict[str, Any]],
        *,
        diagnosis: Diagnosis | None = None,
        proposals: Sequence[Proposal] = (),
        approval: Approval | None = None,
    ) -> list[_Told]:
        """What `notify.channels` are told. Without a severity: those that heard of the incident before, and of a bad
        end all that want such."""
        if not self._posts:
            return []
        cores = await cores_of(self._database, incident.id)
        found: list[_Told] = []
        for channel in self._settings.notify.channels:
            name = channel_id(channel)
            failed = approval is not None and approval.state in _BAD_OUTCOMES
            wanted = severity is not None or incident.status in _BAD_ENDS or failed
            if not (wanted and wants(channel, incident, severity or Severity.ERROR, cores)) and (
                severity is not None or not await self._deliveries.told(incident.id, name)
            ):
                continue
            if channel.kind == "feishu":
                found.append((name, {"body": render("feishu_webhook")["card"]}))
                continue
            notice = notice_of(
                incident,
                title,
                severity or Severity.ERROR,
                cores,
                language=self._language,
                link=self._link(incident.id),
                diagnosis=diagnosis,
                proposals=proposals,
                approval=approval,
            )
            # a template is for what crashed; what became of it is told in our own words
            found.append((name, {"body": body_of(channel.kind, notice, channel.template if diagnosis else None)}))
        return found

    async def _tell(
        self,
        incident_id: str | None,
        kind: str,
        key: str,
        render: Callable[[Channel], dict[str, Any]],
        others: Callable[[], Awaitable[list[_Told]]],
        supersedes: str | None = None,
    ) -> str:
        if not self._channels and not self._posts:
            return "no notification channel is configured"
        queued: list[str] = []
        told: dict[str, dict[str, Any] | None] = dict.fromkeys(self._channels)
        try:
            told |= dict(await others())
        except Exception as error:  # the channels of [feishu] are told all the same
            log.exception("further channels are not told", incident_id=incident_id, kind=kind, error=str(error)[:200])
        if not told:
            return "no channel wants this"
        for channel, payload in told.items():
            older = f"{channel}:{kind}:{supersedes}:" if supersedes else None
            try:
                added = await self._deliveries.enqueue(
                    f"{channel}:{kind}:{key}",
                    incident_id=incident_id,
                    channel=channel,
                    kind=kind,
                    payload=payload if payload is not None else render(cast(Channel, channel)),
                    supersedes=older,
                )
            except (SQLAlchemyError, ToolFailed) as error:
                log.error("notice not queued", incident_id=incident_id, kind=kind, error=type(error).__name__)
                return f"the notice could not be queued ({type(error).__name__})"
            except Exception as error:  # a card that cannot be built must not end the incident
                log.exception("notice not built", incident_id=incident_id, kind=kind)
                return f"the notice could not be built ({type(error).__name__})"
            if added:
                queued.append(channel)
        if not queued:
            return "told before"
        self._dispatcher.wake()
        return f"{_QUEUED} {', '.join(queued)}"

    def _approval_card(self, channel: Channel, incident: Incident, approval: Approval) -> Card:
        return approval_card(
            approval,
            language=self._language,
            incident=incident,
            buttons=channel == "feishu" and self._buttons,
            link=self._link(incident.id),
            max_bytes=CARD_BYTES[channel],
        )

    def _link(self, incident_id: str) -> str | None:
        return incident_link(self._settings.api.public_url, incident_id)

    # --- delivering -----------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """See `Dispatcher.run`."""
        await self._dispatcher.run(stop)

    async def deliver_due(self) -> int:
        """See `Dispatcher.deliver_due`."""
        return await self._dispatcher.deliver_due()

    async def close(self) -> None:
        await self._dispatcher.close()


def _same_diagnosis(diagnosis: Diagnosis, proposals: Sequence[Proposal]) -> str:
    """Equal for diagnoses that say the same, whenever and on whichever repeat of the evidence they were made."""
    says = {
        "status": diagnosis.status,
        "signature": diagnosis.signature,
        "causes": [[cause.cause_class, str(cause.object)] for cause in diagnosis.causes],
        "proposals": [proposal.title for proposal in proposals],
    }
    return hashlib.sha256(canonical_json(says)).hexdigest()[:24]
