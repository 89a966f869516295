"""What share of what was stated the evidence of a diagnosis bears; rows of before do not say.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("incidents", sa.Column("closure", sa.Float(), nullable=True))
    op.add_column("incidents", sa.Column("model_kept", sa.Integer(), nullable=True))
    op.add_column("incidents", sa.Column("model_total", sa.Integer(), nullable=True))
