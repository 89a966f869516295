"""What a cluster meets outside: a container registry that refuses in several ways, an admission webhook that denies.

They run here on loopback: the node and the API server have to be this machine, as of the native development cluster.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_HERE = "127.0.0.1"


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
    server = ThreadingHTTPServer((_HERE, 0), _Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Denies(BaseHTTPRequestHandler):
    """Answers every admission review with a no (admission.k8s.io/v1): `/check` with a company's own words,
    `/pod-security` with those of the pod security webhook of Kubernetes."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = {"code": 403, "message": "images must come from the company's registry"}
        if self.path.startswith("/pod-security"):
            said["message"] = _violation(asked["request"].get("object") or {})
        answer = {
            "apiVersion": asked["apiVersion"],
            "kind": asked["kind"],
            "response": {"uid": asked["request"]["uid"], "allowed": False, "status": said},
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _violation(pod: dict[str, Any]) -> str:
    """As kubernetes/pod-security-admission says it of a pod whose containers may all run as root."""
    names = [f'"{container["name"]}"' for container in (pod.get("spec") or {}).get("containers") or []]
    which = f"container{'s' if len(names) > 1 else ''} {', '.join(names)}"
    name = (pod.get("metadata") or {}).get("name") or (pod.get("metadata") or {}).get("generateName")
    rule = f"runAsNonRoot != true (pod or {which} must set securityContext.runAsNonRoot=true)"
    return f'pods "{name}" is forbidden: violates PodSecurity "restricted:latest": {rule}'


@contextmanager
def denying_webhook() -> Iterator[tuple[str, str]]:
    """URL without a path and base64 CA bundle of the webhook, while it runs."""
    certificate, key = _certificate()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        both = Path(folder, "both.pem")
        both.touch(mode=0o600)
        both.write_bytes(key + certificate)
        tls.load_cert_chain(both)
    server = ThreadingHTTPServer((_HERE, 0), _Denies)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"https://{_HERE}:{server.server_port}", base64.b64encode(certificate).decode()
    finally:
        server.shutdown()
        server.server_close()


def _certificate() -> tuple[bytes, bytes]:
    """A self-signed certificate of the loopback address and its key, in PEM, for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _HERE)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(minutes=5)).not_valid_after(now + timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(_HERE))])
    builder = builder.add_extension(address, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    made = builder.sign(key, hashes.SHA256())
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return made.public_bytes(serialization.Encoding.PEM), private
