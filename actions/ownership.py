"""Who else manages an object: GitOps, helm or an operator would take a patch back, or fight over it.

Such an object gets a proposed change for its owners, never a patch. Marks are those that the managers themselves
write: Argo CD (tracking annotation or label), Flux (labels of its controllers), helm 3 (release annotations), others
by annotation; operators by the controlling owner reference.
"""

from __future__ import annotations

from dataclasses import dataclass

from actions.objects import controller_of, metadata, title
from errors import Refused
from incidents.plan import Proposal
from tools.kubernetes.client import Object

HELM_RELEASE = "meta.helm.sh/release-name"
HELM_NAMESPACE = "meta.helm.sh/release-namespace"

_LABELS = {
    "argocd.argoproj.io/instance": "Argo CD",
    "kustomize.toolkit.fluxcd.io/name": "Flux",
    "helm.toolkit.fluxcd.io/name": "Flux",
    "fluxcd.io/sync-gc-mark": "Flux",
    "kapp.k14s.io/app": "kapp",
}
_ANNOTATIONS = {
    "argocd.argoproj.io/tracking-id": "Argo CD",
    "fluxcd.io/sync-checksum": "Flux",
    "objectset.rio.cattle.io/id": "Rancher Fleet",
    "configmanagement.gke.io/managed": "Config Sync",
}
_FIELD_MANAGERS = {
    "argocd-controller": "Argo CD",
    "argocd-application-controller": "Argo CD",
    "kustomize-controller": "Flux",
    "helm-controller": "Flux",
}
_BUILT_IN_GROUPS = {"", "apps", "batch", "extensions"}


class Managed(Refused):
    """The object belongs to a manager; `change` is what to tell its owners."""

    title = "Managed by somebody else"

    def __init__(self, target: str, manager: str, change: str, advice: str) -> None:
        super().__init__(f"{target} is managed by {manager}: {advice}")
        self.target = target
        self.manager = manager
        self.change = change
        self.advice = advice

    def proposal(self, reason: str) -> Proposal:
        """What to show to people instead of an approval."""
        return Proposal(
            title=f"Change {self.target} where {self.manager} takes it from",
            reason=reason,
            steps=[self.advice],
            change=self.change or None,
        )


@dataclass(frozen=True)
class Manager:
    name: str
    advice: str
    operator: bool = False
    """Whether a custom resource owns the object."""


def gitops_manager(obj: Object) -> Manager | None:
    """The GitOps system that applies this object, by the marks it leaves."""
    meta = metadata(obj)
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    names = [name for key, name in _LABELS.items() if key in labels]
    names += [name for key, name in _ANNOTATIONS.items() if key in annotations]
    names += [
        _FIELD_MANAGERS[entry["manager"]]
        for entry in meta.get("managedFields") or []
        if entry.get("manager") in _FIELD_MANAGERS and entry.get("subresource") != "status"
    ]
    if not names:
        return None
    return Manager(names[0], f"change it in the repository that {names[0]} applies")


def helm_release(obj: Object) -> tuple[str, str] | None:
    """(namespace, name) of the helm release that made the object."""
    meta = metadata(obj)
    annotations = meta.get("annotations") or {}
    name = annotations.get(HELM_RELEASE)
    if not name:
        return None
    return str(annotations.get(HELM_NAMESPACE) or meta.get("namespace") or ""), str(name)


def manager_of(obj: Object) -> Manager | None:
    """Whoever would undo, or be surprised by, a patch of this object."""
    found = gitops_manager(obj)
    if found:
        return found
    release = helm_release(obj)
    if release:
        name = f"helm release {release[0]}/{release[1]}"
        return Manager(name, "roll the release back, or upgrade its chart or values; a patch would be lost")
    owner = controller_of(obj)
    if owner is None:
        return None
    group = str(owner.get("apiVersion", "")).rpartition("/")[0]
    if group in _BUILT_IN_GROUPS:
        return None
    name = f"{owner.get('kind')} {owner.get('name')}"
    return Manager(
        name, f"change the {owner.get('kind')} that owns it; its operator would take a patch back", operator=True
    )


def require_unmanaged(obj: Object, change: str) -> None:
    """Raises Managed when somebody else manages the object."""
    manager = manager_of(obj)
    if manager:
        raise Managed(title(obj), manager.name, change, manager.advice)
