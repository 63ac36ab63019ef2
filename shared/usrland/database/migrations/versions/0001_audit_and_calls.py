"""The tables of the call path: audit log, idempotency, tokens.

Revision ID: usrland_0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "usrland_0001"
down_revision = None
branch_labels = ("usrland",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_entry",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "audit_secret",
        sa.Column("commitment", sa.String(64), primary_key=True),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "idempotent_call",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("arguments", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("result", sa.LargeBinary),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_table(
        "spent_token",
        sa.Column("token", sa.String(64), primary_key=True),
        sa.Column("expires_at", sa.Float, nullable=False),
    )
