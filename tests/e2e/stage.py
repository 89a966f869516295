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

_WORKERS = 6
_AHEAD = 8
"""So many workloads may be on the way or wait to be taken. A kubelet sends about five events a second; with more
failing probes than that, the event that tells a fault comes minutes late."""


class Stage:
    """Makes namespaces and workloads in the order of the tests, some ahead, and takes every namespace away again."""

    def __init__(self, kube: Kube, images: Images, cores: CoreFolder) -> None:
        self.kube = kube
        self.run_id = secrets.token_hex(4)
        self.registry = EmptyRegistry()
        self.ground = Ground(kube, images, cores, self.namespace, self.registry.address)
        self._pool = ThreadPoolExecutor(_WORKERS)
        self._ahead = threading.Semaphore(_AHEAD)
        self._prepared: dict[str, list[Future[Workload]]] = {}
        self._namespaces: set[str] = set()
        self._taken: set[str] = set()

    def namespace(self) -> str:
        """A fresh namespace that pods can be created in."""
        found = random_name()
        labels = {"paramedic-e2e": self.run_id}
        self.kube.call(
            "POST",
            "api/v1/namespaces",
            json={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": found, "labels": labels}},
        )
        self._namespaces.add(found)
        until(lambda: self.kube.has_account(found), 60, f"the default service account of {found}")
        return found

    def plan(self, scenario: str) -> None:
        """Prepare a scenario in the background, when its turn comes."""

        def ahead() -> Workload:
            self._ahead.acquire()
            return self._prepare(scenario)

        self._prepared.setdefault(scenario, []).append(self._pool.submit(ahead))

    def take(self, scenario: str, *, keep: bool = False) -> Workload:
        """A prepared workload that nobody else gets, until the test ends; with `keep`, until `drop` or the last test.

        Raises what its preparation raised.
        """
        waiting = self._prepared.get(scenario)
        future = waiting.pop(0) if waiting else None
        if future is None or future.cancel():  # its turn has not come
            made = self._prepare(scenario)
        else:
            self._ahead.release()
            made = future.result(timeout=300)
        if not keep:
            self._taken.add(made.namespace)
        return made

    def _prepare(self, scenario: str) -> Workload:
        make = getattr(scenarios, scenario, None) or getattr(helm_scenarios, scenario)
        made: Workload = make(self.ground)
        return made

    def drop(self, namespace: str) -> None:
        self._namespaces.discard(namespace)
        self.kube.call("DELETE", f"api/v1/namespaces/{namespace}")

    def end_of_test(self) -> None:
        """Failing probes of workloads that are not needed any more would only crowd the kubelet's events."""
        while self._taken:
            self.drop(self._taken.pop())

    def close(self) -> None:
        for _ in range(_WORKERS):
            self._ahead.release()
        self._pool.shutdown(cancel_futures=True)
        for namespace in list(self._namespaces):
            self.drop(namespace)
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
