"""One vote about one approval: every rule that makes it count, in one transaction.

A vote that is refused is recorded in the audit log as well. Nothing here executes anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from errors import Conflict, Forbidden, NotFound, ParamedicError, Refused
from incidents.approvals import approval_of, expire, votes_of
from incidents.audit import AuditLog
from incidents.database import Database, utcnow
from incidents.plan import Approval, ApprovalState, EvidenceNeed, Plan, Vote, canonical_json
from incidents.tables import ApprovalRow, VoteRow

_REASON_CHARS = 2000


@dataclass(frozen=True)
class Ballot:
    """What somebody sent. `digest` is the plan that they saw."""

    identity: str
    verdict: Literal["approve", "reject"]
    digest: str
    waive_evidence: bool
    channel: str
    reason: str | None


class Voting:
    """Counts votes. `approvers` maps identities to roles; an identity without a role is nobody."""

    def __init__(
        self,
        database: Database,
        *,
        approvers: Mapping[str, Collection[str]],
        allow_self_approval: bool,
        now: Callable[[], datetime] = utcnow,
    ) -> None:
        self._db = database
        self._approvers = approvers
        self._allow_self = allow_self_approval
        self._now = now
        self._audit = AuditLog(database, now=now)

    async def decide(self, approval_id: str, ballot: Ballot) -> Approval:
        """Record a vote; the answer holds the state it led to.

        Raises NotFound, Forbidden (not an approver, or the requester), Conflict (already decided, expired, voted
        otherwise before), Refused (another plan, a changed row, a clock that went back, missing evidence).
        """
        async with self._db.write() as session:
            row = await session.get(ApprovalRow, approval_id, with_for_update=True)
            try:
                if row is None:
                    raise NotFound(f"no approval {approval_id!r}")
                return await self._count(session, row, ballot)
            except ParamedicError as error:
                refusal = error
                await self._note(session, row, approval_id, ballot, "vote.refused", {"why": str(error)})
        raise refusal

    async def _count(self, session: AsyncSession, row: ApprovalRow, ballot: Ballot) -> Approval:
        if not self._approvers.get(ballot.identity):
            raise Forbidden(f"{ballot.identity} is not an approver")
        votes = list(await votes_of(session, row.id))
        mine = next((vote for vote in votes if vote.identity == ballot.identity), None)
        if mine is not None:
            same = (mine.verdict, mine.digest, mine.waive_evidence)
            if same != (ballot.verdict, ballot.digest, ballot.waive_evidence):
                raise Conflict(f"{ballot.identity} voted already: {mine.verdict}")
            return approval_of(row, votes)  # pressed twice
        now = self._now()
        if row.state != ApprovalState.PENDING.value:
            raise Conflict(f"approval {row.id} is {row.state}")
        if row.issued_at > now:
            raise Refused("the approval was issued in the future: the clock went back; nothing is decided")
        if row.expires_at <= now:
            await expire(session, self._audit, row)
            raise Conflict(f"approval {row.id} expired at {row.expires_at.isoformat(timespec='seconds')}")
        plan = intact_plan(row)
        if ballot.digest != row.digest:
            raise Refused("the vote is about another plan than this approval's")
        itself = ballot.identity in (row.requested_by, plan.requested_by)
        if itself and ballot.verdict == "approve" and not self._allow_self:
            raise Forbidden(f"{ballot.identity} asked for this action and so cannot approve it")
        vote = VoteRow(
            approval_id=row.id,
            identity=ballot.identity,
            verdict=ballot.verdict,
            digest=ballot.digest,
            waive_evidence=ballot.waive_evidence,
            channel=ballot.channel,
            reason=ballot.reason[:_REASON_CHARS] if ballot.reason else None,
            at=now,
        )
        approvals = [item for item in [*votes, vote] if item.verdict == "approve"]
        complete = len({item.identity for item in approvals}) >= plan.quorum
        waived = any(item.waive_evidence for item in approvals)
        if ballot.verdict == "approve" and complete and not waived and evidence_missing(plan):
            raise Refused("the core is not captured yet: wait for it, or approve and waive the evidence")
        session.add(vote)
        await session.flush()
        if ballot.verdict == "reject":
            row.state, row.outcome = ApprovalState.REJECTED.value, f"rejected by {ballot.identity}"
        elif complete:
            row.state = ApprovalState.APPROVED.value
        await self._note(session, row, row.id, ballot, "vote.counted", {"state": row.state, "self_approval": itself})
        return approval_of(row, [*votes, vote])

    async def _note(
        self,
        session: AsyncSession,
        row: ApprovalRow | None,
        approval_id: str,
        ballot: Ballot,
        action: str,
        data: dict[str, object],
    ) -> None:
        about = {
            "verdict": ballot.verdict,
            "digest": ballot.digest[:64],
            "channel": ballot.channel[:32],
            "waive_evidence": ballot.waive_evidence,
        }
        await self._audit.append_in(
            session,
            ballot.identity,
            action,
            incident_id=row.incident_id if row else None,
            approval_id=approval_id,
            data=about | data,
        )


def intact_plan(row: ApprovalRow) -> Plan:
    """The row's plan. Raises Refused unless the stored bytes are those whose digest was approved."""
    try:
        plan = Plan.model_validate(row.plan)
    except ValidationError:
        raise Refused(f"the stored plan of approval {row.id} was changed") from None
    stored = hashlib.sha256(canonical_json(row.plan)).hexdigest()
    if not stored == plan.digest() == row.digest or row.quorum != plan.quorum:
        raise Refused(f"the stored plan of approval {row.id} was changed")
    return plan


def require_intact(approval: Approval) -> None:
    """Raises Refused unless the approval's plan is the one that its digest, and so every vote, is about."""
    plan = approval.plan
    bound = (approval.digest, approval.quorum, approval.requested_by, approval.incident_id)
    if bound != (plan.digest(), plan.quorum, plan.requested_by, plan.incident_id):
        raise Refused(f"the stored plan of approval {approval.id} was changed")


def evidence_missing(plan: Plan) -> bool:
    """Whether a core was needed and none was captured, complete and hashed."""
    return plan.evidence_need is EvidenceNeed.CORE and plan.evidence_sha256 is None


def require_quorum(
    plan: Plan, digest: str, votes: Collection[Vote], *, approvers: Mapping[str, Collection[str]]
) -> None:
    """Count the votes again, as the executor does before it acts. Raises Refused."""
    counted = [vote for vote in votes if vote.digest == digest and approvers.get(vote.identity)]
    if any(vote.verdict == "reject" for vote in counted):
        raise Refused("an approver rejected it")
    yes = [vote for vote in counted if vote.verdict == "approve"]
    if len({vote.identity for vote in yes}) < plan.quorum:
        raise Refused(f"it needs {plan.quorum} approver(s) and has {len(yes)}")
    if evidence_missing(plan) and not any(vote.waive_evidence for vote in yes):
        raise Refused("the core is not captured, and no approver waived it")
