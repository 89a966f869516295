"""A monitoring server for scenarios that need measurements: what the kubelets tell of containers, kept and given back.

It reads cAdvisor's counters through the API server every few seconds, and answers the range queries that
`tools.prometheus.measure` asks in the form of Prometheus' HTTP API. Only of namespaces that are watched. A kubelet
whose container runtime has a socket of its own does not name containers: the ids in their pods' statuses do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from errors import ParamedicError
from evals.images import run
from evals.kube import Object

_EVERY = 5.0
_STALE = 300.0  # seconds for which Prometheus gives an earlier sample
_SAMPLE = re.compile(r"^(?P<name>container_\w+)\{(?P<labels>[^}]*)\} (?P<value>\S+)(?: (?P<at>\d+))?$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ASKED = re.compile(r'(?P<name>container_\w+)\{[^}]*namespace="(?P<namespace>[^"]+)"')
_KEPT = {
    "container_cpu_cfs_throttled_periods_total",
    "container_cpu_cfs_periods_total",
    "container_memory_working_set_bytes",
}

Key = tuple[str, str, str, str]
"""Name of the metric, namespace, pod, container."""


class Meter:
    """What was read so far. `watch` a namespace before it is measured."""

    def __init__(self) -> None:
        self._watched: set[str] = set()
        self._named: dict[str, tuple[str, str, str]] = {}
        self._points: dict[Key, list[tuple[float, float]]] = defaultdict(list)

    @property
    def watched(self) -> list[str]:
        return sorted(self._watched)

    def watch(self, namespace: str) -> None:
        self._watched.add(namespace)

    def forget(self, namespace: str) -> None:
        self._watched.discard(namespace)

    def learn(self, pods: list[Object]) -> None:
        """Which container has which id, by the pods' statuses."""
        for pod in pods:
            for status in (pod.get("status") or {}).get("containerStatuses") or []:
                _, _, known = (status.get("containerID") or "").partition("://")
                if known:
                    where = pod["metadata"]
                    self._named[known] = (where["namespace"], where["name"], status["name"])

    def read(self, text: str, now: float) -> None:
        """Keep the samples of one page of cAdvisor's metrics (Prometheus' text format)."""
        for match in _SAMPLE.finditer(text):
            labels = dict(_LABEL.findall(match["labels"]))
            named = self._named.get(labels.get("id", "").rsplit("/", 1)[-1])
            if match["name"] not in _KEPT or named is None or named[0] not in self._watched:
                continue
            key = (match["name"], *named)
            at, points = float(match["at"]) / 1000 if match["at"] else now, self._points[key]
            if not points or at > points[-1][0]:
                points.append((at, float(match["value"])))

    def answer(self, query: str, start: float, end: float, step: float) -> dict[str, object]:
        """The document of a range query; empty for what is not kept."""
        asked, result = _ASKED.search(query), []
        for key, points in list(self._points.items()):
            if asked is None or key[:2] != (asked["name"], asked["namespace"]):
                continue
            values = []
            for index in range(int((end - start) // step) + 1):
                at = start + index * step
                before = [value for when, value in list(points) if at - _STALE <= when <= at]
                if before:
                    values.append([at, str(before[-1])])
            if values:
                labels = {"namespace": key[1], "pod": key[2], "container": key[3]}
                result.append({"metric": labels, "values": values})
        return {"status": "success", "data": {"resultType": "matrix", "result": result}}


@contextlib.asynccontextmanager
async def metering(kubeconfig: Path) -> AsyncIterator[tuple[Meter, str]]:
    """The meter, and the URL of its server, while they run."""
    meter = Meter()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(parse_qs(urlsplit(self.path).query))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._answer(parse_qs(body.decode()) | parse_qs(urlsplit(self.path).query))

        def _answer(self, asked: dict[str, list[str]]) -> None:
            given = {key: values[0] for key, values in asked.items()}
            if "start" in given:
                times = [float(given[key]) for key in ("start", "end", "step")]
                document = meter.answer(given["query"], *times)
            else:
                document = {"status": "success", "data": {"resultType": "vector", "result": [], "alerts": []}}
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    reading = asyncio.create_task(_read_on(meter, kubeconfig))
    try:
        yield meter, f"http://127.0.0.1:{server.server_port}"
    finally:
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        server.shutdown()
        server.server_close()


async def _read_on(meter: Meter, kubeconfig: Path) -> None:
    kubectl = ("kubectl", "--kubeconfig", kubeconfig, "get")
    while True:
        await asyncio.sleep(_EVERY)
        # what cannot be read is missing in the measurements, and the diagnosis shows it
        with contextlib.suppress(ParamedicError):
            for namespace in meter.watched:
                pods: list[Object] = json.loads(await run(*kubectl, "pods", "-n", namespace, "-o", "json"))["items"]
                meter.learn(pods)
                for node in sorted({pod["spec"].get("nodeName") or "" for pod in pods} - {""}):
                    path = f"/api/v1/nodes/{node}/proxy/metrics/cadvisor"
                    meter.read(await run(*kubectl, "--raw", path), time.time())
