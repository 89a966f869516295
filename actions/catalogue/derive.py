"""From an action to its draft: the one place that knows all families."""

from __future__ import annotations

from datetime import datetime

from actions.catalogue import helm, pods, probes, resources, revisions, workloads
from actions.catalogue.draft import Draft
from errors import ToolMissing
from incidents.plan import (
    Action,
    ChangeProbe,
    ChangeResources,
    DeletePod,
    HelmRollbackAction,
    HelmUninstallAction,
    Restart,
    RollbackRevision,
    Scale,
)
from tools.helm.client import Helm
from tools.kubernetes.client import Cluster


async def derive(cluster: Cluster, helm_tool: Helm | None, action: Action, now: datetime) -> Draft:
    """The exact writes of an action against the live objects. Raises Refused, or the tools' errors."""
    match action:
        case ChangeProbe():
            return await probes.derive(cluster, action)
        case ChangeResources():
            return await resources.derive(cluster, action)
        case RollbackRevision():
            return await revisions.derive(cluster, action)
        case Restart():
            return await workloads.derive_restart(cluster, action, now)
        case Scale():
            return await workloads.derive_scale(cluster, action)
        case DeletePod():
            return await pods.derive(cluster, action)
        case HelmRollbackAction() | HelmUninstallAction():
            if helm_tool is None:
                raise ToolMissing("helm is not available: install helm 3 (https://helm.sh/docs/intro/install)")
            if isinstance(action, HelmRollbackAction):
                return await helm.derive_rollback(cluster, helm_tool, action)
            return await helm.derive_uninstall(cluster, helm_tool, action)
