"""Collected cores that were told to the service.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from incidents.tables import UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "core_jobs",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("created_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("event_type", sa.String(length=256), nullable=False),
        sa.Column("event_source", sa.String(length=1024), nullable=False),
        sa.Column("event_id", sa.String(length=256), nullable=False),
        sa.Column("requested_by", sa.String(length=253), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("incident_id", sa.String(length=64), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["incident_id"], ["incidents.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    for column in ("state", "incident_id"):
        op.create_index(op.f(f"ix_core_jobs_{column}"), "core_jobs", [column], unique=False)
