"""Which incident or workload a text means: exactly one, or the question to ask. Shared by the chat and the API."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from errors import NotFound
from graph.mentions import Mentions, about, find_mentions
from graph.observed import ObservedWorkloads
from incidents.models import Incident, ObjectRef
from incidents.store import IncidentStore
from tools.kubernetes.client import ClusterUnreachable

if TYPE_CHECKING:
    from graph.services import Services

_RECENT = 200
_SHOWN = 6


@dataclass(frozen=True)
class Subject:
    """What is meant. At most one of `incident` and `ref` is certain; several `candidates` need a question."""

    mentions: Mentions
    incident: Incident | None = None
    ref: ObjectRef | None = None
    candidates: Sequence[Incident | ObjectRef] = ()
    close: list[str] = field(default_factory=list)
    """Known names near one that is not known."""
    cluster_silent: bool = False
    """The cluster did not answer, so only what is on record could be meant."""


class Resolver:
    """Finds the subject of a text among incidents on record and workloads observed in the cluster."""

    def __init__(self, services: Services) -> None:
        self._incidents: IncidentStore = services.incidents
        self._approvals = services.approvals
        self._observed = ObservedWorkloads(services.cluster)

    async def workload(self, text: str) -> Subject:
        """The one workload (or program with incidents) that the text names."""
        mentions, silent = await self._mentions(text)
        candidates = mentions.workloads[:_SHOWN]
        if len(mentions.workloads) == 1:
            return Subject(mentions, ref=mentions.workloads[0], cluster_silent=silent)
        if not candidates and mentions.incidents:
            return Subject(mentions, ref=mentions.incidents[0].target, cluster_silent=silent)
        if not candidates and mentions.namespace:
            candidates = [ref for ref in await self._known() if ref.namespace == mentions.namespace][:_SHOWN]
        return Subject(mentions, candidates=candidates, close=await self._close(mentions), cluster_silent=silent)

    async def incident(self, text: str, context: str | None) -> Subject:
        """The one incident that the text is about; `context` is the incident spoken about before."""
        mentions, silent = await self._mentions(text)
        recent = await self._recent(text)
        found = mentions.incidents or [item for ref in mentions.workloads for item in about(recent, ref)[:1]]
        if not found:
            found = await self._by_approval(mentions)
        if len(found) == 1:
            return Subject(mentions, incident=found[0], cluster_silent=silent)
        if len(found) > 1:
            return Subject(mentions, candidates=list(found[:_SHOWN]), cluster_silent=silent)
        if mentions.workloads:  # known in the cluster, nothing on record
            if len(mentions.workloads) == 1:
                return Subject(mentions, ref=mentions.workloads[0], cluster_silent=silent)
            return Subject(mentions, candidates=list(mentions.workloads[:_SHOWN]), cluster_silent=silent)
        if mentions.unknown:
            return Subject(mentions, close=await self._close(mentions), cluster_silent=silent)
        return await self._unnamed(mentions, recent, context, silent)

    async def _unnamed(
        self, mentions: Mentions, recent: Sequence[Incident], context: str | None, silent: bool
    ) -> Subject:
        """Nothing is named: what was spoken about, else the only candidate there is."""
        if mentions.namespace:
            recent = [item for item in recent if item.target.namespace == mentions.namespace]
        elif context is not None:
            return Subject(mentions, incident=await self._incidents.get(context), cluster_silent=silent)
        opened = [item for item in recent if not item.status.ended]
        choice = opened or list(recent)
        if len(choice) == 1:
            return Subject(mentions, incident=choice[0], cluster_silent=silent)
        return Subject(mentions, candidates=list(choice[:_SHOWN]), cluster_silent=silent)

    async def _by_approval(self, mentions: Mentions) -> list[Incident]:
        found: list[Incident] = []
        for approval_id in mentions.approval_ids[:3]:
            try:
                approval = await self._approvals.get(approval_id)
            except NotFound:
                continue
            found.append(await self._incidents.get(approval.incident_id))
        return list({item.id: item for item in found}.values())

    async def _mentions(self, text: str) -> tuple[Mentions, bool]:
        recent = await self._recent(text)
        try:
            observed, silent = await self._observed.all(), False
        except ClusterUnreachable:
            observed, silent = [], True
        return find_mentions(text, incidents=recent, workloads=observed), silent

    async def _recent(self, text: str) -> list[Incident]:
        """The newest incidents, and older ones whose whole id the text has."""
        recent = await self._incidents.recent(limit=_RECENT)
        known = {item.id for item in recent}
        for word in text.split():
            word = word.strip(".,;:?!()[]\"'`")
            if word.startswith("inc_") and len(word) == 36 and word not in known:
                try:
                    recent.append(await self._incidents.get(word))
                except NotFound:
                    continue
        return recent

    async def _known(self) -> list[ObjectRef]:
        try:
            observed = await self._observed.all()
        except ClusterUnreachable:
            observed = []
        recent = await self._incidents.recent(limit=_RECENT)
        targets = [item.target.model_copy(update={"container": None}) for item in recent]
        return list(dict.fromkeys([*observed, *targets]))

    async def _close(self, mentions: Mentions) -> list[str]:
        """Known names near the one that is not known."""
        if mentions.unknown is None:
            return []
        wanted = mentions.unknown.rpartition(" ")[2].rpartition("/")[2]
        known = await self._known()
        names = set(difflib.get_close_matches(wanted, {ref.name for ref in known}, n=3, cutoff=0.5))
        return [str(ref) for ref in known if ref.name in names][:_SHOWN]
