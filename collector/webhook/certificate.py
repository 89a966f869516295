"""The webhook's own certificate, for clusters without cert-manager: an authority and a server key in one Secret.

The chart's job runs this at installation and every day: it renews what ends within a month, and puts the authority into
the webhook configuration, so that the API server believes the server.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from diagnosis.workloads.fields import Object, objects, text
from errors import InvalidInput, NotFound
from tools.kubernetes.client import Cluster

_VALID = timedelta(days=365)
_RENEW = timedelta(days=30)
_CLOCKS = timedelta(hours=1)  # clocks of the nodes may differ


@dataclass(frozen=True)
class Certificate:
    """PEM texts. `authority` signs `certificate`; its own key is kept nowhere: each renewal makes a new one."""

    authority: bytes
    certificate: bytes
    key: bytes


def make(names: list[str], now: datetime) -> Certificate:
    """A new authority and a server certificate for DNS `names`, valid for a year."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "paramedic webhook authority")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])

    def builder(name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCKS)
            .not_valid_after(now + _VALID)
        )

    authority = (
        builder(issuer, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    server = (
        builder(subject, key.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Certificate(authority.public_bytes(pem), server.public_bytes(pem), private)


def usable(found: Certificate, names: list[str], now: datetime) -> bool:
    """Whether it is for these names and valid for another month."""
    try:
        server = x509.load_pem_x509_certificate(found.certificate)
        authority = x509.load_pem_x509_certificate(found.authority)
        server.verify_directly_issued_by(authority)
        key = serialization.load_pem_private_key(found.key, None)
        told = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, x509.ExtensionNotFound):
        return False
    except Exception:  # an invalid signature: cryptography's own exception has no common base
        return False
    same = key.public_key() == server.public_key()
    ends = min(server.not_valid_after_utc, authority.not_valid_after_utc)
    return same and set(names) <= set(told.get_values_for_type(x509.DNSName)) and ends - now > _RENEW


async def ensure(
    cluster: Cluster, *, service: str, namespace: str, secret: str, configuration: str, now: datetime | None = None
) -> bool:
    """Make or renew what is needed, in Secret `secret` and webhook configuration `configuration`; whether it was new.

    Raises NotFound (no such configuration) and what the cluster refuses. Running it twice changes nothing.
    """
    now = now or datetime.now(UTC)
    names = [f"{service}.{namespace}.svc", f"{service}.{namespace}.svc.cluster.local", f"{service}.{namespace}"]
    known = await cluster.get("v1", "Secret", namespace, secret)
    found = _of_secret(known) if known else None
    fresh = found is None or not usable(found, names, now)
    if found is None or fresh:
        found = make(names, now)
        await _save(cluster, namespace, secret, known, found)
    await _believe(cluster, configuration, found.authority)
    return fresh


def _of_secret(secret: Object) -> Certificate | None:
    try:
        values = [
            base64.b64decode(text(secret, "data", name), validate=True) for name in ("ca.crt", "tls.crt", "tls.key")
        ]
    except ValueError:
        return None
    return Certificate(*values) if all(values) else None


async def _save(cluster: Cluster, namespace: str, name: str, known: Object | None, found: Certificate) -> None:
    data = {"ca.crt": found.authority, "tls.crt": found.certificate, "tls.key": found.key}
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    metadata = {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "paramedic"}}
    if known is not None and text(known, "type") not in ("kubernetes.io/tls", "Opaque", ""):
        raise InvalidInput(f"Secret {namespace}/{name} is of another type than kubernetes.io/tls: name another one")
    body = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "data": encoded}
    if known is None:
        path = await cluster.path("v1", "Secret", namespace)
        await cluster.request("POST", path, body=json.dumps(body).encode())
    else:
        version = text(known, "metadata", "resourceVersion")
        patch = {"metadata": {"resourceVersion": version}, "data": encoded}
        path = await cluster.path("v1", "Secret", namespace, name)
        kind = "application/merge-patch+json"
        await cluster.request("PATCH", path, body=json.dumps(patch).encode(), content_type=kind)


async def _believe(cluster: Cluster, name: str, authority: bytes) -> None:
    """Let the API server trust the authority for every webhook of the configuration."""
    kind, version = "MutatingWebhookConfiguration", "admissionregistration.k8s.io/v1"
    found = await cluster.get(version, kind, None, name)
    if found is None:
        raise NotFound(f"there is no {kind} {name}")
    bundle = base64.b64encode(authority).decode()
    operations = [
        {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": bundle}
        for index, webhook in enumerate(objects(found, "webhooks"))
        if text(webhook, "clientConfig", "caBundle") != bundle
    ]
    if operations:
        path = await cluster.path(version, kind, None, name)
        kind = "application/json-patch+json"
        await cluster.request("PATCH", path, body=json.dumps(operations).encode(), content_type=kind)
