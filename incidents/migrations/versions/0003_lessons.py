"""What ended incidents were about, for later ones; incidents of before are learned as they are needed.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from incidents.tables import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("incidents", sa.Column("learned", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index(op.f("ix_incidents_learned"), "incidents", ["learned"], unique=False)
    op.create_table(
        "lessons",
        sa.Column("incident_id", sa.String(length=64), nullable=False),
        sa.Column("began_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("acted", sa.Boolean(), nullable=False),
        sa.Column("cause_class", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=253), nullable=False),
        sa.Column("name", sa.String(length=253), nullable=False),
        sa.Column("container", sa.String(length=253), nullable=True),
        sa.Column("group_id", sa.String(length=64), nullable=True),
        sa.Column("image", sa.String(length=600), nullable=True),
        sa.ForeignKeyConstraint(["incident_id"], ["incidents.id"]),
        sa.PrimaryKeyConstraint("incident_id"),
    )
    for column in ("ended_at", "group_id"):
        op.create_index(op.f(f"ix_lessons_{column}"), "lessons", [column], unique=False)
    owner = ["namespace", "kind", "name", "cause_class", "acted", "began_at"]
    op.create_index("ix_lessons_owner", "lessons", owner, unique=False)
