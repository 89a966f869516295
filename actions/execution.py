"""Executing an approved plan: exactly one attempt, in a fixed order (the gate's algorithm).

kill switch and rate limit → lock on the target → the row as the database has it, its digest, its votes, policy,
executor and cluster → claim → the target as it was approved → evidence → the dry run once more, equal to the approved
one → undo record → write → journal. Whatever does not hold ends the approval as `stale` with zero writes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime

from actions.baseline import Baseline, baseline_of
from actions.dependencies import look_up
from actions.effects.base import Look, Rehearsal
from actions.effects.choose import Effects
from actions.effects.helm import undo_record
from actions.journal import Journal
from actions.planning import joined_diff
from actions.policy import policy_version, require_switched_on, require_writable
from actions.sending import Marks, Unknown, decode, encode, send_once, settled_look
from errors import Refused, Stale, ToolFailed
from incidents.approvals import ApprovalStore
from incidents.locks import Lease
from incidents.models import Fact
from incidents.plan import EXECUTOR_VERSION, Approval, ApprovalState, Execution, HelmWrite, Plan
from incidents.voting import require_intact, require_quorum
from settings import GateSettings

_BEFORE_WRITING = (ApprovalState.CLAIMED,)
_WRITING = (ApprovalState.CLAIMED, ApprovalState.EXECUTING)


class Executor:
    def __init__(
        self,
        settings: GateSettings,
        effects: Effects,
        approvals: ApprovalStore,
        journal: Journal,
        *,
        now: Callable[[], datetime],
        lease_seconds: float,
    ) -> None:
        self._settings = settings
        self._effects = effects
        self._approvals = approvals
        self._journal = journal
        self._now = now
        self._lease_seconds = lease_seconds

    async def execute(self, approval: Approval, lease: Lease) -> Approval:
        """Begin or continue, under the target's lock. Returns the approval as `verifying`, `stale` or `failed`.

        Raises ClusterUnreachable when a write was sent and the cluster cannot be seen: call again later.
        """
        try:
            if approval.state is ApprovalState.APPROVED:
                require_switched_on(self._settings)
                await self._journal.claim(approval, max_per_hour=self._settings.max_executions_per_hour)
            await self._carry_on(approval, lease)
        except Unknown as error:
            return await self._end(approval, ApprovalState.FAILED, f"{error}; a person has to look")
        except Refused as error:
            return await self._end(approval, ApprovalState.STALE, f"{error}; nothing was written")
        return await self._approvals.get(approval.id)

    async def _carry_on(self, approval: Approval, lease: Lease) -> None:
        """From wherever the journal stands."""
        journal = await self._read(approval)
        if "attempts:0" not in journal.detail:  # nothing was sent yet
            try:
                await self._prepare(approval)
            except ToolFailed as error:
                raise Stale(f"the last look at the target failed: {error}") from error
            journal = await self._read(approval)
        outcomes = decode(journal.detail["expected"])
        done = int(str(journal.detail.get("written", 0)))
        for number in range(done, len(approval.plan.writes)):
            await self._write(approval, number, outcomes, lease)

    async def _prepare(self, approval: Approval) -> None:
        """The last look. Everything that is checked here is checked before the first write. Raises Refused."""
        await self._require_valid(approval)
        plan = approval.plan
        effects = [self._effects.of(write) for write in plan.writes]
        for effect in effects:
            await effect.require_unchanged()
        rehearsals = [await effect.rehearse() for effect in effects]
        await self._require_as_approved(plan, rehearsals)
        baseline = await baseline_of(self._effects.cluster, plan)
        await self._journal.record(
            approval,
            "undo_recorded",
            state=ApprovalState.CLAIMED,
            expected=_BEFORE_WRITING,
            audit={"preimage_sha256": hashlib.sha256(plan.preimage.encode()).hexdigest()},
            detail=await self._undo_record(plan, rehearsals, baseline),
        )

    async def _undo_record(self, plan: Plan, rehearsals: Sequence[Rehearsal], baseline: Baseline) -> dict[str, Fact]:
        record: dict[str, Fact] = {
            "expected": encode([item.expected for item in rehearsals]),
            "baseline": baseline.encode(),
        }
        first = plan.writes[0]
        if isinstance(first, HelmWrite):
            assert self._effects.helm is not None
            record["release"] = await undo_record(self._effects.helm, first)
        return record

    async def _write(self, approval: Approval, number: int, outcomes: list[dict[str, Fact]], lease: Lease) -> None:
        effect = self._effects.of(approval.plan.writes[number])
        journal = await self._read(approval)
        attempts = int(str(journal.detail.get(f"attempts:{number}", 0)))

        async def confirm() -> None:
            await lease.extend(self._lease_seconds)

        async def sending(attempt: int) -> None:
            await self._journal.record(
                approval,
                f"applying:{number}",
                state=ApprovalState.EXECUTING,
                expected=_WRITING,
                audit={"attempt": attempt},
                detail={f"attempts:{number}": attempt},
            )

        try:
            reached = await send_once(
                effect,
                outcomes[number],
                Marks(confirm, sending),
                attempts=attempts,
                may_send=not self._settings.kill_switch,
            )
        except Stale as error:
            if not number:
                raise
            look, reached = await settled_look(effect, outcomes[number])
            if look is not Look.AFTER:  # a pod that went by itself is as good as deleted
                raise Unknown(f"write {number + 1} of {len(approval.plan.writes)} was not made: {error}") from error
        if any(reached.get(key, value) != value for key, value in outcomes[number].items()):
            raise Unknown("the server made something else of the write than its dry run said")
        last = number + 1 == len(approval.plan.writes)
        generation = reached.get("generation")
        await self._journal.record(
            approval,
            f"applied:{number}",
            state=ApprovalState.VERIFYING if last else ApprovalState.EXECUTING,
            expected=_WRITING,
            post_generation=int(generation) if isinstance(generation, int) else None,
            detail={"written": number + 1},
        )

    async def _require_valid(self, approval: Approval) -> None:
        """Kill switch, clock, digest, votes, policy, executor, cluster, namespace. Raises Refused."""
        plan, now = approval.plan, self._now()
        require_switched_on(self._settings)
        if approval.issued_at > now:
            raise Stale("the approval was issued in the future: the clock went back")
        if approval.expires_at <= now:
            raise Stale("the approval's time is over")
        require_intact(approval)
        require_quorum(plan, approval.digest, approval.votes, approvers=self._settings.approvers)
        if plan.policy_version != policy_version(self._settings):
            raise Stale("the policy was changed since the plan was made")
        if plan.executor_version != EXECUTOR_VERSION:
            raise Stale("the plan was made for another version of the executor")
        if plan.cluster_id != await self._effects.cluster.cluster_id():
            raise Stale("the plan was made for another cluster")
        for write in [*plan.writes, *plan.inverse]:
            require_writable(
                self._settings, "HelmRelease" if isinstance(write, HelmWrite) else write.kind, write.namespace
            )

    async def _require_as_approved(self, plan: Plan, rehearsals: Sequence[Rehearsal]) -> None:
        if joined_diff(rehearsals) != plan.diff:
            raise Stale("the server's dry run now says something else than the diff that was approved")
        templates = [template for rehearsal in rehearsals for template in rehearsal.templates]
        namespace = plan.writes[0].namespace
        found = await look_up(self._effects.cluster, namespace, templates)
        if found.digest != plan.deps_digest:
            raise Stale("a ConfigMap, Secret or image that the pods refer to was changed")

    async def _read(self, approval: Approval) -> Execution:
        journal = await self._journal.read(approval.id)
        if journal is None:
            raise Unknown(f"approval {approval.id} is {approval.state.value} and has no journal")
        return journal

    async def _end(self, approval: Approval, state: ApprovalState, outcome: str) -> Approval:
        return await self._approvals.settle(
            approval.id, state, outcome=outcome, expected=(ApprovalState.APPROVED, *_WRITING)
        )
