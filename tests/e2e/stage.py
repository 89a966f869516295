"""Starts the scenarios of the chosen tests side by side, so that their waiting times pass together."""

from __future__ import annotations

import secrets
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.e2e import helm_scenarios, scenarios
from tests.e2e.build import Images
from tests.e2e.cores import CoreFolder
from tests.e2e.harness import name as random_name
from tests.e2e.harness import until
from tests.e2e.kube import Kube
from tests.e2e.scenarios import Ground, Workload

_AT_ONCE = 6


class Stage:
    """Makes namespaces and workloads, and takes every namespace away at the end."""

    def __init__(self, kube: Kube, images: Images, cores: CoreFolder) -> None:
        self.kube = kube
        self.run_id = secrets.token_hex(4)
        self.registry = EmptyRegistry()
        self.ground = Ground(kube, images, cores, self.namespace, self.registry.address)
        self._pool = ThreadPoolExecutor(_AT_ONCE)
        self._prepared: dict[str, list[Future[Workload]]] = {}
        self._namespaces: list[str] = []

    def namespace(self) -> str:
        """A fresh namespace that pods can be created in."""
        found = random_name()
        labels = {"paramedic-e2e": self.run_id}
        self.kube.call(
            "POST",
            "api/v1/namespaces",
            json={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": found, "labels": labels}},
        )
        self._namespaces.append(found)
        until(lambda: self.kube.has_account(found), 60, f"the default service account of {found}")
        return found

    def start(self, scenario: str, copies: int = 1) -> None:
        """Begin to prepare a scenario in the background."""
        made = self._prepared.setdefault(scenario, [])
        made.extend(self._pool.submit(self._prepare, scenario) for _ in range(copies))

    def take(self, scenario: str) -> Workload:
        """A prepared workload that nobody else gets. Raises what its preparation raised."""
        if not self._prepared.get(scenario):
            self.start(scenario)
        return self._prepared[scenario].pop(0).result(timeout=300)

    def _prepare(self, scenario: str) -> Workload:
        make = getattr(scenarios, scenario, None) or getattr(helm_scenarios, scenario)
        made: Workload = make(self.ground)
        return made

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        for namespace in self._namespaces:
            self.kube.call("DELETE", f"api/v1/namespaces/{namespace}")
        self.registry.close()


class EmptyRegistry:
    """A container registry on this machine's loopback that knows no image: it answers 404 MANIFEST_UNKNOWN."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = self.path.rstrip("/") == "/v2"
                body = b"{}" if found else b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'
                self.send_response(200 if found else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"localhost:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
