"""What was returned and when, and how much was kept and kept out: numbers and ids, never a text.

Revision ID: memory_0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "memory_0002"
down_revision = "memory_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "memory_tally",
        _space(),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "memory_returned",
        _space(),
        sa.Column("item_id", sa.LargeBinary, primary_key=True),
        sa.Column("at", sa.Text, nullable=False),
    )
    op.create_index("memory_returned_at", "memory_returned", ["space_id", "at"])


def _space() -> sa.Column[int]:
    return sa.Column(
        "space_id", sa.Integer, sa.ForeignKey("memory_space.id"), primary_key=True, autoincrement=False
    )
