"""What the environment says of proxies counts; what a .netrc says is not for an API server."""

from __future__ import annotations

from pathlib import Path

import pytest

from settings import KubernetesSettings
from tests.standins.kube_api import KubeApi
from tools.kubernetes.client import Cluster


async def _asked(kubeconfig: Path) -> str:
    async with await Cluster.connect(KubernetesSettings(kubeconfig=kubeconfig)) as cluster:
        found = await cluster.get("v1", "Namespace", None, "kube-system")
    return str(found["metadata"]["name"])


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def test_a_proxy_is_asked_for_every_server_but_the_excepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with KubeApi() as api:
        direct = api.kubeconfig(tmp_path)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{api.port}")
        (far := tmp_path / "far").write_text(direct.read_text().replace(f"127.0.0.1:{api.port}", "api.invalid"))
        assert await _asked(far) == "kube-system", "the stand-in answers as the proxy"
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert await _asked(direct) == "kube-system"


async def test_a_netrc_for_the_server_does_not_hinder_its_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (netrc := tmp_path / "netrc").write_text("default login a password b\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with KubeApi() as api:
        assert await _asked(api.kubeconfig(tmp_path)) == "kube-system"
