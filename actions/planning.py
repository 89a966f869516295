"""Making a plan: policy, ownership and observation first, then the exact writes, their preview and their inverse."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime

from actions.catalogue.derive import derive
from actions.catalogue.draft import Draft
from actions.catalogue.volumes import scratch_volumes
from actions.custom_resources import owners_change
from actions.dependencies import look_up
from actions.effects.base import Rehearsal
from actions.effects.choose import Effects
from actions.effects.patch import require_advances
from actions.objects import API_VERSIONS, fingerprint, generation, metadata, read_live, template_of
from actions.observed import require_observed, watched_containers
from actions.ownership import Managed, manager_of, require_unmanaged
from actions.patches import inverse_body
from actions.policy import policy_version, require_writable
from actions.preview import require_only
from errors import Refused, Stale
from incidents.models import Diagnosis, Incident, ObjectRef, Via, new_id
from incidents.plan import Action, DeletePod, EvidenceNeed, PatchWrite, Plan, Restart, Write, canonical_json
from settings import GateSettings
from tools.kubernetes.client import Object

_NEEDS_NO_PODS = "scale"


class Planner:
    def __init__(self, settings: GateSettings, effects: Effects, now: Callable[[], datetime]) -> None:
        self._settings = settings
        self._effects = effects
        self._cluster = effects.cluster
        self._now = now

    async def plan(
        self,
        incident: Incident,
        action: Action,
        diagnosis: Diagnosis,
        *,
        evidence_need: EvidenceNeed,
        evidence_sha256: str | None,
    ) -> Plan:
        """Derive the plan of one action. Nothing is written.

        Raises Refused with the reason (Managed when somebody else manages the target), or the tools' errors.
        """
        namespace = require_writable(self._settings, action.target.kind, action.target.namespace)
        live = await self._live(action.target)
        await require_observed(self._cluster, action.target, live, incident, diagnosis)
        if live is not None and evidence_need is EvidenceNeed.CORE and evidence_sha256 is None:
            _require_nothing_lost(action, live)
        now = self._now()
        draft = await derive(self._cluster, self._effects.helm, action, now)
        rehearsals = [await self._rehearse(action, draft, write, live) for write in draft.writes]
        dependencies = await look_up(self._cluster, namespace, _templates(rehearsals), _starting(rehearsals))
        scaled_away = action.type == _NEEDS_NO_PODS and draft.affected_pods > 0
        if dependencies.missing and not scaled_away:
            names = ", ".join(f"{item.kind} {item.name}" for item in dependencies.missing)
            raise Refused(f"new pods could not start: {names} is not there")
        inverse = _inverse(draft, rehearsals)
        cause = diagnosis.causes[0] if diagnosis.causes else None
        return Plan(
            id=new_id("pln"),
            incident_id=incident.id,
            action=action,
            title=draft.title,
            reason=_why(incident, diagnosis),
            cause_class=cause.cause_class.value if cause else None,
            writes=draft.writes,
            inverse=inverse,
            reversible=draft.reversible and bool(inverse),
            risk=draft.risk,
            blast_radius=draft.blast_radius,
            affected_pods=draft.affected_pods,
            quorum=draft.quorum,
            diff=joined_diff(rehearsals),
            preimage=canonical_json(draft.preimage).decode(),
            deps_digest=dependencies.digest,
            evidence_need=evidence_need,
            evidence_sha256=evidence_sha256,
            evidence_digest=hashlib.sha256(
                canonical_json(diagnosis.model_dump(mode="json", by_alias=True))
            ).hexdigest(),
            crash_signature=diagnosis.signature,
            containers=watched_containers(action.target, live, diagnosis, draft.containers) if live else [],
            policy_version=policy_version(self._settings),
            cluster_id=await self._cluster.cluster_id(),
            requested_by=incident.requested_by,
            created_at=now,
        )

    async def _live(self, target: ObjectRef) -> Object | None:
        """The live target; None for a helm release. Raises Refused when it does not exist or is of no known kind."""
        if target.kind == "HelmRelease":
            return None
        if target.kind not in API_VERSIONS:
            raise Refused(f"no action changes a {target.kind}")
        live = await read_live(self._cluster, target.kind, target.namespace, target.name)
        if live is None:
            raise Refused(f"{target} does not exist")
        return live

    async def _rehearse(self, action: Action, draft: Draft, write: Write, live: Object | None) -> Rehearsal:
        try:
            rehearsal = await self._effects.of(write).rehearse()
        except Stale as error:
            if live is not None and not isinstance(action, DeletePod):
                require_unmanaged(live, draft.title)
            raise Refused(str(error)) from error
        if isinstance(write, PatchWrite):
            assert rehearsal.before is not None
            assert rehearsal.after is not None
            manager = manager_of(rehearsal.before)
            if manager:
                change = None
                if manager.operator:
                    change = await owners_change(self._cluster, rehearsal.before, rehearsal.after)
                raise Managed(str(action.target), manager.name, change or rehearsal.diff, manager.advice)
            require_only(rehearsal.before, rehearsal.after, draft.allowed)
            require_advances(write, rehearsal)
        return rehearsal


def _why(incident: Incident, diagnosis: Diagnosis) -> str:
    """What an approver reads first: the likeliest cause; of a crash storm its count too, which is why it is asked."""
    cause = diagnosis.causes[0].summary if diagnosis.causes else None
    if incident.via is Via.POLICY:
        return f"{incident.event}. Cause: {cause or 'not known'}"
    return cause or "asked for"


def joined_diff(rehearsals: Sequence[Rehearsal]) -> str:
    """The text that is shown, and compared again before the write."""
    return "\n".join(rehearsal.diff for rehearsal in rehearsals)


def _require_nothing_lost(action: Action, live: Object) -> None:
    """Raises Refused when a mere restart would remove the only place where the missing core may be."""
    volumes = scratch_volumes(template_of(live)) if isinstance(action, Restart | DeletePod) else []
    if volumes:
        raise Refused(
            f"the core was not captured, and it may be in {', '.join(volumes)} (emptyDir), which goes with the pod: "
            "copy it out first"
        )


def _templates(rehearsals: list[Rehearsal]) -> list[Object]:
    return [template for rehearsal in rehearsals for template in rehearsal.templates]


def _starting(rehearsals: list[Rehearsal]) -> list[Object]:
    """What new pods are made from: the first write decides, later ones delete pods of the template before it."""
    first = rehearsals[0]
    return first.templates if first.starting is None else first.starting


def _inverse(draft: Draft, rehearsals: list[Rehearsal]) -> list[Write]:
    """The writes that take the plan back, last first."""
    if draft.inverse or not draft.reversible:
        return draft.inverse
    first, rehearsal = draft.writes[0], rehearsals[0]
    assert isinstance(first, PatchWrite)
    assert rehearsal.after is not None
    return [
        first.model_copy(
            update={
                "generation": generation(rehearsal.after),
                "resource_version": str(metadata(rehearsal.after).get("resourceVersion")),
                "fingerprint": fingerprint(rehearsal.after),
                "body": inverse_body(first.uid, rehearsal.after, draft.changes),
            }
        )
    ]
