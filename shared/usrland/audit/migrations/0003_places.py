"""Calls and streams that are open, by caller and process.

Revision ID: calls_0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "calls_0003"
down_revision = "calls_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "places_held",
        sa.Column("who", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("process", sa.String(32), primary_key=True),
        sa.Column("places", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
    )
