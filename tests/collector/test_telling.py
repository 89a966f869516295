"""What the node does with cores stands on its Node object, and the webhook reads it there."""

from __future__ import annotations

from pathlib import Path

from collector.telling import tell
from collector.webhook.nodes import Nodes
from settings import CollectorSettings, KubernetesSettings
from tests.standins.kube_api import KubeApi
from tools.kubernetes.client import Cluster


async def test_the_webhook_warns_by_what_the_agent_told(tmp_path: Path) -> None:
    pattern = tmp_path / "proc/sys/kernel/core_pattern"
    pattern.parent.mkdir(parents=True)
    pattern.write_text("|/usr/share/apport/apport %p\n")
    settings = CollectorSettings(proc=tmp_path / "proc", socket=tmp_path / "core.socket")
    async with KubeApi() as api:
        api.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1"}, "spec": {}})
        kubernetes = KubernetesSettings(kubeconfig=api.kubeconfig(tmp_path), request_timeout=60)
        async with await Cluster.connect(kubernetes) as cluster:
            assert await tell(cluster, "node1", settings)
            assert not await tell(cluster, "node1", settings), "what stands there already is not written again"
            (warning,) = await Nodes(cluster, None).warnings("/corefile")
            assert "apport" in warning
            pattern.write_text(f"@{settings.socket}\n")  # now the agent takes them itself
            assert await tell(cluster, "node1", settings)
            assert await Nodes(cluster, None).warnings("/corefile") == []
            assert not await tell(cluster, "another", settings)
