"""Which files were written from a space, so that an erasure reaches them, too.

Revision ID: memory_0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "memory_0003"
down_revision = "memory_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "memory_exported",
        sa.Column("space_id", sa.Integer, sa.ForeignKey("memory_space.id"), primary_key=True, autoincrement=False),
        sa.Column("path", sa.Text, primary_key=True),
        sa.Column("at", sa.Text, nullable=False),
    )
