"""The journal, the versions it names, and the snapshots over them.

Revision ID: memory_0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "memory_0001"
down_revision = None
branch_labels = ("memory_snapshot",)
depends_on = None

WRITTEN_ONCE = ("memory_item_version", "memory_lineage", "memory_page", "memory_snapshot")
"""Never updated. They may be deleted from: a compaction drops what no snapshot needs."""


def upgrade() -> None:
    op.create_table(
        "memory_space",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.UniqueConstraint("tenant", "name"),
    )
    op.create_table(
        "memory_event",
        _space(),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        *_texts("prev_hash", "hash", "op", "branch", "actor", "payload", "payload_hash", "at"),
    )
    op.create_table(
        "memory_item_version",
        _space(),
        sa.Column("oid", sa.Text, primary_key=True),
        *_texts("item_id", "kind", "actor", "source", "trust", "body_commitment", "recorded_at", "tags"),
        *_optional_texts("key", "host", "model", "valid_from", "valid_to", "retention"),
        sa.Column("pinned", sa.Boolean, nullable=False),
        sa.Column("tokens", sa.Integer, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
    )
    op.create_index("memory_item_version_item", "memory_item_version", ["space_id", "item_id"])
    op.create_index("memory_item_version_key", "memory_item_version", ["space_id", "key"])
    op.create_index("memory_item_version_seq", "memory_item_version", ["space_id", "seq"])
    op.create_table(
        "memory_lineage",
        _space(),
        sa.Column("oid", sa.Text, primary_key=True),
        sa.Column("relation", sa.Text, primary_key=True),
        sa.Column("target", sa.Text, primary_key=True),
    )
    op.create_index("memory_lineage_target", "memory_lineage", ["space_id", "target"])
    op.create_table(
        "memory_body",
        _space(),
        sa.Column("oid", sa.Text, primary_key=True),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        *_texts("text", "digest"),
    )
    op.create_index("memory_body_digest", "memory_body", ["space_id", "digest"])
    op.create_table(
        "memory_page",
        _space(),
        sa.Column("hash", sa.LargeBinary, primary_key=True),
        sa.Column("entries", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "memory_snapshot",
        _space(),
        sa.Column("id", sa.Text, primary_key=True),
        *_texts("root", "parents", "author", "message", "reason", "working_set", "taken_at"),
        sa.Column("log_seq", sa.BigInteger, nullable=False),
    )
    op.create_index("memory_snapshot_taken", "memory_snapshot", ["space_id", "taken_at"])
    op.create_table(
        "memory_ref",
        _space(),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("snapshot", sa.Text, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "memory_index_position",
        sa.Column("index_name", sa.Text, primary_key=True),
        _space(),
        sa.Column("seq", sa.BigInteger, nullable=False),
    )
    _guard()


def _space() -> sa.Column[int]:
    return sa.Column(
        "space_id", sa.Integer, sa.ForeignKey("memory_space.id"), primary_key=True, autoincrement=False
    )


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _optional_texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text) for name in names]


def _guard() -> None:
    """Refuse changes in the database itself. Its owner can remove the triggers; the chain shows what then."""
    if op.get_bind().dialect.name == "sqlite":
        for table in WRITTEN_ONCE:
            _sqlite_guard(table, "UPDATE")
        _sqlite_guard("memory_event", "UPDATE")
        _sqlite_guard("memory_event", "DELETE")
        op.execute(  # INSERT OR REPLACE deletes without asking the trigger above
            "CREATE TRIGGER memory_event_no_replace BEFORE INSERT ON memory_event WHEN EXISTS "
            "(SELECT 1 FROM memory_event WHERE space_id = NEW.space_id AND seq = NEW.seq) "
            "BEGIN SELECT RAISE(ABORT, 'memory_event is append-only'); END"
        )
        return
    op.execute(
        "CREATE FUNCTION memory_refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
    )
    for table in WRITTEN_ONCE:
        _postgresql_guard(table, "UPDATE", "ROW")
    _postgresql_guard("memory_event", "UPDATE OR DELETE", "ROW")
    _postgresql_guard("memory_event", "TRUNCATE", "STATEMENT")


def _sqlite_guard(table: str, verb: str) -> None:
    op.execute(
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    )


def _postgresql_guard(table: str, verbs: str, level: str) -> None:
    op.execute(
        f"CREATE TRIGGER {table}_no_{verbs.split()[0].lower()} BEFORE {verbs} ON {table} "
        f"FOR EACH {level} EXECUTE FUNCTION memory_refuse_change()"
    )
