"""From an action to its draft: the one place that knows all families."""

from __future__ import annotations

from datetime import datetime

from actions.catalogue import (
    combined,
    config_references,
    helm,
    images,
    nodes,
    paused,
    pods,
    probes,
    pull_secrets,
    resources,
    revisions,
    scheduling,
    services,
    variables,
    workloads,
)
from actions.catalogue.draft import Draft
from errors import ToolMissing
from incidents.actions import (
    Action,
    AddPullSecret,
    ChangeConfigReference,
    ChangeProbe,
    ChangeResources,
    ChangeScheduling,
    ChangeService,
    ChangeVariable,
    Combined,
    CordonNode,
    DeletePod,
    HelmRollbackAction,
    HelmUninstallAction,
    Restart,
    ResumeCronJob,
    ResumeRollout,
    RevertImage,
    RollbackRevision,
    Scale,
    TemplateChange,
)
from tools.helm.client import Helm
from tools.kubernetes.client import Cluster


async def derive(cluster: Cluster, helm_tool: Helm | None, action: Action, now: datetime) -> Draft:
    """The exact writes of an action against the live objects. Raises Refused, or the tools' errors."""
    match action:
        case Combined():
            return combined.derive([await _derive_template(cluster, part) for part in combined.parts_of(action)])
        case RollbackRevision():
            return await revisions.derive(cluster, action)
        case Restart():
            return await workloads.derive_restart(cluster, action, now)
        case Scale():
            return await workloads.derive_scale(cluster, action)
        case ResumeRollout():
            return await paused.derive_rollout(cluster, action)
        case ResumeCronJob():
            return await paused.derive_cron_job(cluster, action)
        case ChangeService():
            return await services.derive(cluster, action)
        case DeletePod():
            return await pods.derive(cluster, action)
        case CordonNode():
            return await nodes.derive(cluster, action)
        case HelmRollbackAction() | HelmUninstallAction():
            if helm_tool is None:
                raise ToolMissing("helm is not available: install helm 3 (https://helm.sh/docs/intro/install)")
            if isinstance(action, HelmRollbackAction):
                return await helm.derive_rollback(cluster, helm_tool, action)
            return await helm.derive_uninstall(cluster, helm_tool, action)
        case _:
            return await _derive_template(cluster, action)


async def _derive_template(cluster: Cluster, action: TemplateChange) -> Draft:
    """The changes of a pod template that can be joined into one patch."""
    match action:
        case ChangeProbe():
            return await probes.derive(cluster, action)
        case ChangeResources():
            return await resources.derive(cluster, action)
        case ChangeConfigReference():
            return await config_references.derive(cluster, action)
        case ChangeVariable():
            return await variables.derive(cluster, action)
        case AddPullSecret():
            return await pull_secrets.derive(cluster, action)
        case RevertImage():
            return await images.derive(cluster, action)
        case ChangeScheduling():
            return await scheduling.derive(cluster, action)
