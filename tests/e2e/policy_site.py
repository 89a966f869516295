"""A site whose pods crash in storms: a node agent, the webhook, the service, a real S3-compatible server, and the chats
and the model as strict stand-ins."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e import manifests as make
from tests.e2e.build import Images
from tests.e2e.collecting import DUMP, LAYERS, Process, chats, opt_in, paramedic, webhook
from tests.e2e.conftest import Services
from tests.e2e.cores import CoreFolder
from tests.e2e.harness import name as random_name
from tests.e2e.harness import until
from tests.e2e.helm_scenarios import failing_releases
from tests.e2e.kube import Kube
from tests.e2e.service import REQUESTER, Service
from tests.e2e.stage import Stage
from tests.standins import llm, notices, s3

Object = dict[str, Any]
LABEL = "paramedic-e2e-policy"
HANDLER = """#!/bin/sh
echo "$POD_NAMESPACE $COREDUMP_EXECUTABLE $COREDUMP_MD5 $(md5sum < "$COREDUMP_FILE") $COREDUMP_URL" >> "$1"
"""
CALLS = 2
MOST_PODS = 2


@dataclasses.dataclass
class Site:
    """`storm` is a Milvus whose two pods dump core again and again; the releases end with an error."""

    service: Service
    agent: Process
    webhook: Process
    kube: Kube
    stage: Stage
    server: s3.S3Server
    chats: notices.NoticeServers
    model: llm.LlmStandIn
    handled: Path
    vectors: str
    storm: str
    releases: dict[str, tuple[str, str]]
    """By the action that is asked for: namespace and release."""
    lone: tuple[str, str, Path]
    """A Deployment whose core nobody collects: its namespace, its name and the core."""

    def paramedic(self, *arguments: str, **env: str) -> tuple[str, str]:
        """Both outputs of the command line, as a person on the service's machine uses it."""
        done = paramedic(self.service, *arguments, **env)
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    def incidents(self, namespace: str, via: str = "collector") -> list[Object]:
        page = self.service.ask("GET", f"/api/v1/incidents?namespace={namespace}")
        return [item for item in page["incidents"] if item["via"] == via]

    def asked(self, namespace: str) -> Object:
        """The storm's incident, once it is there."""
        (found,) = until(lambda: self.incidents(namespace, "policy"), 90, "a question", show=self.service.log)
        return dict(found)

    def said(self) -> list[str]:
        """To Slack, WeCom and the custom bot of Feishu, in this order of the chats."""
        told = [*self.chats.slack, *self.chats.wecom, *self.service.feishu.notices]
        return [json.dumps(one, ensure_ascii=False) for one in told]

    def restart(self, mode: str) -> None:
        self.service.stop()
        self.service.start(PARAMEDIC_POLICY__MODE=mode)


def crasher(images: Images, **labels: str) -> Object:
    item = make.container("app", images.quotes_next, DUMP)
    found = make.template(make.labels() | labels, [*make.companions(1), item])
    found["metadata"]["annotations"] = {"paramedic.io/inject": "true"}
    return found


@contextmanager
def crashing_site(
    kube: Kube, images: Images, stage: Stage, cores: CoreFolder, services: Services, folder: Path
) -> Iterator[Site]:
    """Everything up, and crashing. The storm, the releases and what keeps one core for itself begin at once."""
    watched, aside = (CoreFolder(cores.here / name, f"{cores.on_node}/{name}") for name in (folder.name, "aside"))
    watched.here.mkdir()
    aside.here.mkdir()
    handler, handled = folder / "handler", folder / "handled"
    handler.write_text(HANDLER)
    handler.chmod(0o755)
    releases = failing_releases(stage.ground)
    lone, lone_name, vectors, storm = stage.namespace(), random_name(), stage.namespace(), random_name()
    item, volume = make.keeping_cores(make.container("app", images.quotes_next, ["/app/quotes"]), aside.on_node)
    kube.create(lone, make.deployment(lone_name, make.template(make.labels(), [item], volumes=[volume])))
    server = s3.S3Server(folder / "s3").start()
    store = {"url": f"s3://{s3.BUCKET}", "endpoint": server.endpoint, "access_key": s3.ACCESS, "secret_key": s3.SECRET}
    with llm.LlmStandIn() as model, chats() as told:
        service = services(
            store=store,
            core={"executable_dirs": [], "url_hosts": [server.endpoint[7:]], "url_schemes": ["http"]},
            policy={"threshold": 3, "scan_seconds": 1, "namespaces": [vectors, *(one for one, _ in releases.values())]},
            llm={
                "model": f"openai:{llm.OPENAI_MODEL}",
                "base_url": model.openai_url,
                "api_key": llm.KEY,
                "calls_per_hour": CALLS,
            },
        )
        with (service.folder / "paramedic.toml").open("a") as config:
            for kind, url in (
                ("slack", told.url + notices.SLACK_PATH),
                ("wecom", f"{told.url}/cgi-bin/webhook/send?key={notices.WECOM_KEY}"),
                ("feishu", service.feishu.webhook_url),
            ):
                config.write(f'[[notify.channels]]\nname = "{kind}"\nkind = "{kind}"\nwebhook_url = "{url}"\n')
            config.write(f'webhook_secret = "{service.feishu.webhook_secret}"\n')
        service.start()
        agent = Process(
            folder / "agent",
            ["collect"],
            {
                "collector": {
                    "roots": [str(watched.here)],
                    "node_name": kube.call("GET", "api/v1/nodes")["items"][0]["metadata"]["name"],
                    "restarts": False,  # of the whole node
                    "service_url": f"{service.url}/api/v1/events",
                    "service_key": service.keys[REQUESTER],
                    "image_layers": LAYERS,
                },
                "collector.handler": {"command": [str(handler), str(handled)], "owners": [f"Deployment/{storm}"]},
                "store": store,
                "shipping": {"disk_reserve_bytes": 0},
                "kubernetes": {"kubeconfig": str(kube.kubeconfig)},
            },
        ).start()
        try:
            with webhook(kube, folder / "webhook", watched.on_node, LABEL, max_pods=MOST_PODS) as admission:
                agent.says('"event": "collecting"')
                opt_in(kube, vectors, LABEL)
                milvus = {"app.kubernetes.io/name": "milvus", "app.kubernetes.io/instance": "shop"}
                workload = make.deployment(storm, crasher(images, **milvus), replicas=2)
                workload["metadata"]["labels"] = milvus
                kube.create(vectors, workload)
                path = until(lambda: next(iter(aside.of(lone, "app")), None), 60, "a core")
                parts = (service, agent, admission, kube, stage, server, told, model, handled, vectors, storm)
                yield Site(*parts, releases, (lone, lone_name, path))
        finally:
            agent.stop()
            service.stop()
            server.kill()
