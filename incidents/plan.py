"""The vocabulary of the gate: actions, writes, plans, approvals, executions, verifications.

An action says what is wanted; a model may suggest one. Everything else (the exact write, its inverse, its risk) is
derived by `actions/catalogue`, never by a model. What is approved is the digest of a plan's canonical form.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from incidents.actions import Action as Action
from incidents.actions import ChangeProbe as ChangeProbe
from incidents.actions import ChangeResources as ChangeResources
from incidents.actions import DeletePod as DeletePod
from incidents.actions import HelmRollbackAction as HelmRollbackAction
from incidents.actions import HelmUninstallAction as HelmUninstallAction
from incidents.actions import ProbeKind as ProbeKind
from incidents.actions import Restart as Restart
from incidents.actions import RollbackRevision as RollbackRevision
from incidents.actions import Scale as Scale
from incidents.models import Fact, Frozen

EXECUTOR_VERSION = "1"
"""Part of every plan: an approval given for one executor is void for another."""


class PatchWrite(Frozen):
    """One JSON Patch (RFC 6902), exactly these bytes.

    The body begins with `test` operations on `/metadata/uid` and `/metadata/generation`, so the API server itself
    refuses it, atomically, when the object was re-created or its spec was edited since. A kind that has no generation
    (Service; CronJob and Node of old servers) is tested for its whole `/spec` instead, a Node for what is changed.
    """

    type: Literal["patch"] = "patch"
    api_version: str
    kind: str
    namespace: str = Field(description="Empty for a Node")
    name: str
    uid: str
    resource_version: str = Field(description="As observed when planned; status updates move it")
    generation: int = Field(description="0 for a kind that has none")
    fingerprint: str = Field(description="sha256 of metadata and spec without status, managed and volatile fields")
    content_type: Literal["application/json-patch+json"] = "application/json-patch+json"
    body: str


class DeleteWrite(Frozen):
    """DELETE with `preconditions.uid`."""

    type: Literal["delete"] = "delete"
    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str
    fingerprint: str
    grace_period_seconds: int | None = None


class HelmWrite(Frozen):
    """`helm rollback RELEASE TO` or `helm uninstall RELEASE --keep-history`, bound to the release as it was read."""

    type: Literal["helm"] = "helm"
    verb: Literal["rollback", "uninstall"]
    namespace: str
    release: str
    revision: int = Field(description="Current revision; the executor refuses when it moved")
    to_revision: int | None = None
    storage_uid: str = Field(description="uid of the release's storage Secret")
    storage_resource_version: str
    values_sha256: str
    manifest_sha256: str


Write = Annotated[PatchWrite | DeleteWrite | HelmWrite, Field(discriminator="type")]


class Risk(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class EvidenceNeed(StrEnum):
    NONE = "none"
    CORE = "core"  # a native crash: the core must be captured, complete and hashed, or waived by the approver


class Plan(Frozen):
    """One action made exact. Everything in it is bound by `digest()`; nothing else is ever executed."""

    id: str
    incident_id: str
    action: Action
    title: str
    reason: str
    cause_class: str | None = None
    writes: list[Write] = Field(min_length=1)
    inverse: list[Write] = Field(default_factory=list, description="Empty when the action cannot be undone")
    reversible: bool
    risk: Risk
    blast_radius: str
    affected_pods: int = 0
    quorum: int = Field(ge=1, le=2, description="Approvers needed")
    diff: str = Field(description="Unified diff of the server-side dry run: what the human sees")
    preimage: str = Field(description="Canonical JSON of the target before, without status and managed fields")
    deps_digest: str = Field(description="sha256 over referenced ConfigMaps, Secrets (versions only) and image ids")
    evidence_need: EvidenceNeed = EvidenceNeed.NONE
    evidence_sha256: str | None = Field(default=None, description="Of the captured core; null when it is missing")
    evidence_digest: str = Field(description="sha256 over the diagnosis that the plan rests on")
    crash_signature: str | None = None
    containers: list[str] = Field(default_factory=list, description="Whose restarts verification watches")
    policy_version: str
    executor_version: str = EXECUTOR_VERSION
    cluster_id: str = Field(description="uid of the kube-system namespace")
    requested_by: str
    created_at: datetime

    def canonical(self) -> bytes:
        """The bytes that are hashed: sorted keys, no white space, UTF-8."""
        return canonical_json(self.model_dump(mode="json"))

    def digest(self) -> str:
        return hashlib.sha256(self.canonical()).hexdigest()


class Proposal(Frozen):
    """What people should do, where Paramedic must not: GitOps or operator owned objects, bugs in code."""

    title: str
    reason: str
    steps: list[str] = Field(default_factory=list)
    change: str | None = Field(default=None, description="A diff or manifest fragment for the owners' repository")


class ApprovalState(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    STALE = "stale"  # approved, and refused by the executor's last look; nothing was written
    CLAIMED = "claimed"
    EXECUTING = "executing"
    VERIFYING = "verifying"
    DONE = "done"
    UNDONE = "undone"
    FAILED = "failed"  # escalated: a human has to look

    @property
    def decided(self) -> bool:
        return self is not ApprovalState.PENDING


class Vote(Frozen):
    """One identity's decision about exactly one digest."""

    identity: str
    verdict: Literal["approve", "reject"]
    digest: str
    waive_evidence: bool = False
    channel: str = Field(description="api | cli | feishu")
    reason: str | None = None
    at: datetime


class Approval(Frozen):
    """The database row that is the only truth about a decision."""

    id: str
    incident_id: str
    plan: Plan
    digest: str
    state: ApprovalState
    requested_by: str
    quorum: int
    votes: list[Vote] = Field(default_factory=list)
    issued_at: datetime
    expires_at: datetime
    nonce: str
    channel_message_id: str | None = None
    outcome: str | None = None


class Verification(Frozen):
    """What was watched after the write, and what was seen."""

    ok: bool
    summary: str
    checks: dict[str, Fact] = Field(default_factory=dict)
    evidence_ids: list[str] = Field(default_factory=list)


class Execution(Frozen):
    """The journal of one approved plan: written before and after each effect."""

    approval_id: str
    step: str = Field(description="claimed | undo_recorded | applying:N | applied:N | verifying | undoing:N | …")
    post_generation: int | None = None
    detail: dict[str, Fact] = Field(default_factory=dict)
    started_at: datetime
    updated_at: datetime


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys and no white space (the form that digests are taken of)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "backslashreplace"
    )
