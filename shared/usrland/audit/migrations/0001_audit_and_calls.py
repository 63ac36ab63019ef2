"""The tables of the call path: audit log, retried calls, spent confirmations.

Revision ID: calls_0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "calls_0001"
down_revision = None
branch_labels = ("calls",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_entry",
        sa.Column("chain", sa.String(64), primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "audit_argument",
        sa.Column("commitment", sa.String(64), primary_key=True),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "keyed_call",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("arguments", sa.String(64), nullable=False),
        sa.Column("result", sa.LargeBinary),
        sa.Column("started_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "spent_token",
        sa.Column("token", sa.String(64), primary_key=True),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    _forbid_changes("audit_entry")


def _forbid_changes(table: str) -> None:
    """A speed bump, not a wall: whoever owns the database can drop it. The hash chain is what proves."""
    if op.get_context().dialect.name == "postgresql":
        op.execute(
            f"CREATE OR REPLACE FUNCTION {table}_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{table} is append-only'; END $$"
        )
        op.execute(
            f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION {table}_is_append_only()"
        )
        return
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
