"""Counts of calls by caller, and who was given text that others wrote.

Revision ID: calls_0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "calls_0002"
down_revision = "calls_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "quota_use",
        sa.Column("who", sa.String(64), primary_key=True),
        sa.Column("cost", sa.String(16), primary_key=True),
        sa.Column("begun_at", sa.BigInteger, nullable=False),
        sa.Column("used", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "tainted",
        sa.Column("who", sa.String(64), primary_key=True),
        sa.Column("until", sa.BigInteger, nullable=False),
    )
