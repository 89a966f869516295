"""The webhook over real HTTPS with its own certificate, which is replaced while it runs."""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from collector.webhook import server
from collector.webhook.certificate import Certificate, make, usable
from collector.webhook.inject import LABEL
from collector.webhook.nodes import ANNOTATION, Nodes
from collector.webhook.review import Reviewer
from errors import InvalidInput
from settings import KubernetesSettings, Settings, WebhookSettings
from tests.collector.webhook.test_inject import asked, review
from tests.standins.kube_api import KubeApi
from tools.kubernetes.client import Cluster

NAMES = ["hook.team.svc", "localhost"]


def write(folder: Path, found: Certificate) -> None:
    (folder / "tls.crt").write_bytes(found.certificate)
    (folder / "tls.key").write_bytes(found.key)


def trusting(found: Certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=found.authority.decode())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    webhook = WebhookSettings(host="127.0.0.1", port=0, certificate=tmp_path / "tls.crt", key=tmp_path / "tls.key")
    return Settings(data_dir=tmp_path / "data", kubernetes=KubernetesSettings(enabled=False), webhook=webhook)


@pytest.fixture
async def url(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    monkeypatch.setattr(server, "_RELOAD_SECONDS", 0.05)
    write(tmp_path, make(NAMES, datetime.now(UTC)))
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(server.run(settings, told.set_result))
    yield (await asyncio.wait_for(told, 90)).replace("127.0.0.1", "localhost")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_it_answers_over_https_and_takes_a_new_certificate(url: str, tmp_path: Path) -> None:
    body = review(asked())
    first = Certificate(b"", (tmp_path / "tls.crt").read_bytes(), b"")
    async with httpx.AsyncClient(verify=False, timeout=60) as client:
        answer = await client.post(f"{url}/mutate", content=body)
        assert answer.json()["response"]["allowed"] is True and answer.json()["response"]["patchType"] == "JSONPatch"
        assert (await client.get(f"{url}/readyz")).text == "ok"
        refused = await client.post(f"{url}/mutate", content=b"x")
        assert refused.status_code == 400 and "no JSON" in refused.json()["detail"]
        assert (await client.post(f"{url}/mutate", content=b"x" * (9 << 20))).status_code == 413
        measured = (await client.get(f"{url}/metrics")).text
        assert 'paramedic_webhook_reviews_total{result="injected"} 1.0' in measured
        assert 'paramedic_webhook_reviews_total{result="invalid"} 2.0' in measured
        assert 'paramedic_webhook_reviews_total{result="refused"} 0.0' in measured
    renewed = make(NAMES, datetime.now(UTC))
    write(tmp_path, renewed)
    assert first.certificate != renewed.certificate
    async with asyncio.timeout(90):
        while True:
            try:
                async with httpx.AsyncClient(verify=trusting(renewed), timeout=60) as client:
                    await client.get(f"{url}/livez")
                break
            except httpx.ConnectError:
                await asyncio.sleep(0.05)


async def test_a_certificate_that_is_not_there_is_one_clear_error(settings: Settings) -> None:
    with pytest.raises(InvalidInput, match=r"webhook\.certificate"):
        await server.run(settings, print)


def test_a_certificate_is_used_until_a_month_before_its_end_and_for_its_names_only() -> None:
    now = datetime(2026, 11, 20, tzinfo=UTC)
    found, other = make(NAMES, now), make(NAMES, now)
    assert usable(found, NAMES, now) and usable(found, NAMES[:1], now + timedelta(days=300))
    assert not usable(found, NAMES, now + timedelta(days=336))
    assert not usable(found, [*NAMES, "more"], now)
    assert not usable(Certificate(other.authority, found.certificate, found.key), NAMES, now)
    assert not usable(Certificate(found.authority, found.certificate, other.key), NAMES, now)
    assert not usable(Certificate(b"x", b"", found.key), NAMES, now)


# --- what it asks the cluster -----------------------------------------------------------------------------------------


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[tuple[KubeApi, Cluster]]:
    async with KubeApi() as api:
        kubernetes = KubernetesSettings(kubeconfig=api.kubeconfig(tmp_path), request_timeout=60)
        async with await Cluster.connect(kubernetes) as cluster:
            yield api, cluster


def node(name: str, told: object, **spec: object) -> dict[str, object]:
    text = told if isinstance(told, str) else json.dumps(told)
    metadata = {"name": name, "annotations": {ANNOTATION: text}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec}


async def test_nodes_that_would_lose_the_core_are_told(api: tuple[KubeApi, Cluster]) -> None:
    kube, cluster = api
    kube.put(node("a", {"core_pattern": "/corefile/core.%e", "limit": None, "taken": False}))
    kube.put(node("b", {"core_pattern": "/other/core", "limit": 0, "taken": False}))
    kube.put(node("c", {"core_pattern": "|/usr/share/apport %p", "limit": None, "taken": False}))
    kube.put(node("d", {"core_pattern": "|/opt/paramedic", "limit": 0, "taken": True}))
    kube.put(node("e", {"core_pattern": "core"}, unschedulable=True))
    for number, nonsense in enumerate(("", "{", "[]", "[" * 100_000, '{"core_pattern": 7, "limit": "x"}')):
        kube.put(node(f"n{number}", nonsense))
    warnings = await Nodes(cluster, None).warnings("/corefile")
    assert any("(b)" in text and "'/other'" in text for text in warnings)
    assert any("(b)" in text and "RLIMIT_CORE" in text for text in warnings)
    assert any("(c)" in text and "apport" in text for text in warnings)
    assert not any("(d)" in text or "(e)" in text or "(a)" in text for text in warnings)


async def test_a_namespace_has_so_many_pods_and_no_more(api: tuple[KubeApi, Cluster]) -> None:
    kube, cluster = api
    seconds, ticks = 0.0, itertools.count()
    nodes = Nodes(cluster, 2, lambda: seconds + next(ticks) / 1000)  # time passes within a burst too
    assert await nodes.full("team") is None and await nodes.full("team") is None
    assert "2 pods" in str(await nodes.full("team")), "those that were just let in count"
    seconds = 100.0
    assert await nodes.full("team") is None, "they never came to be"
    for number in range(2):
        metadata = {"namespace": "team", "name": f"p{number}", "labels": {LABEL: "injected"}}
        kube.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}})
    seconds = 200.0
    assert "2 pods" in str(await nodes.full("team"))
    assert await nodes.full("other") is None


@pytest.mark.parametrize("level", ["baseline", "restricted"])
async def test_a_pod_that_its_namespace_would_refuse_with_a_folder_runs_without(
    api: tuple[KubeApi, Cluster], level: str
) -> None:
    kube, cluster = api
    labels = {"pod-security.kubernetes.io/enforce": level}
    kube.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team", "labels": labels}})
    seconds = 0.0
    nodes = Nodes(cluster, None, lambda: seconds)
    reviewer = Reviewer(WebhookSettings(), nodes.warnings, nodes.full, nodes.forbids)
    response = (await reviewer.answer(review(asked())))["response"]
    assert "patch" not in response and response["allowed"] is True
    assert f"enforces Pod Security {level}" in response["warnings"][0]
    labels["pod-security.kubernetes.io/enforce"] = "privileged"
    kube.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team", "labels": labels}})
    assert "patch" not in (await reviewer.answer(review(asked())))["response"], "an answer is kept"
    seconds = 31.0
    assert "patch" in (await reviewer.answer(review(asked())))["response"]
    kube.down = True
    seconds = 62.0
    assert "patch" in (await reviewer.answer(review(asked())))["response"], "nobody knows: as it was"
