"""Several databases in one process: a server's own, the call path's, and those of `serve --all`."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import text
from sqlmodel import Session

from usrland.database import Database

REVISION = """
import sqlalchemy as sa
from alembic import op
revision = "test_{name}"
down_revision = None
branch_labels = ("{name}",)
depends_on = None

def upgrade():
    for number in range(20):
        op.create_table(f"{name}_{{number}}", sa.Column("id", sa.Integer, primary_key=True))
"""


def test_databases_that_are_opened_at_the_same_time_get_their_own_tables(tmp_path: Path) -> None:
    names = [f"db{number}" for number in range(6)]
    databases = {}
    for name in names:
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}_0001.py").write_text(REVISION.format(name=name), encoding="utf-8")
        databases[name] = Database(f"sqlite:///{tmp_path / name}.sqlite", [folder])

    with ThreadPoolExecutor(len(names)) as threads:
        list(threads.map(lambda name: databases[name].open(), names))

    for name, database in databases.items():
        tables = set(database.read_now(_tables))
        database.close()
        assert tables - {f"{name}_schema_version", "table_sum"} == {f"{name}_{number}" for number in range(20)}


def _tables(session: Session) -> Sequence[str]:
    return (
        session.connection().execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
    )
