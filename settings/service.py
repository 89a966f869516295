"""Who may call the service, which cluster it sees, and what its gate allows."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from settings.section import Section

Scope = Literal["read", "autofix", "approve"]


class ApiKey(Section):
    """A named caller. The key itself is never stored: `paramedic keys new NAME` prints it once with its hash."""

    name: str = Field(description="The identity that incidents, votes and the audit log carry")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    scopes: list[Scope] = Field(default=["read"])


class ApiSettings(Section):
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    keys: list[ApiKey] = Field(default_factory=list, description="Empty: only loopback callers, as identity `local`")
    max_body_bytes: int = 1 << 20
    max_upload_bytes: int = 4 << 30
    public_url: str | None = Field(default=None, description="Where people reach the service; used in links on cards")


class KubernetesSettings(Section):
    kubeconfig: Path | None = Field(default=None, description="Default: $KUBECONFIG, ~/.kube/config, in-cluster")
    context: str | None = None
    enabled: bool = Field(default=True, description="False: never look for a cluster")
    request_timeout: float = 15.0
    max_log_bytes: int = 256 * 1024
    max_objects: int = 20_000


class GateSettings(Section):
    """The policy of the gate. Its hash is bound into every approval as the policy version."""

    kill_switch: bool = Field(default=False, description="True: nothing is executed, whatever was approved")
    approvers: dict[str, list[Literal["approver", "admin"]]] = Field(
        default_factory=dict,
        description="Identity to roles. Identities: `api:<key name>`, `feishu:<tenant_key>/<open_id>`, `local`",
    )
    allow_self_approval: bool = Field(default=False, description="For a single-user machine; the audit says so")
    approval_seconds: int = Field(default=900, ge=10, le=86_400)
    namespaces: list[str] = Field(
        default_factory=list, description="Where writes are allowed; empty: all but protected"
    )
    protected_namespaces: list[str] = Field(
        default_factory=lambda: ["kube-system", "kube-public", "kube-node-lease", "flux-system", "argocd"]
    )
    nodes: bool = Field(default=False, description="Whether nodes may be cordoned and uncordoned")
    max_executions_per_hour: int = 20
    verify_seconds: float = Field(default=300.0, description="How long a fix may take to become healthy")
    verify_stable_seconds: float = Field(default=60.0, description="No restart and ready for this long counts as fixed")
    verify_poll_seconds: float = 2.0
