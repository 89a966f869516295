"""A name is one segment of a request's path, whatever is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import InvalidInput
from settings import KubernetesSettings
from tests.standins.kube_api import KubeApi
from tools.kubernetes.client import Cluster


async def test_a_name_with_slashes_stays_in_its_place(tmp_path: Path) -> None:
    async with KubeApi() as api:
        cluster = await Cluster.connect(KubernetesSettings(kubeconfig=api.kubeconfig(tmp_path), request_timeout=60))
        try:
            path = await cluster.path("v1", "Pod", "shop", "a/../../../kube-system/pods/b")
            assert path == "/api/v1/namespaces/shop/pods/a%2F..%2F..%2F..%2Fkube-system%2Fpods%2Fb"
            for name in (".", ".."):
                with pytest.raises(InvalidInput):
                    await cluster.path("v1", "Pod", "shop", name)
                with pytest.raises(InvalidInput):
                    await cluster.log(name, "cart-0", "web")
        finally:
            await cluster.close()
