"""The researcher: what the cluster shows about an incident's target."""

from __future__ import annotations

from agents.read_tools import cluster_tools
from agents.reading import read_with_model
from diagnosis.workloads.diagnose import diagnose
from diagnosis.workloads.snapshot import Snapshot
from errors import ToolFailed
from incidents.models import Cause, Diagnosis, DiagnosisStatus, Incident, ObjectRef
from incidents.store import IncidentStore
from tools.kubernetes.capture import capture
from tools.kubernetes.client import Cluster
from tools.llm.models import Models


class Researcher:
    """Takes one snapshot of the target's namespace, applies the rules, and lets a model read when there is one."""

    def __init__(self, incidents: IncidentStore, cluster: Cluster, models: Models | None) -> None:
        self._incidents = incidents
        self._cluster = cluster
        self._models = models

    async def run(self, incident: Incident) -> Diagnosis:
        """Diagnose the incident's target. A cluster that cannot be read gives a failed diagnosis that says why."""
        namespace = incident.target.namespace or "default"
        release = incident.target if incident.target.kind == "HelmRelease" else None
        try:
            snapshot = await capture(self._cluster, namespace, None if release else incident.target)
        except ToolFailed as error:
            return Diagnosis(status=DiagnosisStatus.FAILED, unseen=[f"the cluster could not be read: {error}"])
        if release is None:
            found = diagnose(snapshot, target=incident.target, namespace=namespace, symptom=incident.event)
        else:
            found = _of_release(diagnose(snapshot, namespace=namespace, symptom=incident.event), snapshot, release)

        async def report(text: str) -> None:
            await self._incidents.add_step(incident.id, "tool.called", text, agent="researcher")

        found = await read_with_model(
            self._models,
            agent="researcher",
            incident=incident,
            diagnosis=found,
            tools=cluster_tools(self._cluster, [namespace]),
            report=report,
        )
        await self._incidents.save_evidence(incident.id, found.evidence)
        return found


def _of_release(found: Diagnosis, snapshot: Snapshot, release: ObjectRef) -> Diagnosis:
    """Only what concerns the objects of one helm release (by helm's own ownership annotation)."""
    causes = [cause for cause in found.causes if _belongs(snapshot, cause, release)]
    status = found.status
    if found.causes and not causes:
        status = DiagnosisStatus.HEALTHY
    facts = {"helm_release": release.name, "helm_namespace": release.namespace}
    causes = [cause.model_copy(update={"facts": {**cause.facts, **facts}}) for cause in causes]
    return found.model_copy(update={"causes": causes, "status": status})


def _belongs(snapshot: Snapshot, cause: Cause, release: ObjectRef) -> bool:
    if cause.facts.get("helm_release") == release.name:
        return True
    found = snapshot.get(cause.object.kind, cause.object.namespace, cause.object.name) or {}
    annotations = (found.get("metadata") or {}).get("annotations") or {}
    return bool(annotations.get("meta.helm.sh/release-name") == release.name)
