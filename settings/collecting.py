"""The node agent and the admission webhook."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from settings.section import Section


class HandlerSettings(Section):
    """The team's own program, run once for each core and each crash without one. See the README for its variables."""

    command: list[str] = Field(default_factory=list, description="Program and arguments, without a shell; empty: none")
    timeout: float = Field(default=300.0, gt=0, le=3600, description="Then it is killed, with all that it started")
    parallel: int = Field(default=2, ge=1, le=16, description="Runs at the same time")
    namespaces: list[str] = Field(default_factory=list, description="Patterns (`team-*`); empty: all")
    owners: list[str] = Field(default_factory=list, description="Patterns of workloads: `Deployment/shop-*`, `shop`")
    keyword: str | None = Field(default=None, min_length=1, description="In the executable's path, or the pod's name")


class CollectorSettings(Section):
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


class WebhookSettings(Section):
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
