"""A core that the node agent collected: what it is, whose it is, and where it is kept.

The agent sends this record to the service as a CloudEvent's data, and keeps it beside the stored core as metadata.
All of it is observed on the node or told by the cluster; a field that nobody could observe is null, never guessed.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field

from incidents.models import Frozen, ObjectRef


class Completeness(StrEnum):
    """What the ELF headers say against the file's size; a size that stops growing says nothing."""

    COMPLETE = "complete"
    CUT_BY_LIMIT = "cut_by_limit"  # RLIMIT_CORE of the process
    NO_SPACE = "no_space"
    TRUNCATED = "truncated"  # shorter than its headers say, the reason unknown
    NOT_A_CORE = "not_a_core"
    MISSING = "missing"  # a crash by signal, and no core: see `reason`


class Origin(Frozen):
    """The container that dumped it, as the path, the cgroup and the API server told."""

    namespace: str
    pod: str
    pod_uid: str | None = None
    container: str | None = None
    init: bool = False
    node: str | None = None
    host_ip: str | None = Field(default=None, max_length=64, description="Of the node, as the pod's status has it")
    image: str | None = None
    image_digest: str | None = Field(default=None, description="`sha256:…`, of the image that really ran")
    owner: ObjectRef | None = Field(default=None, description="The workload at the top: Deployment, not ReplicaSet")
    restart_count: int | None = None
    last_state: str | None = Field(default=None, description="Reason and exit code of the termination")


class StoredObject(Frozen):
    """One object in the store, confirmed by its checksum."""

    kind: Literal["minimal", "full", "executable", "library"]
    key: str
    size: int = Field(ge=0, description="Bytes as stored")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="Of the bytes as stored")
    build_id: str | None = None
    encrypted: bool = False


class CollectedCore(Frozen):
    """One core, or one crash by signal that left none. Its id is the deduplication key everywhere."""

    id: str = Field(description="`core_` and a digest of the content's sha256 and the origin's pod uid and container")
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$", description="Of the core as the kernel wrote it")
    size: int | None = Field(default=None, ge=0, description="Bytes as the kernel wrote it")
    completeness: Completeness
    reason: str | None = Field(default=None, description="Why it is incomplete or missing, for a person")
    dumped_at: datetime | None = None
    collected_at: datetime
    node: str
    origin: Origin | None = Field(default=None, description="Null on a plain host")
    pid: int | None = None
    signal: int | None = None
    executable: str | None = Field(default=None, description="Path inside the container, from the core's notes")
    build_ids: dict[str, str] = Field(default_factory=dict, description="Module path to build-id, from the core")
    signature: str | None = None
    identity: str | None = Field(
        default=None, pattern="^[0-9a-f]{40}$", description="Equal for the same crash of the same build"
    )
    value: float | None = Field(default=None, ge=0, le=10)
    stored: list[StoredObject] = Field(default_factory=list)
    lost: str | None = Field(
        default=None, description="Why nothing of it, or less than wanted, is stored; for a person"
    )
