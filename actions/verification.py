"""Watching after the write: did it help within a fixed budget, does it last, and did it hurt anything else?

Good is: rolled out, every new pod ready, no restart of a watched container and no core signal for
`verify_stable_seconds` on end (longer, up to the budget, where a failing liveness probe would need longer to restart a
container), neighbours no worse. It is over early when the new pods crash the same way again.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

from actions.baseline import Baseline, worse_neighbours
from actions.effects.choose import Effects
from actions.health import Health, look_at
from actions.objects import API_VERSIONS, controller_of, generation, spec_sha256, uid
from actions.sending import decode
from actions.switches import SWITCHES, look_at_switch
from diagnosis.merge import CODE_FAULTS
from errors import NotFound, ToolFailed
from incidents.models import Fact
from incidents.plan import DeleteWrite, Execution, HelmWrite, PatchWrite, Plan, Verification
from settings import GateSettings
from tools.helm.manifest import WORKLOADS, is_kept, manifest_objects, name_of, namespace_of
from tools.kubernetes.client import Object

_SAME_CRASH = 2
"""So many restarts of one watched container say that the new pods crash as the old ones did."""


@dataclass
class Seen:
    """One round of looking."""

    good: bool
    detail: str
    failed: str | None = None
    restarts: int = 0
    probe_seconds: float = 0.0
    checks: dict[str, Fact] = field(default_factory=dict)


class Verifier:
    def __init__(self, settings: GateSettings, effects: Effects) -> None:
        self._settings = settings
        self._effects = effects
        self._cluster = effects.cluster

    async def watch(self, plan: Plan, journal: Execution) -> Verification:
        """Watch until it is good, over, or the budget is used up. Raises the tools' errors when it could not look."""
        loop, settings = asyncio.get_running_loop(), self._settings
        deadline = loop.time() + settings.verify_seconds
        baseline = Baseline.decode(journal.detail["baseline"])
        since: float | None = None
        restarts = 0
        while True:
            failure: ToolFailed | None = None
            try:
                seen = await self._look(plan, journal, baseline)
                worse = await worse_neighbours(self._cluster, plan, baseline) if seen.good else []
            except ToolFailed as error:
                failure, since = error, None
            else:
                if seen.failed:
                    return _verdict(False, seen.failed, seen)
                if worse:
                    seen.good, seen.detail = False, f"{', '.join(worse)} got worse"
                if not seen.good or seen.restarts > restarts:
                    since, restarts = None, seen.restarts
                elif since is None:
                    since = loop.time()
                # a probe that is still wrong restarts nothing before its patience is over
                patience = max(settings.verify_stable_seconds, min(seen.probe_seconds, settings.verify_seconds))
                if since is not None and loop.time() - since >= patience:
                    return _verdict(True, f"{seen.detail}, without a restart for {patience:g} s", seen)
            if loop.time() >= deadline and since is None:  # what has become good in time is watched to the end
                if failure:
                    raise failure
                why = "restarts go on" if seen.good else seen.detail
                return _verdict(False, f"not good after {settings.verify_seconds:g} s: {why}", seen)
            await asyncio.sleep(settings.verify_poll_seconds)

    async def _look(self, plan: Plan, journal: Execution, baseline: Baseline) -> Seen:
        first = plan.writes[0]
        if isinstance(first, HelmWrite):
            try:
                if first.verb == "uninstall":
                    return await self._uninstalled(first)
                return await self._released(plan, first, baseline)
            except NotFound as error:
                return Seen(False, "", failed=str(error))
        if isinstance(first, DeleteWrite):
            return await self._replaced(plan, first, baseline)
        return await self._rolled_out(plan, first, journal, baseline)

    async def _rolled_out(self, plan: Plan, write: PatchWrite, journal: Execution, baseline: Baseline) -> Seen:
        live = await self._cluster.get(write.api_version, write.kind, write.namespace, write.name)
        if live is None or uid(live) != write.uid:
            return Seen(False, "", failed=f"{write.kind} {write.name} is gone")
        left = decode(journal.detail["expected"])[0]
        moved = generation(live) != journal.post_generation
        if moved or (not write.generation and spec_sha256(live) != left["spec"]):
            return Seen(False, "", failed=f"{write.kind} {write.name} was edited by somebody else meanwhile")
        if write.kind in SWITCHES:
            return self._judge(plan, [await look_at_switch(self._cluster, live)])
        return self._judge(plan, [await self._health(plan, live, baseline)])

    async def _replaced(self, plan: Plan, write: DeleteWrite, baseline: Baseline) -> Seen:
        """The pod of the old uid is gone, and its controller has all its pods again."""
        live = await self._cluster.get(write.api_version, write.kind, write.namespace, write.name)
        if live is not None and uid(live) == write.uid:
            return Seen(False, f"{write.kind} {write.name} is still ending")
        owner = controller_of({"metadata": _preimage_metadata(plan)})
        if owner is None or owner["kind"] not in API_VERSIONS:
            return Seen(False, "", failed=f"the controller of {write.name} is not known")
        controller = await self._cluster.get(API_VERSIONS[owner["kind"]], owner["kind"], write.namespace, owner["name"])
        if controller is None or uid(controller) != owner["uid"]:
            return Seen(False, "", failed=f"{owner['kind']} {owner['name']} is gone")
        return self._judge(plan, [await self._health(plan, controller, baseline)])

    async def _released(self, plan: Plan, write: HelmWrite, baseline: Baseline) -> Seen:
        helm = self._effects.helm
        assert helm is not None
        current = await helm.status(write.namespace, write.release)
        name = f"helm release {write.release}"
        if current.number != write.revision + 1:
            return Seen(False, "", failed=f"{name} is at revision {current.number}: somebody else moved it")
        if current.status != "deployed":
            return Seen(False, "", failed=f"{name} is {current.status}: {current.description[:200]}")
        manifest = await helm.get("manifest", write.namespace, write.release, current.number)
        looks: list[Health] = []
        for item in manifest_objects(manifest):
            if item["kind"] in WORKLOADS:
                live = await self._live(item, write.namespace)
                if live is None:
                    return Seen(False, f"{name_of(item)} is not there yet")
                looks.append(await self._health(plan, live, baseline))
        return self._judge(plan, looks)

    async def _uninstalled(self, write: HelmWrite) -> Seen:
        helm = self._effects.helm
        assert helm is not None
        current = await helm.status(write.namespace, write.release)
        if current.status != "uninstalled":
            return Seen(False, f"helm release {write.release} is {current.status}")
        manifest = await helm.get("manifest", write.namespace, write.release, write.revision)
        objects = [item for item in manifest_objects(manifest) if not is_kept(item)]
        left = [name_of(item) for item in objects if await self._live(item, write.namespace)]
        if left:
            return Seen(False, f"{', '.join(left[:3])} still there")
        return Seen(True, f"all {len(objects)} object(s) are gone", checks={"objects": len(objects)})

    async def _health(self, plan: Plan, workload: Object, baseline: Baseline) -> Health:
        return await look_at(self._cluster, workload, containers=plan.containers, restarts_before=baseline.restarts)

    async def _live(self, item: Object, namespace: str) -> Object | None:
        where = namespace_of(item, namespace)
        return await self._cluster.get(str(item["apiVersion"]), str(item["kind"]), where, str(item["metadata"]["name"]))

    def _judge(self, plan: Plan, looks: list[Health]) -> Seen:
        """All workloads of the plan together. A release without workloads is good as soon as it is deployed."""
        waiting = [look.detail for look in looks if not look.settled]
        seen = Seen(
            good=not waiting,
            detail=waiting[0] if waiting else "; ".join(look.detail for look in looks) or "deployed",
            restarts=sum(look.restarts for look in looks),
            probe_seconds=max((look.probe_seconds for look in looks), default=0.0),
        )
        signals = sum(look.core_signals for look in looks)
        seen.checks = {"restarts": seen.restarts, "core_signals": signals, "pods": sum(look.pods for look in looks)}
        if signals and plan.cause_class in CODE_FAULTS:
            seen.failed = "the new pods crash by a signal again"
        elif max((look.most_restarts for look in looks), default=0) >= _SAME_CRASH:
            seen.failed = f"the new pods crash again: {seen.restarts} restart(s)"
        elif hopeless := next((look.hopeless for look in looks if look.hopeless), None):
            seen.failed = hopeless
        return seen


def _preimage_metadata(plan: Plan) -> dict[str, object]:
    found: dict[str, dict[str, object]] = json.loads(plan.preimage)
    return found.get("metadata") or {}


def _verdict(ok: bool, summary: str, seen: Seen) -> Verification:
    return Verification(ok=ok, summary=summary, checks=seen.checks)
