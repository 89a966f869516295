"""The collection side as real processes: the node agent, and the webhook as the cluster's API server calls it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import secrets
import sqlite3
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from collector.webhook.certificate import make
from tests.e2e.harness import ROOT, until
from tests.e2e.kube import Kube
from tests.e2e.service import PARAMEDIC, REQUESTER, Service
from tests.standins.notices import NoticeServers

_CONFIGURATIONS = "apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
Object = dict[str, Any]
DUMP = ["/bin/sh", "-c", "ulimit -c unlimited; exec /app/quotes"]
LAYERS = [
    "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/*/fs",
    "/var/lib/containerd/io.containerd.snapshotter.v1.native/snapshots/*",
    "/var/cache/debian-kube/*/containerd/*/snapshots/*/fs",
]
"""Where the layers of images lie: of a kind node, and of the native cluster's."""


class Process:
    """One `paramedic` command with a configuration of its own, which is killed and started again as a test likes."""

    def __init__(
        self,
        folder: Path,
        command: list[str],
        sections: Mapping[str, Mapping[str, object]],
        *,
        program: list[str] | None = None,
        data: Path | None = None,
    ) -> None:
        folder.mkdir(parents=True)
        lines = [f"data_dir = {json.dumps(str(data or folder / 'data'))}", 'log_level = "info"']
        for section, values in sections.items():
            lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
        self.folder, self._log = folder, folder / "log"
        self._command = [*(program or [str(PARAMEDIC)]), *command]
        (folder / "paramedic.toml").write_text("\n".join(lines) + "\n")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **env: str) -> Process:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PARAMEDIC_")}
        inherited |= {"PARAMEDIC_CONFIG": str(self.folder / "paramedic.toml"), **env}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, cwd=ROOT, env=inherited, stdout=log, stderr=log)
        return self

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-8000:]

    def says(self, pattern: str, timeout: float = 60) -> re.Match[str]:
        return until(lambda: re.search(pattern, self.log()), timeout, f"{pattern} in the log", show=self.log)

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def wait(self, timeout: float) -> int:
        """The exit code of a process that is about to end by itself."""
        assert self.process is not None
        return self.process.wait(timeout)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()

    def memory_mb(self) -> int:
        """The peak of the process, without its children."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) // 1024


def opt_in(kube: Kube, namespace: str, label: str) -> None:
    """Let the webhook that looks for `label` see the namespace's pods."""
    headers = {"Content-Type": "application/merge-patch+json"}
    change = {"metadata": {"labels": {label: "on"}}}
    kube.call("PATCH", f"api/v1/namespaces/{namespace}", json=change, headers=headers)


def create_pod(kube: Kube, namespace: str, pod: Object) -> Object:
    """A bare pod. Before 1.24 a new namespace's account has a token only some time after it is there."""

    def made() -> Object | None:
        try:
            return kube.create(namespace, pod)[0]
        except AssertionError as error:
            if "No API token found" in str(error):
                return None
            raise

    return until(made, 60, f"a pod in {namespace}")


def jobs_of(service: Service, namespace: str) -> list[Object]:
    """What the service was told of cores of the namespace, each once: id, incident_id, and the record as `core`."""
    with closing(sqlite3.connect(f"file:{service.database}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT id, incident_id, state, document FROM core_jobs").fetchall()
    found = [
        {"id": id, "incident_id": incident, "state": state, "core": json.loads(core)}
        for id, incident, state, core in rows
    ]
    return [job for job in found if (job["core"].get("origin") or {}).get("namespace") == namespace]


@contextmanager
def webhook(kube: Kube, folder: Path, node_folder: str, label: str, **more: object) -> Iterator[Process]:
    """Serve the webhook, and let the cluster call it for namespaces that have the label `label`."""
    folder.mkdir(parents=True)
    found = make(["localhost"], datetime.now(UTC))
    (folder / "tls.crt").write_bytes(found.certificate)
    (folder / "tls.key").write_bytes(found.key)
    settings: dict[str, object] = {
        "host": "127.0.0.1",
        "port": 0,
        "certificate": str(folder / "tls.crt"),
        "key": str(folder / "tls.key"),
        "node_folder": node_folder,
        "mount_path": "/cores",
        **more,
    }
    sections: dict[str, dict[str, object]] = {"webhook": settings, "kubernetes": {"kubeconfig": str(kube.kubeconfig)}}
    process = Process(folder / "process", ["webhook"], sections).start()
    port = process.says(r"serves https://[0-9.]+:(\d+)")[1]
    name = f"paramedic-{secrets.token_hex(4)}"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "*"}
    bundle = base64.b64encode(found.authority).decode()
    body = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [
            {
                "name": "cores.paramedic.io",
                "clientConfig": {"url": f"https://localhost:{port}/mutate", "caBundle": bundle},
                "rules": [rule],
                "namespaceSelector": {"matchLabels": {label: "on"}},
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Ignore",
                "timeoutSeconds": 5,
            }
        ],
    }
    kube.call("POST", _CONFIGURATIONS, json=body)
    try:
        yield process
    finally:
        kube.call("DELETE", f"{_CONFIGURATIONS}/{name}")
        process.stop()


def paramedic(service: Service, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command line with the service's configuration and address, and the requester's key."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PARAMEDIC_")}
    inherited |= {
        "PARAMEDIC_CONFIG": str(service.folder / "paramedic.toml"),
        "PARAMEDIC_URL": service.url,
        "PARAMEDIC_API_KEY": service.keys[REQUESTER],
    }
    command = [str(PARAMEDIC), *arguments]
    return subprocess.run(command, env=inherited | env, cwd=ROOT, capture_output=True, text=True, timeout=60)


@contextmanager
def chats() -> Iterator[NoticeServers]:
    """Slack and WeCom as stand-ins, in a thread of their own."""
    servers, loop = NoticeServers(), asyncio.new_event_loop()
    runner = web.AppRunner(servers.app(), access_log=None)
    loop.run_until_complete(runner.setup())
    loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
    servers.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield servers
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
