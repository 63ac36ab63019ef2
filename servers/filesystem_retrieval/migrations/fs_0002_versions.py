"""Versions: what stood at each path and when, their bytes, and changes that have begun.

Revision ID: fs_0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "fs_0002"
down_revision = "fs_0001"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""Only a column of exactly this type counts by itself in SQLite."""


def upgrade() -> None:
    op.add_column("fs_content", sa.Column("past", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_index("fs_chunk_sha256", "fs_chunk", ["root", "sha256"])
    op.create_table(
        "fs_version",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("root", sa.String(200), nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("content", sa.String(80), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("at_ns", sa.BigInteger, nullable=False),
        sa.Column("how", sa.String(16), nullable=False),
        sa.Column("other_path", sa.Text),
        sa.Column("subject", sa.Text),
        sa.Column("call", sa.Text),
        sqlite_autoincrement=True,  # the number of a version that was let go is never used again
    )
    op.create_index("fs_version_path", "fs_version", ["root", "path", "id"])
    op.create_index("fs_version_content", "fs_version", ["root", "content"])
    op.create_index("fs_version_sha256", "fs_version", ["root", "sha256"])
    op.create_index("fs_version_other_path", "fs_version", ["root", "other_path"])
    op.create_table(
        "fs_blob",
        sa.Column("root", sa.String(200), primary_key=True),
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("packed", sa.Boolean, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "fs_change",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("root", sa.String(200), nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("at_ns", sa.BigInteger, nullable=False),
        sa.Column("how", sa.String(16), nullable=False),
        sa.Column("other_path", sa.Text),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("call", sa.Text, nullable=False),
    )
    op.execute("UPDATE fs_file SET state = 'pending'")  # read again, so that each has a version
