"""Passages of tables know their sheet and rows.

Revision ID: fs_0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "fs_0003"
down_revision = "fs_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("fs_chunk", sa.Column("sheet", sa.Text))
    op.add_column("fs_chunk", sa.Column("first_row", sa.Integer))
    op.add_column("fs_chunk", sa.Column("last_row", sa.Integer))
