"""Configuration: one documented file (`paramedic.toml`) or environment variables (`PARAMEDIC_…`, nested with `__`).

Everything has a default that works embedded: SQLite and files in the data directory, no model, no channel, no cluster
until a kubeconfig is found. Unknown keys in the file are an error. Durations are in seconds, sizes in bytes.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from errors import InvalidInput

Scope = Literal["read", "autofix", "approve"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ApiKey(_Section):
    """A named caller. The key itself is never stored: `paramedic keys new NAME` prints it once with its hash."""

    name: str = Field(description="The identity that incidents, votes and the audit log carry")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    scopes: list[Scope] = Field(default=["read"])


class ApiSettings(_Section):
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    keys: list[ApiKey] = Field(default_factory=list, description="Empty: only loopback callers, as identity `local`")
    max_body_bytes: int = 1 << 20
    max_upload_bytes: int = 4 << 30
    public_url: str | None = Field(default=None, description="Where people reach the service; used in links on cards")


class KubernetesSettings(_Section):
    kubeconfig: Path | None = Field(default=None, description="Default: $KUBECONFIG, ~/.kube/config, in-cluster")
    context: str | None = None
    enabled: bool = Field(default=True, description="False: never look for a cluster")
    request_timeout: float = 15.0
    max_log_bytes: int = 256 * 1024
    max_objects: int = 20_000


class CoreSettings(_Section):
    roots: list[Path] = Field(default_factory=list, description="Folders that API callers may name cores in")
    url_hosts: list[str] = Field(default_factory=list, description="host or host:port that cores may be fetched from")
    url_schemes: list[Literal["https", "http"]] = Field(default=["https"])
    node_dir: Path | None = Field(
        default=None, description="Folder of cores as `<namespace>/<pod>_<uid>/<container>/…`; searched for incidents"
    )
    executable_dirs: list[Path] = Field(default_factory=list, description="Searched for executables by build-id")
    debug_dirs: list[Path] = Field(default_factory=lambda: [Path("/usr/lib/debug")])
    source_dirs: list[Path] = Field(default_factory=list, description="Searched for source files; nothing else is read")
    sysroot: Path | None = None
    debuginfod_urls: list[Annotated[str, Field(pattern=r"^https?://[^@\s]+$")]] = Field(
        default_factory=list, description="Servers asked for missing programs and debug information; empty: none"
    )
    max_bytes: int = 64 << 30
    repeat_seconds: float = Field(
        default=3600.0,
        ge=0,
        description="The same crash within this time of an incident that ended with a report is counted there",
    )


class HandlerSettings(_Section):
    """The team's own program, run once for each core and each crash without one. See the README for its variables."""

    command: list[str] = Field(default_factory=list, description="Program and arguments, without a shell; empty: none")
    timeout: float = Field(default=300.0, gt=0, le=3600, description="Then it is killed, with all that it started")
    parallel: int = Field(default=2, ge=1, le=16, description="Runs at the same time")
    namespaces: list[str] = Field(default_factory=list, description="Patterns (`team-*`); empty: all")
    owners: list[str] = Field(default_factory=list, description="Patterns of workloads: `Deployment/shop-*`, `shop`")
    keyword: str | None = Field(default=None, min_length=1, description="In the executable's path, or the pod's name")


class CollectorSettings(_Section):
    """The node agent, `paramedic collect`."""

    roots: list[Path] = Field(
        default_factory=list,
        description="Folders that cores appear in: files, or `<namespace>/<pod>_<uid>/<container>/<file>`",
    )
    node_name: str | None = Field(default=None, description="Default: the host's name")
    watch: Literal["auto", "inotify", "poll"] = Field(
        default="auto", description="auto: inotify, but polling where a folder is on a network file system"
    )
    scan_seconds: float = Field(default=10.0, gt=0, description="A scan happens at least this often")
    poll_seconds: float = Field(default=2.0, gt=0, description="Between looks at a file that is not settled")
    settle_seconds: float = Field(
        default=30.0, ge=1, description="A core that is not whole and has not grown for so long was cut"
    )
    grace_seconds: float = Field(default=20.0, ge=0, description="A crash without a core for so long has none")
    restarts: bool = Field(default=True, description="Record crashes that leave no core (needs the cluster)")
    max_files: int = Field(default=10_000, ge=1, description="New ones in a scan of a root; namespaces take turns")
    node_processes: bool = Field(default=True, description="`proc` shows the processes of the whole node (hostPID)")
    proc: Path = Path("/proc")
    image_layers: list[str] = Field(
        default=[
            "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/*/fs",
            "/var/lib/containerd/io.containerd.snapshotter.v1.native/snapshots/*",
            "/var/lib/containers/storage/overlay/*/diff",
            "/var/lib/docker/overlay2/*/diff",
        ],
        description="Folders of unpacked image layers (patterns), where crashed programs are found by build-id",
    )
    socket: Path | None = Field(
        default=None,
        description="Socket that the kernel sends cores to, into the first of `roots` (kernel.core_pattern @PATH, "
        "Linux 6.16)",
    )
    service_url: Annotated[str, Field(pattern=r"^https?://[^@\s]+$")] | None = Field(
        default=None, description="The service, or any CloudEvents sink, that each core is told to; empty: nobody"
    )
    service_key: SecretStr | None = Field(default=None, description="Sent as bearer token; scope `autofix`")
    service_key_file: Path | None = None
    handler: HandlerSettings = Field(default_factory=HandlerSettings)
    tell_node: bool = Field(
        default=False, description="Annotate the Node with what it does with cores, so that the webhook can warn"
    )
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(
        default=0, ge=0, le=65535, description="/metrics, /livez and /readyz of the agent; 0: it listens nowhere"
    )
    metrics_aliases: bool = Field(
        default=False, description="Each measure also by its older name, `milvus_coredump_agent_…`"
    )


class WebhookSettings(_Section):
    """The admission webhook, `paramedic webhook`."""

    host: str = "0.0.0.0"  # noqa: S104 (the API server calls it from elsewhere)
    port: int = Field(default=8443, ge=0, le=65535)
    certificate: Path = Path("/etc/paramedic/tls/tls.crt")
    key: Path = Path("/etc/paramedic/tls/tls.key")
    node_folder: Annotated[Path, Field(description="Folder of every node that cores are kept in")] = Path(
        "/var/lib/paramedic/cores"
    )
    mount_path: str = Field(default="/corefile", description="Where pods see it that name no path themselves")
    namespaces: list[str] = Field(default_factory=list, description="Where pods may ask for it; empty: everywhere")
    max_pods: int | None = Field(default=None, ge=0, description="Pods of one namespace that may have it at a time")


class GdbSettings(_Section):
    program: str = "gdb"
    deadline: float = Field(default=120.0, description="Of one whole analysis")
    memory_bytes: int = 4 << 30
    cpu_seconds: int = 60
    output_bytes: int = 64 << 20
    max_frames: int = 256
    max_threads: int = 512
    sandbox: Literal["auto", "bubblewrap", "rlimits"] = Field(
        default="auto",
        description="Of what reads a core. auto: namespaces of its own where they can be made, else process limits and "
        "a filter of system calls; rlimits: these alone; bubblewrap: namespaces, or nothing is read",
    )
    index_cache: Path | None = Field(
        default=None, description="Where gdb's indexes of large debug information are kept; empty: DATA_DIR/gdb-index"
    )
    index_from_bytes: int = Field(
        default=48 << 20,
        description="Smaller debug information of a program is read faster than indexed; of libraries 1 MiB is enough",
    )
    index_cache_bytes: int = Field(default=4 << 30, description="Older indexes go when there is more; 0 keeps none")


class GateSettings(_Section):
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


class FeishuSettings(_Section):
    base_url: str = "https://open.feishu.cn"
    app_id: str | None = None
    app_secret: SecretStr | None = None
    encrypt_key: SecretStr | None = None
    verification_token: SecretStr | None = None
    chat_id: str | None = Field(default=None, description="The chat that cards go to")
    webhook_url: SecretStr | None = Field(default=None, description="Custom bot: notices without buttons")
    webhook_secret: SecretStr | None = None
    language: Literal["en", "zh"] = "en"


class InstanceRule(_Section):
    """Which pods are instances of a software. See diagnosis/workloads/instances.py for how a rule is read."""

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    labels: dict[str, str] = Field(min_length=1, description="All must be there, on the pod or on its workload")
    name_from: list[str] = Field(
        default_factory=list,
        description="Labels, or annotations of the workload, that name the instance; the first that is there",
    )
    version_from: list[str] = Field(default_factory=list, description="Likewise its version; else the image's tag")


def _milvus() -> list[InstanceRule]:
    version = ["app.kubernetes.io/version"]
    return [
        InstanceRule(
            name="milvus-operator",
            labels={"app.kubernetes.io/name": "milvus", "app.kubernetes.io/managed-by": "milvus-operator"},
            name_from=["app.kubernetes.io/instance", "milvus.io/instance"],
            version_from=version,
        ),
        InstanceRule(
            name="milvus-helm",
            labels={"app.kubernetes.io/name": "milvus"},
            name_from=["app.kubernetes.io/instance", "helm.sh/release", "meta.helm.sh/release-name"],
            version_from=version,
        ),
    ]


class PolicySettings(_Section):
    """Crash storms: more than so many crashes of one instance (or of a workload that is in none) within a window."""

    mode: Literal["propose", "dry-run", "off"] = Field(
        default="off",
        description="propose: ask people for approval to stop the storm; dry-run: only say what would be asked for; "
        "off: crashes are not counted. Nothing is ever done without an approval",
    )
    crash_classes: list[Literal["crash_signal", "exit_code", "oom_killed", "not_started"]] = Field(
        default=["crash_signal", "exit_code", "oom_killed"],
        description="Which ends of a container count; kills by probes, evictions and stops never do",
    )
    threshold: int = Field(default=5, ge=1, description="More crashes than this are a storm")
    window_seconds: float = Field(default=3600.0, ge=60, le=604_800, description="The last so many seconds count")
    scan_seconds: float = Field(default=30.0, ge=1, description="How often the pods are looked at")
    namespaces: list[str] = Field(default_factory=list, description="Where; empty: everywhere")


class NotifyChannel(_Section):
    """A group that is told beside the one of `[feishu]`, and what it wants to hear: all filters must let it through."""

    name: str = Field(pattern="^[a-z0-9-]{1,24}$", description="In logs and metrics")
    kind: Literal["slack", "wecom", "feishu"] = Field(description="Incoming webhook, group robot or custom bot")
    webhook_url: SecretStr | None = None
    webhook_url_file: Path | None = None
    webhook_secret: SecretStr | None = Field(default=None, description="Feishu only: the bot's signature")
    namespaces: list[str] = Field(default_factory=list, description="Patterns (`team-*`); empty: all")
    owners: list[str] = Field(default_factory=list, description="Patterns of workloads: `Deployment/shop-*`, `shop`")
    min_severity: Literal["info", "warning", "error", "critical"] = "info"
    keyword: str | None = Field(default=None, min_length=1, description="In what is said of the incident")
    template: str | None = Field(
        default=None, min_length=1, max_length=2000, description="Slack and WeCom: the text, with variables in braces"
    )

    @model_validator(mode="after")
    def _one_address(self) -> NotifyChannel:
        if (self.webhook_url is None) == (self.webhook_url_file is None):
            raise ValueError(f"channel {self.name} needs webhook_url or webhook_url_file")
        return self


class NotifySettings(_Section):
    channels: list[NotifyChannel] = Field(default_factory=list)

    @field_validator("channels")
    @classmethod
    def _names(cls, value: list[NotifyChannel]) -> list[NotifyChannel]:
        names = [channel.name for channel in value]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two channels have the name {twice}; each needs its own, of whatever kind they are")
        return value


EventType = Literal[
    "io.paramedic.incident.opened",
    "io.paramedic.incident.diagnosed",
    "io.paramedic.approval.requested",
    "io.paramedic.incident.ended",
]


class EventSink(_Section):
    """Who is told of incidents by CloudEvents over HTTP. Both filters must let an event through."""

    name: str = Field(pattern="^[a-z0-9-]{1,24}$", description="In logs and metrics")
    url: SecretStr = Field(description="Posted to as it is")
    key: SecretStr | None = Field(default=None, description="Sent as bearer token")
    key_file: Path | None = None
    mode: Literal["structured", "binary"] = "structured"
    types: list[EventType] = Field(default_factory=list, description="Empty: all")
    namespaces: list[str] = Field(default_factory=list, description="Patterns (`team-*`); empty: all")

    @field_validator("url")
    @classmethod
    def _address(cls, value: SecretStr) -> SecretStr:
        if not re.fullmatch(r"https?://[^/@\s]+(/[^@\s]*)?", value.get_secret_value()):
            raise ValueError("a sink of events is an http or https URL without credentials")
        return value


class EventsSettings(_Section):
    source: str = Field(default="/paramedic", min_length=1, max_length=200, description="`source` of every event")
    sinks: list[EventSink] = Field(default_factory=list)

    @field_validator("sinks")
    @classmethod
    def _names(cls, value: list[EventSink]) -> list[EventSink]:
        if len({sink.name for sink in value}) < len(value):
            raise ValueError("two sinks have the same name")
        return value


class StoreSettings(_Section):
    """Where collected cores are kept: a bucket of an S3-compatible store, or a folder such as a mounted NFS."""

    url: Annotated[str, Field(pattern=r"^(s3://[a-z0-9][a-z0-9.-]{1,62}|file:///.*)$")] | None = Field(
        default=None, description="`s3://BUCKET` or `file:///FOLDER`; empty: the folder DATA_DIR/store"
    )
    prefix: str = Field(
        default="paramedic",
        pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}){0,3}$",
        description="What every key begins with",
    )
    endpoint: Annotated[str, Field(pattern=r"^https?://[^/@\s]+/?$")] | None = Field(
        default=None, description="Of a store that is not AWS, without the bucket; empty: AWS in `region`"
    )
    region: str = "us-east-1"
    path_style: bool = Field(
        default=True, description="The bucket in the path; false, as COS and OSS want it: in the host's name"
    )
    access_key: SecretStr | None = Field(
        default=None, description="Without keys here: AWS_* variables, web identity or the machine's role"
    )
    access_key_file: Path | None = None
    secret_key: SecretStr | None = None
    secret_key_file: Path | None = None
    session_token: SecretStr | None = Field(default=None, description="With temporary keys; it is not renewed")
    session_token_file: Path | None = None
    ca: Path | None = Field(default=None, description="PEM file of further authorities that certificates may be from")
    allow_http: bool = Field(default=False, description="Without TLS to another machine than this one")
    encryption_key_file: Path | None = Field(
        default=None, description="Keys, see the README: what is stored is encrypted here with the first of them"
    )
    part_bytes: int = Field(default=8 << 20, ge=5 << 20, le=1 << 30, description="Larger files are sent in such parts")
    timeout: float = Field(default=60.0, gt=0, description="Of one request")
    link_seconds: int = Field(default=900, ge=1, le=3600, description="How long a presigned link is valid")


class ShippingSettings(_Section):
    """What becomes of a collected core on its node."""

    full_core: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Whether the whole core is stored beside the reduced one. auto: when its crash is new to this "
        "node, its value reaches the threshold or it is cut; one that cannot be reduced is always stored whole",
    )
    value_threshold: float = Field(default=7.0, ge=0, le=10)
    local_file: Literal["remove", "truncate", "keep"] = Field(
        default="remove", description="What happens to the core's file once the store has confirmed what it holds"
    )
    parallel: int = Field(default=2, ge=1, le=16, description="Cores that are sent at the same time")
    retry_seconds: float = Field(default=300.0, gt=0, description="The longest pause between two attempts")
    disk_reserve_bytes: int = Field(
        default=1 << 30, ge=0, description="With less free on the node's disk, the least valuable cores are given up"
    )
    namespace_bytes: int | None = Field(
        default=None,
        ge=0,
        description="What the files of each namespace may take of the node's disk: beyond it go those that are done "
        "with, then its least valuable cores. Empty: no such limit",
    )
    reduce_seconds: float = Field(default=120.0, gt=0, description="Until a core is stored whole instead")


class RetentionSettings(_Section):
    """What is deleted from the store, least valuable first; empty: no such limit."""

    max_age_days: float | None = Field(default=30.0, gt=0)
    max_bytes: int | None = Field(default=50 << 30, ge=0)
    namespace_bytes: int | None = Field(default=None, ge=0, description="Of each namespace's cores")
    keep_per_signature: int | None = Field(default=20, ge=1, description="Cores of the same crash")
    interval_seconds: float = Field(default=3600.0, ge=1, description="How often the service looks")


_SERVER = r"^https?://[^/@\s?#]+(/[^\s?#]*)?$"


class MonitoringSettings(_Section):
    """A server that measurements or alerts are read from, never written to."""

    url: Annotated[str, Field(pattern=_SERVER)] | None = Field(default=None, description="Empty: it is not asked")
    bearer_token_file: Path | None = Field(default=None, description="Read at each request; a mounted one is renewed")
    ca: Path | None = Field(default=None, description="PEM file of the authorities that its certificate may be from")
    timeout: float = Field(default=10.0, gt=0, le=120, description="Of one request")
    max_bytes: int = Field(default=32 << 20, ge=1024, description="Of one answer")


class PrometheusSettings(MonitoringSettings):
    """Prometheus, or what answers its HTTP API."""


class AlertmanagerSettings(MonitoringSettings):
    """Alertmanager. Without one, alerts are those of Prometheus' own rules."""


class ForecastService(_Section):
    """A load that is forecast, and what bears it."""

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")
    query: str | None = Field(
        default=None, min_length=1, max_length=8192, description="PromQL of the whole load, one series"
    )
    csv: Path | None = Field(default=None, description="Instead: a table with a time column and a load")
    column: str | None = Field(default=None, description="Of the table, where it has several")
    per_instance: float = Field(default=100.0, gt=0, allow_inf_nan=False, description="Load that one instance bears")
    min_instances: int = Field(default=1, ge=0, le=1000)
    max_instances: int = Field(default=20, ge=1, le=1000)
    lead_seconds: float = Field(
        default=300.0, ge=0, le=86_400, description="From a decision until a new instance serves"
    )
    namespace: str | None = None
    workload: str | None = Field(
        default=None, pattern=r"^(Deployment|StatefulSet)/[a-z0-9][a-z0-9.-]*$", description="That proposals scale"
    )

    @model_validator(mode="after")
    def _complete(self) -> ForecastService:
        if (self.query is None) == (self.csv is None):
            raise ValueError(f"service {self.name} needs query or csv")
        if self.min_instances > self.max_instances:
            raise ValueError(f"service {self.name} has min_instances above max_instances")
        if (self.namespace is None) != (self.workload is None):
            raise ValueError(f"service {self.name} needs namespace and workload, or neither")
        return self


class ForecastSettings(_Section):
    """Load prediction, `/api/v1/predict`."""

    services: list[ForecastService] = Field(
        default_factory=list, max_length=200, description="The first is the one that requests mean that name none"
    )
    history_days: float = Field(default=84.0, ge=3, le=366, description="So much is asked for; less is used as well")
    step_seconds: float = Field(default=300.0, ge=60, le=14_400)
    quantile: float = Field(default=0.95, ge=0.5, le=0.999, description="Of the load to come that is provided for")
    retrain_seconds: float = Field(default=21_600.0, ge=300, description="Between two trainings")
    boosting: bool = Field(default=True, description="Try gradient boosting too, where scikit-learn is installed")
    per_instance: float = Field(
        default=100.0, gt=0, allow_inf_nan=False, description="Where no service is configured; as the two below"
    )
    min_instances: int = Field(default=1, ge=0, le=1000)
    max_instances: int = Field(default=20, ge=1, le=1000)

    @field_validator("services")
    @classmethod
    def _names(cls, value: list[ForecastService]) -> list[ForecastService]:
        if len({service.name for service in value}) < len(value):
            raise ValueError("two services have the same name")
        return value


class ModelPrice(_Section):
    """US dollars for a million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)


class LlmSettings(_Section):
    model: str | None = Field(
        default=None, description="`openai:NAME` or `ollama:NAME`; empty: no model is ever called"
    )
    base_url: str | None = None
    api_key: SecretStr | None = None
    temperature: float = 0.0
    timeout: float = 60.0
    num_ctx: int = Field(default=16_384, description="Ollama's context window; its own default cuts prompts silently")
    max_steps: int = Field(default=8, ge=1, description="Tool rounds of one specialist, for all its hypotheses")
    tokens_per_incident: int = 200_000
    calls_per_hour: int = 50
    usd_per_month: float = 100.0
    min_value: float = Field(
        default=0.0, ge=0, le=10, description="A crash whose value is below this is not given to the model"
    )
    prices: dict[str, ModelPrice] = Field(default_factory=dict, description="A model without a price costs `unknown`")


class RunbookSettings(_Section):
    folder: Path | None = Field(default=None, description="The team's runbooks, Markdown files; empty: there are none")
    max_files: int = Field(default=2000, ge=1)
    max_bytes: int = Field(default=1 << 20, ge=1, description="Of one file; larger ones are left out, and named")
    embeddings: str = Field(
        default="", description="`openai:NAME` or `ollama:NAME` on the model server of [llm]; empty: words alone"
    )


class SearchSettings(_Section):
    searxng_url: Annotated[str, Field(pattern=r"^https?://[^@\s?#]+$")] | None = Field(
        default=None, description="A SearxNG server whose settings allow the format json; empty: no web search"
    )
    max_results: int = Field(default=5, ge=1, le=20)
    timeout: float = Field(default=10.0, gt=0)


class Settings(BaseSettings):
    """All of Paramedic's configuration. `load_settings()` turns mistakes into one clear sentence."""

    model_config = SettingsConfigDict(
        env_prefix="PARAMEDIC_", env_nested_delimiter="__", env_ignore_empty=True, extra="forbid"
    )

    data_dir: Path = Field(default_factory=lambda: _default_data_dir())
    language: Literal["en", "zh"] = "en"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    max_concurrent_analyses: int = Field(default=4, ge=1, description="Snapshots and debuggers at the same time")
    api: ApiSettings = Field(default_factory=ApiSettings)
    kubernetes: KubernetesSettings = Field(default_factory=KubernetesSettings)
    core: CoreSettings = Field(default_factory=CoreSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    shipping: ShippingSettings = Field(default_factory=ShippingSettings)
    retention: RetentionSettings = Field(default_factory=RetentionSettings)
    collector: CollectorSettings = Field(default_factory=CollectorSettings)
    webhook: WebhookSettings = Field(default_factory=WebhookSettings)
    gdb: GdbSettings = Field(default_factory=GdbSettings)
    prometheus: PrometheusSettings = Field(default_factory=PrometheusSettings)
    alertmanager: AlertmanagerSettings = Field(default_factory=AlertmanagerSettings)
    forecast: ForecastSettings = Field(default_factory=ForecastSettings)
    gate: GateSettings = Field(default_factory=GateSettings)
    instances: list[InstanceRule] = Field(default_factory=_milvus, description="The first that matches a pod decides")
    policy: PolicySettings = Field(default_factory=PolicySettings)
    feishu: FeishuSettings = Field(default_factory=FeishuSettings)
    notify: NotifySettings = Field(default_factory=NotifySettings)
    events: EventsSettings = Field(default_factory=EventsSettings)
    llm: LlmSettings = Field(default_factory=LlmSettings)
    runbooks: RunbookSettings = Field(default_factory=RunbookSettings)
    search: SearchSettings = Field(default_factory=SearchSettings)

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @model_validator(mode="after")
    def _in_data_dir(self) -> Settings:
        if self.gdb.index_cache is None and self.gdb.index_cache_bytes:
            self.gdb = self.gdb.model_copy(update={"index_cache": self.data_dir / "gdb-index"})
        if self.store.url is None:
            self.store = self.store.model_copy(update={"url": (self.data_dir / "store").as_uri()})
        return self

    @property
    def sqlalchemy_url(self) -> str:
        return f"sqlite+aiosqlite:///{self.data_dir / 'paramedic.db'}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = Path(os.environ.get("PARAMEDIC_CONFIG", "paramedic.toml"))
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file)


def load_settings(**overrides: object) -> Settings:
    """Settings from arguments, environment and file, in this order of precedence.

    Raises InvalidInput naming the first wrong key.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"configuration key {key!r}: {first['msg']}") from None
    except ValueError as error:  # a TOML file that does not parse
        raise InvalidInput(f"configuration: {error}") from None


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base) / "paramedic"
