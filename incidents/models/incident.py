"""An incident: what came in, by which way, where it stands, and its timeline."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from incidents.models.evidence import Frozen, ObjectRef


class Via(StrEnum):
    API = "api"
    CLI = "cli"
    CHAT = "chat"
    COLLECTOR = "collector"
    POLICY = "policy"  # the service itself: a crash storm


class CoreRef(Frozen):
    """Where a core and its executable are. Exactly one of path, url, upload for the core."""

    path: str | None = None
    url: str | None = None
    upload: str | None = Field(default=None, description="Id returned by `POST /api/v1/uploads`")
    executable: str | None = Field(default=None, description="A path, an upload id (`upl_…`) or an allowed URL")
    sysroot: str | None = None
    debug_dir: str | None = None


class IncidentStatus(StrEnum):
    RECEIVED = "received"
    ANALYSING = "analysing"
    AWAITING_APPROVAL = "awaiting_approval"
    EXECUTING = "executing"
    # ended
    DIAGNOSED = "diagnosed"  # a report; nothing to execute, or only a proposal for people
    HEALTHY = "healthy"
    UNKNOWN = "unknown"
    FIXED = "fixed"
    NOT_FIXED = "not_fixed"  # executed, did not help, undone
    ESCALATED = "escalated"  # executed or half executed, and a human has to look
    DECLINED = "declined"  # a human said no
    EXPIRED = "expired"  # nobody decided in time
    STALE = "stale"  # something changed after the approval; nothing was written
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        return self not in _OPEN


_OPEN = {
    IncidentStatus.RECEIVED,
    IncidentStatus.ANALYSING,
    IncidentStatus.AWAITING_APPROVAL,
    IncidentStatus.EXECUTING,
}


class Incident(Frozen):
    """What came in, and where it stands. One incident is one graph thread of the same id."""

    id: str
    created_at: datetime
    updated_at: datetime
    status: IncidentStatus
    target: ObjectRef
    event: str = Field(description="What the caller said happened; outside text")
    core: CoreRef | None = None
    requested_by: str = Field(description="Identity of the requester, as the server authenticated it")
    via: Via = Via.API
    force: bool = False
    signature: str | None = None
    summary: str | None = None
    count: int = Field(default=1, description="Reports of this crash so far: repetitions are counted, not opened anew")


class Step(Frozen):
    """One entry of an incident's timeline; `seq` grows by one within the incident and is the SSE id."""

    incident_id: str
    seq: int
    at: datetime
    type: str = Field(
        description="run.started, step.started, hop, finding, approval.requested, executed, done, error …"
    )
    agent: str | None = None
    text: str
    data: dict[str, object] = Field(default_factory=dict)
