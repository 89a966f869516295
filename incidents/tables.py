"""The database schema. One row type a table; documents are stored as the vocabulary's JSON.

`alembic` migrations in `incidents/migrations` create it; a test compares the two.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Float, ForeignKey, Index, Integer, String, Text, UniqueConstraint, false
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """Timezone-aware UTC in Python; naive UTC in SQLite, which knows no zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("naive datetime given to the database")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON, datetime: UtcDateTime}  # noqa: RUF012 (SQLAlchemy)


class IncidentRow(Base):
    __tablename__ = "incidents"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime] = mapped_column(index=True)
    status: Mapped[str] = mapped_column(String(32), index=True)
    kind: Mapped[str] = mapped_column(String(64))
    namespace: Mapped[str | None] = mapped_column(String(253), index=True)
    name: Mapped[str] = mapped_column(String(253))
    signature: Mapped[str | None] = mapped_column(Text)
    document: Mapped[dict[str, Any]]
    diagnosis: Mapped[dict[str, Any] | None]
    proposals: Mapped[list[Any] | None]
    # of the diagnosis, for metrics: `Diagnosis.closure` and `.model_statements`
    closure: Mapped[float | None] = mapped_column(Float)
    model_kept: Mapped[int | None]
    model_total: Mapped[int | None]
    learned: Mapped[bool] = mapped_column(default=False, server_default=false(), index=True)  # see `LessonRow`


class StepRow(Base):
    __tablename__ = "steps"
    incident_id: Mapped[str] = mapped_column(ForeignKey("incidents.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True)
    at: Mapped[datetime]
    type: Mapped[str] = mapped_column(String(64))
    agent: Mapped[str | None] = mapped_column(String(64))
    text: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any]]


class EvidenceRow(Base):
    __tablename__ = "evidence"
    incident_id: Mapped[str] = mapped_column(ForeignKey("incidents.id"), primary_key=True)
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    document: Mapped[dict[str, Any]]


class LessonRow(Base):
    """What an ended incident was about: the keys that a later one finds it by. What was done is in its approvals.

    `kind`, `namespace` and `name` are the object of its first cause; the workload at the top, never a pod of it.
    """

    __tablename__ = "lessons"
    incident_id: Mapped[str] = mapped_column(ForeignKey("incidents.id"), primary_key=True)
    began_at: Mapped[datetime]
    ended_at: Mapped[datetime] = mapped_column(index=True)
    status: Mapped[str] = mapped_column(String(32))
    acted: Mapped[bool]  # something was executed, or declined by a person
    cause_class: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(64))
    namespace: Mapped[str] = mapped_column(String(253))  # empty for what has none
    name: Mapped[str] = mapped_column(String(253))
    container: Mapped[str | None] = mapped_column(String(253))
    group_id: Mapped[str | None] = mapped_column(String(64), index=True)  # of the crash
    image: Mapped[str | None] = mapped_column(String(600))  # its repository, where a crash was in it
    __table_args__ = (Index("ix_lessons_owner", "namespace", "kind", "name", "cause_class", "acted", "began_at"),)


class DraftRow(Base):
    __tablename__ = "drafts"
    incident_id: Mapped[str] = mapped_column(ForeignKey("incidents.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    document: Mapped[dict[str, Any]]


class ApprovalRow(Base):
    __tablename__ = "approvals"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    incident_id: Mapped[str] = mapped_column(ForeignKey("incidents.id"), index=True)
    target_key: Mapped[str] = mapped_column(String(600), index=True)  # a new plan supersedes pending ones by this
    digest: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(32), index=True)
    requested_by: Mapped[str] = mapped_column(String(253))
    quorum: Mapped[int]
    issued_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    nonce: Mapped[str] = mapped_column(String(64), unique=True)
    claimed_at: Mapped[datetime | None]
    channel_message_id: Mapped[str | None] = mapped_column(String(128))
    outcome: Mapped[str | None] = mapped_column(Text)
    plan: Mapped[dict[str, Any]]
    __table_args__ = (UniqueConstraint("incident_id", "digest"),)


class VoteRow(Base):
    __tablename__ = "votes"
    approval_id: Mapped[str] = mapped_column(ForeignKey("approvals.id"), primary_key=True)
    identity: Mapped[str] = mapped_column(String(253), primary_key=True)
    verdict: Mapped[str] = mapped_column(String(16))
    digest: Mapped[str] = mapped_column(String(64))
    waive_evidence: Mapped[bool]
    channel: Mapped[str] = mapped_column(String(32))
    reason: Mapped[str | None] = mapped_column(Text)
    at: Mapped[datetime]


class ExecutionRow(Base):
    __tablename__ = "executions"
    approval_id: Mapped[str] = mapped_column(ForeignKey("approvals.id"), primary_key=True)
    step: Mapped[str] = mapped_column(String(64))
    post_generation: Mapped[int | None]
    detail: Mapped[dict[str, Any]]
    started_at: Mapped[datetime] = mapped_column(index=True)
    updated_at: Mapped[datetime]


class AuditRow(Base):
    """Append-only; `hash` covers the row and `prev_hash`, so a change anywhere breaks the chain after it."""

    __tablename__ = "audit"
    seq: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(253))
    action: Mapped[str] = mapped_column(String(64))
    incident_id: Mapped[str | None] = mapped_column(String(64), index=True)
    approval_id: Mapped[str | None] = mapped_column(String(64))
    data: Mapped[dict[str, Any]]
    prev_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


class DeliveryRow(Base):
    """One message to one channel: an outbox with retries, one row per `dedupe_key`."""

    __tablename__ = "deliveries"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    dedupe_key: Mapped[str] = mapped_column(String(200), unique=True)
    incident_id: Mapped[str | None] = mapped_column(String(64), index=True)
    channel: Mapped[str] = mapped_column(String(32))
    kind: Mapped[str] = mapped_column(String(32))  # diagnosis | request | result | notice | update
    payload: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16), index=True)  # queued | sent | dead
    attempts: Mapped[int]
    next_attempt_at: Mapped[datetime]
    message_id: Mapped[str | None] = mapped_column(String(128))
    last_error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]


class SeenEventRow(Base):
    """Outside events already handled (Feishu event ids), so that a replay is one."""

    __tablename__ = "seen_events"
    source: Mapped[str] = mapped_column(String(32), primary_key=True)
    event_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    at: Mapped[datetime]


class IdempotencyRow(Base):
    __tablename__ = "idempotency"
    caller: Mapped[str] = mapped_column(String(253), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    status: Mapped[int | None]
    body: Mapped[dict[str, Any] | None]
    at: Mapped[datetime]


class ModelUsageRow(Base):
    """One call to a model; `usd` is null when the model has no price."""

    __tablename__ = "model_usage"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(index=True)
    incident_id: Mapped[str | None] = mapped_column(String(64), index=True)
    model: Mapped[str] = mapped_column(String(200))
    input_tokens: Mapped[int]
    output_tokens: Mapped[int]
    usd: Mapped[float | None] = mapped_column(Float)


class LockRow(Base):
    """A named lease: who holds it and until when."""

    __tablename__ = "locks"
    name: Mapped[str] = mapped_column(String(600), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    expires_at: Mapped[datetime]


class UploadRow(Base):
    __tablename__ = "uploads"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(253))
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int]
    at: Mapped[datetime]


class MessageRow(Base):
    """A turn of a `/diagnose` conversation."""

    __tablename__ = "messages"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    conversation_id: Mapped[str] = mapped_column(String(64), index=True)
    owner: Mapped[str] = mapped_column(String(253))
    role: Mapped[str] = mapped_column(String(16))
    text: Mapped[str] = mapped_column(Text)
    incident_id: Mapped[str | None] = mapped_column(String(64))
    at: Mapped[datetime]


class CrashGroupRow(Base):
    """Crashes that are the same. `members` are normalised stacks, the one that founded the group first."""

    __tablename__ = "crash_groups"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[int]
    founded_at: Mapped[datetime]
    signature: Mapped[str | None] = mapped_column(Text)
    members: Mapped[list[Any]]


class CrashSightingRow(Base):
    """One crash that arrived. Its group is known once a core of its incident was read."""

    __tablename__ = "crash_sightings"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    incident_id: Mapped[str] = mapped_column(ForeignKey("incidents.id"), index=True)
    at: Mapped[datetime]
    identity: Mapped[str | None] = mapped_column(String(64), index=True)  # equal: the same crash, without a debugger
    group_id: Mapped[str | None] = mapped_column(ForeignKey("crash_groups.id"), index=True)
    analysed: Mapped[bool]  # a debugger read this one
    stack_key: Mapped[str | None] = mapped_column(String(64))
    address_sig: Mapped[str | None] = mapped_column(String(64))
    workload: Mapped[str | None] = mapped_column(String(600))
    revision: Mapped[int | None]
    image: Mapped[str | None] = mapped_column(String(600))
    node: Mapped[str | None] = mapped_column(String(253))
    pod: Mapped[str | None] = mapped_column(String(253))


class CoreJobRow(Base):
    """A collected core that was told to the service: what is known of it, and the incident that it became."""

    __tablename__ = "core_jobs"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    created_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(String(16), index=True)  # queued | taken | noted | failed
    event_type: Mapped[str] = mapped_column(String(256))
    event_source: Mapped[str] = mapped_column(String(1024))
    event_id: Mapped[str] = mapped_column(String(256))
    requested_by: Mapped[str] = mapped_column(String(253))
    document: Mapped[dict[str, Any]]
    incident_id: Mapped[str | None] = mapped_column(ForeignKey("incidents.id"), index=True)
    error: Mapped[str | None] = mapped_column(Text)


class ContainerCrashRow(Base):
    """One ended container that counts as a crash, of an instance or of a workload that is in none."""

    __tablename__ = "container_crashes"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    instance: Mapped[str] = mapped_column(String(600), index=True)
    workload: Mapped[dict[str, Any]]
    pod: Mapped[str] = mapped_column(String(253))
    ending: Mapped[str] = mapped_column(String(32))


class StormRow(Base):
    """More crashes of an instance than the policy allows, and the incident in which people are asked about it."""

    __tablename__ = "storms"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    opened_at: Mapped[datetime]
    instance: Mapped[str] = mapped_column(String(600), index=True)
    target: Mapped[dict[str, Any]]
    release: Mapped[dict[str, Any] | None]
    count: Mapped[int]
    mode: Mapped[str] = mapped_column(String(16))  # propose | dry-run
    incident_id: Mapped[str | None] = mapped_column(ForeignKey("incidents.id"))


class MetricRunRow(Base):
    """An analysis of metrics as it was answered, with what its charts are drawn from."""

    __tablename__ = "metric_runs"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(index=True)
    incident_id: Mapped[str | None] = mapped_column(ForeignKey("incidents.id"), index=True)
    document: Mapped[dict[str, Any]]


class MetricConfigRow(Base):
    """What people set for analyses of metrics. One row."""

    __tablename__ = "metric_config"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    document: Mapped[dict[str, Any]]


Index("ix_deliveries_due", DeliveryRow.state, DeliveryRow.next_attempt_at)
