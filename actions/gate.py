"""The gate: the only way from a wish to a change of the cluster.

plan → request → decide (people) → execute → verify → undo. Each of the last three can be called again after the
process was killed at any point, and has its effect at most once. The database row of the approval is the only truth.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Literal

from sqlalchemy.exc import SQLAlchemyError

from actions.effects.choose import Effects
from actions.execution import Executor
from actions.journal import Journal
from actions.planning import Planner
from actions.policy import policy_version
from actions.undoing import Undoer
from actions.verification import Verifier
from errors import Conflict, Stale, ToolFailed
from incidents.approvals import ApprovalStore
from incidents.audit import AuditLog
from incidents.database import Database, utcnow
from incidents.locks import Lease, Locks
from incidents.models import Diagnosis, Incident
from incidents.plan import Action, Approval, ApprovalState, EvidenceNeed, HelmWrite, Plan, Verification
from incidents.voting import Ballot, Voting
from settings import GateSettings
from tools.helm.client import Helm
from tools.kubernetes.client import Cluster

LEASE_SECONDS = 15.0
"""So long a killed process keeps its target locked."""

_LOCK_WAIT_SECONDS = 4 * LEASE_SECONDS

_STARTED = (ApprovalState.APPROVED, ApprovalState.CLAIMED, ApprovalState.EXECUTING)


class Gate:
    """One cluster's gate. All methods raise ToolFailed when the database or the cluster does not answer."""

    def __init__(
        self,
        database: Database,
        settings: GateSettings,
        cluster: Cluster,
        helm: Helm | None,
        *,
        now: Callable[[], datetime] = utcnow,
        lease_seconds: float = LEASE_SECONDS,
        on_step: Callable[[str], None] | None = None,
    ) -> None:
        self._settings = settings
        self._lease_seconds = lease_seconds
        self._now = now
        effects = Effects(cluster, helm)
        self._approvals = ApprovalStore(database, now=now)
        self._voting = Voting(
            database, approvers=settings.approvers, allow_self_approval=settings.allow_self_approval, now=now
        )
        self._audit = AuditLog(database, now=now)
        self._locks = Locks(database, now=now)
        self._journal = Journal(database, self._approvals, now=now, on_step=on_step)
        self._planner = Planner(settings, effects, now)
        self._executor = Executor(
            settings, effects, self._approvals, self._journal, now=now, lease_seconds=lease_seconds
        )
        self._verifier = Verifier(settings, effects)
        self._undoer = Undoer(settings, effects, self._approvals, self._journal, lease_seconds)
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._waiting: Counter[str] = Counter()

    async def plan(
        self,
        incident: Incident,
        action: Action,
        diagnosis: Diagnosis,
        *,
        evidence_need: EvidenceNeed,
        evidence_sha256: str | None,
    ) -> Plan:
        """Make an action exact and preview it on the server. Nothing is written.

        Raises Refused with the reason; Managed when GitOps, helm or an operator owns the target.
        """
        return await self._planner.plan(
            incident, action, diagnosis, evidence_need=evidence_need, evidence_sha256=evidence_sha256
        )

    async def request(self, plan: Plan) -> Approval:
        """Ask for approval. The same plan is asked for once; it supersedes pending ones about its target.

        Raises Stale for a plan that was made under another policy.
        """
        if plan.policy_version != policy_version(self._settings):
            raise Stale("the policy was changed since the plan was made")
        async with _database_errors():
            return await self._approvals.request(
                plan, target_key=target_key(plan), seconds=self._settings.approval_seconds
            )

    async def decide(
        self,
        approval_id: str,
        *,
        identity: str,
        verdict: Literal["approve", "reject"],
        digest: str,
        waive_evidence: bool,
        channel: str,
        reason: str | None,
    ) -> Approval:
        """Count a vote. Raises NotFound, Forbidden, Conflict, Refused; a refused vote is in the audit log too."""
        ballot = Ballot(identity, verdict, digest, waive_evidence, channel, reason)
        async with _database_errors():
            return await self._voting.decide(approval_id, ballot)

    async def execute(self, approval_id: str) -> Approval:
        """Carry an approved plan out, exactly once. Returns it as `verifying`, `stale` (nothing was written) or
        `failed` (not certain: a person has to look); what is over already is returned as it is.

        Raises Conflict while it is not decided, or when another process works on it; ClusterUnreachable when a write
        was sent and its effect cannot be seen: call again later.
        """
        async with self._turn(approval_id), _database_errors():
            approval = await self._approvals.get(approval_id)
            if approval.state is ApprovalState.PENDING:
                raise Conflict(f"approval {approval_id} is not decided yet")
            if approval.state not in _STARTED:
                return approval
            async with self._locked(approval_id) as lease:
                approval = await self._approvals.get(approval_id)
                if approval.state not in _STARTED:
                    return approval
                return await self._executor.execute(approval, lease)

    async def verify(self, approval_id: str) -> Verification:
        """Watch whether it helped, within the budget of the policy. The first verdict stands.

        Good ends the approval as `done`; otherwise it stays `verifying`, to be undone. Raises Conflict when the plan
        was not executed, the tools' errors when the cluster could not be watched.
        """
        async with self._turn(approval_id), _database_errors():
            approval = await self._approvals.get(approval_id)
            journal = await self._journal.read(approval_id)
            if journal and "verification" in journal.detail:
                return Verification.model_validate_json(str(journal.detail["verification"]))
            if approval.state is not ApprovalState.VERIFYING or journal is None:
                raise Conflict(f"approval {approval_id} is {approval.state.value}: there is nothing to verify")
            verdict = await self._verifier.watch(approval.plan, journal)
            await self._journal.record(
                approval,
                "verified",
                state=ApprovalState.DONE if verdict.ok else ApprovalState.VERIFYING,
                expected=(ApprovalState.VERIFYING,),
                outcome=verdict.summary,
                audit={"ok": verdict.ok, "checks": dict(verdict.checks)},
                detail={"verification": json.dumps(verdict.model_dump(mode="json"))},
            )
            return verdict

    async def undo(self, approval_id: str) -> Approval:
        """Take an executed plan back. Returns it as `undone` (proved equal to before) or `failed`.

        Raises Conflict unless it was executed and did not end well, ClusterUnreachable as `execute`.
        """
        async with self._turn(approval_id), _database_errors():
            approval = await self._approvals.get(approval_id)
            if approval.state in (ApprovalState.UNDONE, ApprovalState.FAILED):
                return approval
            if approval.state is not ApprovalState.VERIFYING:
                raise Conflict(f"approval {approval_id} is {approval.state.value}: there is nothing to undo")
            async with self._locked(approval_id) as lease:
                return await self._undoer.undo(approval, lease)

    async def expire_due(self) -> list[Approval]:
        """End what nobody decided, or began, in time; return it."""
        async with _database_errors():
            return list(await self._approvals.expire_due())

    @asynccontextmanager
    async def _turn(self, approval_id: str) -> AsyncIterator[None]:
        """One call at a time for one approval, within this process."""
        lock = self._turns[approval_id]
        self._waiting[approval_id] += 1
        try:
            async with lock:
                yield
        finally:
            self._waiting[approval_id] -= 1
            if not self._waiting[approval_id]:
                del self._waiting[approval_id], self._turns[approval_id]

    @asynccontextmanager
    async def _locked(self, approval_id: str) -> AsyncIterator[Lease]:
        """The target's lock, for this call alone: a lease left by a killed process ends by itself."""
        name = await self._approvals.target_key(approval_id)
        owner = secrets.token_hex(16)
        lease = self._locks.lease(name, owner, seconds=self._lease_seconds, wait=_LOCK_WAIT_SECONDS)
        async with lease as held:
            yield held


def target_key(plan: Plan) -> str:
    """What a plan changes, as one string: the name of its lock, and what newer plans supersede it by."""
    first = plan.writes[0]
    if isinstance(first, HelmWrite):
        return f"{plan.cluster_id}/helm/{first.namespace}/{first.release}"
    return f"{plan.cluster_id}/{first.api_version}/{first.kind}/{first.namespace}/{first.name}"


@asynccontextmanager
async def _database_errors() -> AsyncIterator[None]:
    """A database that fails means no action, and one error of ours."""
    try:
        yield
    except SQLAlchemyError as error:
        raise ToolFailed(f"the database failed, so nothing is done: {type(error).__name__}") from error
