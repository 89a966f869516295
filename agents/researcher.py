"""The researcher: what the cluster shows about an incident's target."""

from __future__ import annotations

import asyncio

from agents.beside import Beside
from agents.recall import Recall
from diagnosis.workloads.diagnose import diagnose
from diagnosis.workloads.snapshot import Snapshot
from errors import NotFound, ToolFailed
from incidents.models import Cause, Diagnosis, DiagnosisStatus, Incident, ObjectRef
from incidents.past_steps import PastSteps
from incidents.store import IncidentStore
from tools.kubernetes.capture import capture
from tools.kubernetes.client import Cluster
from tools.llm.models import Models
from tools.prometheus.measure import Monitoring
from tools.runbooks.library import Runbooks
from tools.searxng.client import SearxNG


class Researcher:
    """Takes one snapshot of the target's namespace, applies the rules, and lets a model read when there is one."""

    def __init__(
        self,
        incidents: IncidentStore,
        cluster: Cluster,
        models: Models | None,
        monitoring: Monitoring | None = None,
        runbooks: Runbooks | None = None,
        web: SearxNG | None = None,
        recall: Recall | None = None,
        past: PastSteps | None = None,
    ) -> None:
        self._incidents = incidents
        self._cluster = cluster
        self._monitoring = monitoring
        self._beside = Beside(models, runbooks, web, recall, past)

    async def run(self, incident: Incident) -> Diagnosis:
        """Diagnose the incident's target. A cluster that cannot be read gives a failed diagnosis that says why."""
        namespace = incident.target.namespace or "default"
        try:
            found, snapshot = await self._look(incident, namespace)
        except (ToolFailed, NotFound) as error:
            return Diagnosis(status=DiagnosisStatus.FAILED, unseen=[f"the cluster could not be read: {error}"])

        async def report(text: str, type: str = "tool.called", data: dict[str, object] | None = None) -> None:
            await self._incidents.add_step(incident.id, type, text, agent="researcher", data=data)

        found = await self._beside.read(incident, found, snapshot, cluster=self._cluster, report=report)
        await self._incidents.save_evidence(incident.id, found.evidence)
        return found

    async def _look(self, incident: Incident, namespace: str) -> tuple[Diagnosis, Snapshot]:
        target = incident.target
        release = target if target.kind == "HelmRelease" else None
        snapshot = await capture(self._cluster, namespace, None if release else target, self._monitoring)
        # rules over a thousand pods take a second: not in the event loop
        found = await asyncio.to_thread(
            diagnose, snapshot, target=None if release else target, namespace=namespace, symptom=incident.event
        )
        return found if release is None else _of_release(found, snapshot, release), snapshot


def _of_release(found: Diagnosis, snapshot: Snapshot, release: ObjectRef) -> Diagnosis:
    """Only what concerns the objects of one helm release (by helm's own ownership annotation)."""
    facts = {"helm_release": release.name, "helm_namespace": release.namespace}
    causes = [
        cause.model_copy(update={"facts": {**cause.facts, **facts}})
        for cause in found.causes
        if _belongs(snapshot, cause, release)
    ]
    cited = {finding_id for cause in causes for finding_id in cause.finding_ids}
    findings = [finding for finding in found.findings if finding.id in cited]
    seen = {evidence_id for finding in findings for evidence_id in finding.evidence_ids}
    status = DiagnosisStatus.HEALTHY if found.causes and not causes else found.status
    return found.model_copy(
        update={
            "causes": causes,
            "findings": findings,
            "evidence": [item for item in found.evidence if item.id in seen],
            "status": status,
        }
    )


def _belongs(snapshot: Snapshot, cause: Cause, release: ObjectRef) -> bool:
    if cause.facts.get("helm_release") == release.name:
        return True
    found = snapshot.get(cause.object.kind, cause.object.namespace, cause.object.name) or {}
    annotations = (found.get("metadata") or {}).get("annotations") or {}
    return bool(annotations.get("meta.helm.sh/release-name") == release.name)
