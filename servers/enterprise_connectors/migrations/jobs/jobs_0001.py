"""Jobs: what runs in the background, and what it gave.

Revision ID: jobs_0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "jobs_0001"
down_revision = None
branch_labels = ("jobs",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sys_job",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("steps", sa.LargeBinary, nullable=True),
        sa.Column("key", sa.Text, nullable=True),
        sa.Column("runs", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("answered", sa.Integer, nullable=False),
        sa.Column("answers", sa.LargeBinary, nullable=True),
        sa.Column("failed", sa.Text, nullable=False),
        sa.Column("began_at", sa.Float, nullable=False),
        sa.Column("ended_at", sa.Float, nullable=False),
        sa.Column("alive_until", sa.Float, nullable=False),
        sa.Column("cancel", sa.Boolean, nullable=False),
    )
    op.create_index("sys_job_owner", "sys_job", ["owner"])
