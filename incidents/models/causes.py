"""Causes: the closed list of their classes, and one with what supports it."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from incidents.models.evidence import Fact, Frozen, ObjectRef


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
