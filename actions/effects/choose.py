"""The effect that carries out a write."""

from __future__ import annotations

from actions.effects.base import Effect
from actions.effects.delete import DeleteEffect
from actions.effects.helm import HelmEffect
from actions.effects.patch import PatchEffect
from errors import ToolMissing
from incidents.plan import DeleteWrite, PatchWrite, Write
from tools.helm.client import Helm
from tools.kubernetes.client import Cluster


class Effects:
    """One cluster's effects. `of` raises ToolMissing for a helm write without helm."""

    def __init__(self, cluster: Cluster, helm: Helm | None) -> None:
        self.cluster = cluster
        self.helm = helm

    def of(self, write: Write) -> Effect:
        if isinstance(write, PatchWrite):
            return PatchEffect(self.cluster, write)
        if isinstance(write, DeleteWrite):
            return DeleteEffect(self.cluster, write)
        if self.helm is None:
            raise ToolMissing("helm is not available: install helm 3 (https://helm.sh/docs/intro/install)")
        return HelmEffect(self.cluster, self.helm, write)
