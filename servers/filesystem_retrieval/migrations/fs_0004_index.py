"""The search index that the catalogue is filled into, and when it was last used.

Revision ID: fs_0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "fs_0004"
down_revision = "fs_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "fs_index",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("used_at", sa.Float(53), nullable=False),
    )
