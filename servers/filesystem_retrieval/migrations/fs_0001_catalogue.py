"""The catalogue: files, the contents they hold, and the passages of each content.

Revision ID: fs_0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "fs_0001"
down_revision = None
branch_labels = ("filesystem_retrieval",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "fs_content",
        sa.Column("root", sa.String(200), primary_key=True),
        sa.Column("content", sa.String(80), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("indexed", sa.Boolean, nullable=False),
        sa.Column("text", sa.Text),
        sa.Column("pages", sa.Text),
    )
    op.create_table(
        "fs_chunk",
        sa.Column("root", sa.String(200), primary_key=True),
        sa.Column("content", sa.String(80), primary_key=True),
        sa.Column("ordinal", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("first_byte", sa.BigInteger, nullable=False),
        sa.Column("last_byte", sa.BigInteger, nullable=False),
        sa.Column("first_line", sa.Integer, nullable=False),
        sa.Column("last_line", sa.Integer, nullable=False),
        sa.Column("page", sa.Integer),
        sa.Column("heading", sa.Text),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
    )
    op.create_table(
        "fs_file",
        sa.Column("root", sa.String(200), primary_key=True),
        sa.Column("path", sa.Text, primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("mtime_ns", sa.BigInteger, nullable=False),
        sa.Column("ctime_ns", sa.BigInteger, nullable=False),
        sa.Column("read_ns", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("content", sa.String(80), nullable=False),
    )
    op.create_index("fs_file_content", "fs_file", ["root", "content"])
