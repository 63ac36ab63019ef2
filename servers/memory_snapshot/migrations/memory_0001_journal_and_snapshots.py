"""The journal, the versions it names, what was said in them, and the snapshots over them.

Revision ID: memory_0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "memory_0001"
down_revision = None
branch_labels = ("memory_snapshot",)
depends_on = None

WRITTEN_ONCE = ("memory_item_version", "memory_lineage", "memory_page", "memory_snapshot", "memory_body")
"""Never updated. They may be deleted from: an erasure empties bodies."""


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
        _place("seq"),
        *_bytes("hash"),
        *_texts("op", "branch", "actor", "payload", "at"),
    )
    _partial_index("memory_event", "turns", ["seq"], "op IN ('branch', 'rollback', 'merge', 'import')")
    op.create_table(
        "memory_item_version",
        _space(),
        _place("seq"),
        _place("place"),
        *_bytes("oid", "item_id", "commitment"),
        *_texts("kind", "actor", "origin", "trust", "recorded_at"),
        *_optional_texts("valid_from", "valid_to", "retention"),
        *(sa.Column(name, sa.Boolean, nullable=False) for name in ("pinned", "core")),
        sa.Column("tokens", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("memory_item_version_oid", "memory_item_version", ["space_id", "oid"], unique=True)
    op.create_index("memory_item_version_item", "memory_item_version", ["space_id", "item_id"])
    _partial_index("memory_item_version", "core", ["seq"], "core")
    _partial_index("memory_item_version", "begin", ["valid_from"], "valid_from IS NOT NULL")
    _partial_index("memory_item_version", "end", ["valid_to"], "valid_to IS NOT NULL")
    _partial_index("memory_item_version", "retention", ["retention"], "retention IS NOT NULL")
    op.create_table(
        "memory_lineage",
        _space(),
        _place("seq"),
        _place("place"),
        sa.Column("relation", sa.Text, primary_key=True),
        _place("target_seq"),
        _place("target_place"),
        sqlite_with_rowid=False,
    )
    op.create_index("memory_lineage_target", "memory_lineage", ["space_id", "target_seq", "target_place"])
    op.create_table(
        "memory_body",
        _space(),
        _place("seq"),
        _place("place"),
        *_bytes("salt", "digest", "text"),
        *_optional_texts("key", "tags", "speaker", "uri", "span"),
    )
    op.create_index("memory_body_digest", "memory_body", ["space_id", "digest"])
    _partial_index("memory_body", "key", ["key"], "key IS NOT NULL")
    op.create_table(
        "memory_page",
        _space(),
        sa.Column("hash", sa.LargeBinary, primary_key=True),
        *_bytes("content"),
    )
    op.create_table(
        "memory_snapshot",
        _space(),
        sa.Column("id", sa.LargeBinary, primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("paged", sa.Boolean, nullable=False),
        *_bytes("root", "commitment"),
        *_texts("branch", "parents", "author", "reason", "taken_at"),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("items", "tokens")),
        sa.UniqueConstraint("space_id", "seq"),
    )
    op.create_table(
        "memory_ref",
        _space(),
        sa.Column("name", sa.Text, primary_key=True),
        *_bytes("snapshot"),
        sa.Column("generation", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "memory_seat",
        _space(),
        sa.Column("subject", sa.Text, primary_key=True),
        *_texts("branch"),
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


def _place(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, primary_key=True, autoincrement=False)


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _optional_texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text) for name in names]


def _bytes(*names: str) -> list[sa.Column[bytes]]:
    return [sa.Column(name, sa.LargeBinary, nullable=False) for name in names]


def _partial_index(table: str, name: str, columns: list[str], where: str) -> None:
    op.create_index(
        f"{table}_{name}",
        table,
        ["space_id", *columns],
        sqlite_where=sa.text(where),
        postgresql_where=sa.text(where),
    )


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
