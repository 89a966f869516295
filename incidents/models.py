"""The vocabulary that every room speaks: incidents, evidence, findings, causes, diagnoses.

Identifiers of observations and findings are derived from their content, so that analysing the same input twice
gives the same document, byte for byte. All times are timezone-aware UTC.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from incidents.crash_report import CrashReport

SCHEMA_VERSION = "1.0"
EXCERPT_CHARS = 4000
"""An evidence excerpt is cut here; the whole text is kept in the evidence store."""

Fact = str | int | float | bool | None | list[str]


class Frozen(BaseModel):
    """Base of the vocabulary: immutable, and unknown fields are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def new_id(prefix: str) -> str:
    """A random identifier with 128 bits of entropy, such as `inc_3f…`."""
    return f"{prefix}_{secrets.token_hex(16)}"


def content_id(prefix: str, *parts: str) -> str:
    """An identifier that depends on nothing but `parts`."""
    digest = hashlib.sha256("\x1f".join(parts).encode("utf-8", "backslashreplace")).hexdigest()
    return f"{prefix}_{digest[:16]}"


class ObjectRef(Frozen):
    """A Kubernetes object, a helm release (`kind="HelmRelease"`) or a program (`kind="Process"`, name = executable)."""

    kind: str
    namespace: str | None = None
    name: str
    container: str | None = None

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        inside = f" container {self.container}" if self.container else ""
        return f"{self.kind} {where}{self.name}{inside}"


class EvidenceKind(StrEnum):
    CORE = "core"
    GDB = "gdb"
    OBJECT = "object"
    EVENT = "event"
    LOG = "log"
    HISTORY = "history"
    HELM = "helm"
    METRIC = "metric"
    REPORT = "report"
    RUNBOOK = "runbook"  # the team's own, quoted with file and heading
    WEB = "web"  # what a search found: outside text


class Evidence(Frozen):
    """One observation. The exact source lets a person look again."""

    id: str
    kind: EvidenceKind
    source: str = Field(description="The exact command, API path, or file and offset that was read")
    observed_at: datetime
    sha256: str = Field(description="Of the whole text, before cutting")
    excerpt: str
    truncated: bool = False
    size: int = Field(description="Characters of the whole text")

    @classmethod
    def of(cls, kind: EvidenceKind, source: str, text: str, observed_at: datetime) -> Evidence:
        """Record `text` as seen at `source`. The excerpt keeps the start; cut longer text to what matters first."""
        return cls(
            id=content_id("ev", kind, source, text),
            kind=kind,
            source=source,
            observed_at=observed_at,
            sha256=hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest(),
            excerpt=text[:EXCERPT_CHARS],
            truncated=len(text) > EXCERPT_CHARS,
            size=len(text),
        )


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class Finding(Frozen):
    """One claim and the evidence that supports it. A finding without evidence cannot be made."""

    id: str
    rule: str = Field(description="Name of the analyzer or rule, or `model:<name>`")
    claim: str
    severity: Severity = Severity.ERROR
    object: ObjectRef | None = None
    evidence_ids: list[str] = Field(min_length=1)
    source: Literal["rule", "model"] = "rule"

    @classmethod
    def of(
        cls,
        rule: str,
        claim: str,
        evidence: list[Evidence],
        *,
        severity: Severity = Severity.ERROR,
        object: ObjectRef | None = None,
    ) -> Finding:
        """A rule's finding, with an id derived from its content."""
        ids = [item.id for item in evidence]
        return cls(
            id=content_id("fnd", rule, claim, str(object), *ids),
            rule=rule,
            claim=claim,
            severity=severity,
            object=object,
            evidence_ids=ids,
        )


class CauseClass(StrEnum):
    """The closed list of causes. Later analyzers add here; nothing else may name a cause."""

    # crashes of native code (reference: signal(7), sigaction(2))
    NULL_DEREFERENCE = "null_dereference"
    WILD_POINTER = "wild_pointer"
    STACK_OVERFLOW = "stack_overflow"
    ABORT = "abort"
    HEAP_CORRUPTION = "heap_corruption"
    STACK_SMASHING = "stack_smashing"
    ASSERTION = "assertion"
    UNCAUGHT_EXCEPTION = "uncaught_exception"
    PANIC = "panic"  # of a language that calls it so: Rust, Go
    ARITHMETIC = "arithmetic"
    ILLEGAL_INSTRUCTION = "illegal_instruction"
    BUS_ERROR = "bus_error"
    EXTERNAL_SIGNAL = "external_signal"
    NATIVE_CRASH = "native_crash"  # a crash by signal is certain, its core is not at hand
    # workloads
    OOM_KILLED = "oom_killed"
    WRONG_LIVENESS_PROBE = "wrong_liveness_probe"
    WRONG_READINESS_PROBE = "wrong_readiness_probe"
    WRONG_STARTUP_PROBE = "wrong_startup_probe"
    BAD_IMAGE = "bad_image"
    MISSING_PULL_SECRET = "missing_pull_secret"  # noqa: S105 (a class name, no secret)
    MISSING_CONFIG_MAP = "missing_config_map"
    MISSING_CONFIG_KEY = "missing_config_key"
    MISSING_SECRET = "missing_secret"  # noqa: S105
    BAD_COMMAND = "bad_command"
    UNSCHEDULABLE = "unschedulable"
    QUOTA_EXCEEDED = "quota_exceeded"
    APPLICATION_ERROR = "application_error"
    DEPENDENCY_UNAVAILABLE = "dependency_unavailable"
    BAD_ROLLOUT = "bad_rollout"
    EVICTED = "evicted"
    NODE_LOST = "node_lost"
    # admission: the API server refuses the object
    LIMIT_RANGE_VIOLATED = "limit_range_violated"
    MISSING_SERVICE_ACCOUNT = "missing_service_account"
    POD_SECURITY_DENIED = "pod_security_denied"
    WEBHOOK_DENIED = "webhook_denied"
    WEBHOOK_UNAVAILABLE = "webhook_unavailable"
    RBAC_DENIED = "rbac_denied"  # the workload's own account may not do what its program asks for
    # scheduling: UNSCHEDULABLE where the scheduler's words name none of these
    INSUFFICIENT_RESOURCES = "insufficient_resources"
    NODE_SELECTOR_MISMATCH = "node_selector_mismatch"
    AFFINITY_UNSATISFIABLE = "affinity_unsatisfiable"
    UNTOLERATED_TAINT = "untolerated_taint"
    NODE_CORDONED = "node_cordoned"
    TOPOLOGY_SPREAD_UNSATISFIABLE = "topology_spread_unsatisfiable"
    VOLUME_ZONE_CONFLICT = "volume_zone_conflict"
    MISSING_CLAIM = "missing_claim"
    MISSING_STORAGE_CLASS = "missing_storage_class"
    VOLUME_NOT_PROVISIONED = "volume_not_provisioned"
    VOLUME_MISMATCH = "volume_mismatch"  # capacity, access mode, selector, or bound to another claim
    SCHEDULER_DOWN = "scheduler_down"
    # start-up
    REGISTRY_UNREACHABLE = "registry_unreachable"
    REGISTRY_RATE_LIMITED = "registry_rate_limited"
    MOUNT_FAILED = "mount_failed"
    PERMISSION_DENIED = "permission_denied"
    PORT_CONFLICT = "port_conflict"
    # run time
    ZERO_REPLICAS = "zero_replicas"
    WRONG_CREDENTIALS = "wrong_credentials"
    WRONG_DEPENDENCY_ADDRESS = "wrong_dependency_address"
    DATABASE_READ_ONLY = "database_read_only"
    CONNECTIONS_EXHAUSTED = "connections_exhausted"
    DISK_FULL = "disk_full"
    TOO_MANY_OPEN_FILES = "too_many_open_files"
    CPU_THROTTLED = "cpu_throttled"
    # the way to a service
    SERVICE_SELECTOR_MISMATCH = "service_selector_mismatch"
    SERVICE_WRONG_TARGET_PORT = "service_wrong_target_port"
    SERVICE_WRONG_PROTOCOL = "service_wrong_protocol"
    SERVICE_WITHOUT_ENDPOINTS = "service_without_endpoints"
    HEADLESS_SERVICE_MISUSED = "headless_service_misused"
    BACKEND_MISSING = "backend_missing"  # of an Ingress or a Gateway's route
    NETWORK_POLICY_BLOCKS = "network_policy_blocks"
    CLUSTER_DNS_DOWN = "cluster_dns_down"
    # infrastructure
    KUBELET_DOWN = "kubelet_down"
    CONTAINER_RUNTIME_DOWN = "container_runtime_down"
    KUBE_PROXY_DOWN = "kube_proxy_down"
    CONTROLLER_MANAGER_DOWN = "controller_manager_down"
    NODE_DISK_PRESSURE = "node_disk_pressure"
    NODE_MEMORY_PRESSURE = "node_memory_pressure"
    NODE_PID_PRESSURE = "node_pid_pressure"
    NETWORK_DEGRADED = "network_degraded"
    # controllers
    ROLLOUT_STUCK = "rollout_stuck"
    JOB_BACKOFF = "job_backoff"
    CRON_JOB_SUSPENDED = "cron_job_suspended"
    CRON_JOB_NEVER_SCHEDULED = "cron_job_never_scheduled"
    STATEFUL_SET_BLOCKED = "stateful_set_blocked"  # waits on a lower ordinal
    DAEMON_SET_SKIPS_NODES = "daemon_set_skips_nodes"
    DISRUPTION_BUDGET_BLOCKS = "disruption_budget_blocks"
    AUTOSCALER_WITHOUT_METRICS = "autoscaler_without_metrics"
    FINALIZER_STUCK = "finalizer_stuck"
    CHANGE_UNDONE = "change_undone"  # another actor breaks again what was repaired
    BAD_CHANGE = "bad_change"  # of an image, a ConfigMap or a Secret, right before the symptom
    UNKNOWN = "unknown"


class Cause(Frozen):
    """A class from the closed list, the object it lies in, and what supports or weakens it."""

    cause_class: CauseClass = Field(alias="class")
    object: ObjectRef
    confidence: float = Field(ge=0, le=1)
    summary: str
    finding_ids: list[str] = Field(min_length=1)
    chain: list[str] = Field(default_factory=list, description="From the symptom to this cause, a sentence a step")
    weakened_by: list[str] = Field(default_factory=list, description="Ids of findings that speak against it")
    facts: dict[str, Fact] = Field(default_factory=dict, description="What an action needs to know, as observed")


class MomentKind(StrEnum):
    CHANGE = "change"  # of an object, a ConfigMap or a Secret, by whom
    ROLLOUT = "rollout"  # a new revision of a workload, a helm revision
    SCALING = "scaling"
    RESTART = "restart"  # a container ended or began again
    CRASH = "crash"  # ended by a signal, or a core was read
    EVENT = "event"
    NODE = "node"
    ALERT = "alert"
    ACTION = "action"  # what Paramedic itself executed, verified or undid


class Moment(Frozen):
    """One entry of the timeline that a person reads: what happened when, and to what."""

    at: datetime
    until: datetime | None = Field(default=None, description="Of a repeated event: when it was last seen")
    kind: MomentKind
    object: ObjectRef | None = None
    text: str
    count: int = Field(default=1, ge=1, description="Repetitions that this entry stands for")
    onset: bool = Field(default=False, description="The first entry that shows the trouble, as far as was seen")
    evidence_ids: list[str] = Field(min_length=1)


class Recalled(Frozen):
    """What memory proposes: an earlier incident or a passage of a runbook. It decides nothing by itself."""

    kind: Literal["incident", "runbook"]
    source: str = Field(description="The incident's id, or the runbook's file and heading")
    text: str = Field(description="What was done and whether it held, or the passage")
    why: str = Field(description="What it has in common with the present case")
    borne_out: bool | None = Field(
        default=None, description="Whether the present evidence bears what it proposes; null: nothing to check it by"
    )
    checked: str = Field(description="How that was checked, in one sentence")
    evidence_ids: list[str] = Field(min_length=1)


class Hypothesis(Frozen):
    """A cause that a model proposed, and what became of it. Only a confirmed one is a candidate cause."""

    cause_class: CauseClass = Field(alias="class")
    object: ObjectRef
    confirms: str = Field(default="", description="What would confirm it: the model's expectation, no observation")
    refutes: str = Field(default="", description="What would refute it; likewise")
    verdict: Literal["confirmed", "refuted", "undecided", "not_tested"]
    because: str = Field(description="A statement that the evidence bears; of an open one, why there is none")
    evidence_ids: list[str] = Field(default_factory=list)


class ModelStatements(Frozen):
    """Everything that models stated, and how much of it the evidence bears. The rest was dropped and is nowhere."""

    kept: int = Field(ge=0)
    total: int = Field(ge=0)


class DiagnosisStatus(StrEnum):
    DIAGNOSED = "diagnosed"
    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    FAILED = "failed"


class Diagnosis(Frozen):
    """What `--json` prints. `unknown` and `healthy` are answers."""

    schema_version: str = SCHEMA_VERSION
    status: DiagnosisStatus
    causes: list[Cause] = Field(default_factory=list, description="In rank order, likeliest first")
    findings: list[Finding] = Field(default_factory=list)
    evidence: list[Evidence] = Field(default_factory=list)
    ruled_out: list[str] = Field(default_factory=list, description="What was looked for and excluded, and why")
    unseen: list[str] = Field(default_factory=list, description="What could not be looked at, and why")
    next_steps: list[str] = Field(default_factory=list)
    timeline: list[Moment] = Field(default_factory=list, description="Oldest first, around the symptom")
    recalled: list[Recalled] = Field(default_factory=list, description="Likeliest to help first")
    crash: CrashReport | None = None
    signature: str | None = None
    explanation: str | None = Field(default=None, description="A model's text, kept only as far as evidence bears it")
    hypotheses: list[Hypothesis] = Field(default_factory=list, description="What a model tested, in its order")
    model_statements: ModelStatements | None = Field(default=None, description="null: no model stated anything")
    closure: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of the statements on the way to this diagnosis that its evidence bears: findings and causes "
        "of the rules, and all statements of models, the dropped ones too. null: nothing was stated",
    )


class Via(StrEnum):
    API = "api"
    CLI = "cli"
    CHAT = "chat"
    COLLECTOR = "collector"
    POLICY = "policy"  # the service itself: a crash storm


class CoreRef(Frozen):
    """Where a core and its executable are. Exactly one of path, url, upload for the core."""

    path: str | None = None
    url: str | None = None
    upload: str | None = Field(default=None, description="Id returned by `POST /api/v1/uploads`")
    executable: str | None = Field(default=None, description="A path, an upload id (`upl_…`) or an allowed URL")
    sysroot: str | None = None
    debug_dir: str | None = None


class IncidentStatus(StrEnum):
    RECEIVED = "received"
    ANALYSING = "analysing"
    AWAITING_APPROVAL = "awaiting_approval"
    EXECUTING = "executing"
    # ended
    DIAGNOSED = "diagnosed"  # a report; nothing to execute, or only a proposal for people
    HEALTHY = "healthy"
    UNKNOWN = "unknown"
    FIXED = "fixed"
    NOT_FIXED = "not_fixed"  # executed, did not help, undone
    ESCALATED = "escalated"  # executed or half executed, and a human has to look
    DECLINED = "declined"  # a human said no
    EXPIRED = "expired"  # nobody decided in time
    STALE = "stale"  # something changed after the approval; nothing was written
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        return self not in _OPEN


_OPEN = {
    IncidentStatus.RECEIVED,
    IncidentStatus.ANALYSING,
    IncidentStatus.AWAITING_APPROVAL,
    IncidentStatus.EXECUTING,
}


class Incident(Frozen):
    """What came in, and where it stands. One incident is one graph thread of the same id."""

    id: str
    created_at: datetime
    updated_at: datetime
    status: IncidentStatus
    target: ObjectRef
    event: str = Field(description="What the caller said happened; outside text")
    core: CoreRef | None = None
    requested_by: str = Field(description="Identity of the requester, as the server authenticated it")
    via: Via = Via.API
    force: bool = False
    signature: str | None = None
    summary: str | None = None
    count: int = Field(default=1, description="Reports of this crash so far: repetitions are counted, not opened anew")


class Step(Frozen):
    """One entry of an incident's timeline; `seq` grows by one within the incident and is the SSE id."""

    incident_id: str
    seq: int
    at: datetime
    type: str = Field(
        description="run.started, step.started, hop, finding, approval.requested, executed, done, error …"
    )
    agent: str | None = None
    text: str
    data: dict[str, object] = Field(default_factory=dict)
