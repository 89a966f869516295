"""What a cluster needs from outside: a container registry that refuses in several ways. It runs here, so the node has
to be this machine (as the native development cluster's is)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Registry(BaseHTTPRequestHandler):
    """`open/*`: no such tag. `closed/*`: a login is needed. `busy/*`: too many requests."""

    def do_GET(self) -> None:
        if "/closed/" in self.path:
            self._answer(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": 'Basic realm="hub"'})
        elif "/busy/" in self.path:
            self._answer(429, "TOOMANYREQUESTS", "You have reached your pull rate limit.", {})
        elif self.path.rstrip("/") == "/v2":
            self._answer(200, "", "", {})
        else:
            self._answer(404, "MANIFEST_UNKNOWN", "manifest unknown", {})

    do_HEAD = do_GET

    def _answer(self, code: int, name: str, message: str, headers: dict[str, str]) -> None:
        body = b'{"errors":[{"code":"%s","message":"%s"}]}' % (name.encode(), message.encode()) if name else b"{}"
        self.send_response(code)
        for key, value in {**headers, "Content-Type": "application/json", "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def registry() -> Iterator[str]:
    """host:port of the registry, while it runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
