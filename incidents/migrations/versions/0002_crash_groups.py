"""Groups of crashes, and every crash that was seen.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from incidents.tables import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "crash_groups",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("founded_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("signature", sa.Text(), nullable=True),
        sa.Column("members", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "crash_sightings",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("incident_id", sa.String(length=64), nullable=False),
        sa.Column("at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("identity", sa.String(length=64), nullable=True),
        sa.Column("group_id", sa.String(length=64), nullable=True),
        sa.Column("analysed", sa.Boolean(), nullable=False),
        sa.Column("stack_key", sa.String(length=64), nullable=True),
        sa.Column("address_sig", sa.String(length=64), nullable=True),
        sa.Column("workload", sa.String(length=600), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=True),
        sa.Column("image", sa.String(length=600), nullable=True),
        sa.Column("node", sa.String(length=253), nullable=True),
        sa.Column("pod", sa.String(length=253), nullable=True),
        sa.ForeignKeyConstraint(["group_id"], ["crash_groups.id"]),
        sa.ForeignKeyConstraint(["incident_id"], ["incidents.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    for column in ("incident_id", "identity", "group_id"):
        op.create_index(op.f(f"ix_crash_sightings_{column}"), "crash_sightings", [column], unique=False)
