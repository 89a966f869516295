"""Taking an applied plan back: only while the state is still ours, and proved equal to what was before.

The inverse was part of what was approved. It is journaled and sent like the write itself, so that a process killed
here ends with exactly one undo too.
"""

from __future__ import annotations

import asyncio
import json

from actions.baseline import WORKLOADS
from actions.effects.base import Expected, Look
from actions.effects.choose import Effects
from actions.effects.patch import name_of
from actions.journal import Journal
from actions.objects import generation, normalise, spec_sha256
from actions.policy import require_switched_on
from actions.sending import Marks, Unknown, decode, send_once, settled_look
from errors import NotFound, Refused, Stale, ToolFailed
from incidents.approvals import ApprovalStore
from incidents.locks import Lease
from incidents.plan import Approval, ApprovalState, Execution, HelmWrite, PatchWrite, Write
from settings import GateSettings
from tools.helm.client import sha256
from tools.kubernetes.client import Object

_UNDOABLE = (ApprovalState.VERIFYING,)


class Undoer:
    def __init__(
        self, settings: GateSettings, effects: Effects, approvals: ApprovalStore, journal: Journal, lease_seconds: float
    ) -> None:
        self._settings = settings
        self._effects = effects
        self._cluster = effects.cluster
        self._approvals = approvals
        self._journal = journal
        self._lease_seconds = lease_seconds

    async def undo(self, approval: Approval, lease: Lease) -> Approval:
        """Begin or continue. Returns the approval as `undone`, or as `failed` with the reason: a person has to look.

        Raises ClusterUnreachable when the inverse was sent and the cluster cannot be seen: call again later.
        """
        plan = approval.plan
        try:
            if not plan.inverse:
                raise Refused("it cannot be undone")
            journal = await self._read(approval)
            done = int(str(journal.detail.get("undone", 0)))
            for number in range(done, len(plan.inverse)):
                await self._write_back(approval, number, journal, lease)
            proof = await self._prove(approval)
        except (Refused, Unknown, NotFound) as error:
            return await self._end(approval, ApprovalState.FAILED, f"not undone: {error}; a person has to look")
        return await self._end(approval, ApprovalState.UNDONE, proof)

    async def _write_back(self, approval: Approval, number: int, journal: Execution, lease: Lease) -> None:
        write = approval.plan.inverse[number]
        effect = self._effects.of(write)
        attempts = int(str(journal.detail.get(f"undo_attempts:{number}", 0)))
        if not attempts:
            require_switched_on(self._settings)
            await self._require_ours(approval, journal)
        expected = self._expected(approval, write)

        async def confirm() -> None:
            await lease.extend(self._lease_seconds)

        async def sending(attempt: int) -> None:
            await self._record(approval, f"undoing:{number}", {f"undo_attempts:{number}": attempt}, expected)

        try:
            await send_once(
                effect, expected, Marks(confirm, sending), attempts=attempts, may_send=not self._settings.kill_switch
            )
        except Stale as error:
            raise Refused(str(error)) from error
        await self._record(approval, f"undone:{number}", {"undone": number + 1}, expected)

    async def _require_ours(self, approval: Approval, journal: Execution) -> None:
        """Raises Refused unless the target is exactly as our first write left it; others only delete pods."""
        left = decode(journal.detail["expected"])[0]
        applied = self._effects.of(approval.plan.writes[0])
        look, seen = await settled_look(applied, left)
        ours = all(seen.get(key) == value for key, value in left.items() if key in seen)
        if look is not Look.AFTER or not ours:
            raise Refused("the target was changed by somebody else since, and is left as it is")

    def _expected(self, approval: Approval, write: Write) -> Expected:
        """What the inverse makes of the target: the pre-image's spec, one generation on; or one revision on."""
        if isinstance(write, PatchWrite):
            moved = write.generation + 1 if write.generation else 0
            return {"generation": moved, "spec": spec_sha256(json.loads(approval.plan.preimage))}
        if isinstance(write, HelmWrite):
            return {"revision": write.revision + 1}
        raise Refused("a deletion cannot be undone")

    async def _prove(self, approval: Approval) -> str:
        """Wait until the controllers saw the undo, and compare with the pre-image. Raises Refused."""
        first = approval.plan.inverse[0]
        if isinstance(first, PatchWrite):
            live = await self._observed(first)
            before = json.loads(approval.plan.preimage)
            if normalise(live)["spec"] != before["spec"]:
                raise Refused("it was undone, and the spec is not what it was before")
            return f"undone: the spec of {name_of(first)} is equal to before"
        assert isinstance(first, HelmWrite)
        helm = self._effects.helm
        assert helm is not None
        current = await helm.status(first.namespace, first.release)
        values = await helm.get("values", first.namespace, first.release, current.number)
        manifest = await helm.get("manifest", first.namespace, first.release, current.number)
        if current.status != "deployed":
            raise Refused(f"the release is {current.status} after the undo")
        if (sha256(values), sha256(manifest)) != (first.values_sha256, first.manifest_sha256):
            raise Refused("it was undone, and values or manifest are not what they were before")
        return f"undone: values and manifest of helm release {first.release} are equal to before"

    async def _observed(self, write: PatchWrite) -> Object:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._settings.verify_seconds
        while True:
            failure: ToolFailed | None = None
            try:
                live = await self._cluster.get(write.api_version, write.kind, write.namespace, write.name)
                if live is None:
                    raise Refused("the target is gone")
                seen = int((live.get("status") or {}).get("observedGeneration") or 0)
                if write.kind not in WORKLOADS or seen >= generation(live):  # others tell no observedGeneration
                    return live
            except ToolFailed as error:
                failure = error
            if loop.time() >= give_up:
                raise failure or Refused("it was undone, and its controller has not seen that yet")
            await asyncio.sleep(self._settings.verify_poll_seconds)

    async def _record(self, approval: Approval, step: str, detail: dict[str, int], expected: Expected) -> None:
        await self._journal.record(
            approval,
            step,
            state=ApprovalState.VERIFYING,
            expected=_UNDOABLE,
            audit={"goal": expected},
            detail=dict(detail),
        )

    async def _read(self, approval: Approval) -> Execution:
        journal = await self._journal.read(approval.id)
        if journal is None:
            raise Unknown(f"approval {approval.id} has no journal")
        return journal

    async def _end(self, approval: Approval, state: ApprovalState, outcome: str) -> Approval:
        return await self._approvals.settle(approval.id, state, outcome=outcome, expected=_UNDOABLE)
