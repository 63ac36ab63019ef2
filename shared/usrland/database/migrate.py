"""Alembic, driven from code: several folders of revisions, no ini file, no env.py of its own per server."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

__all__ = ["migrate"]

_LOCK = 0x7573726C  # any number that all usrland processes agree on
_one_at_a_time = threading.Lock()  # `alembic.op` is one per process: two threads would write into one database


def migrate(engine: Engine, folders: Sequence[Path]) -> None:
    """Bring the database to the newest revision of every folder, in one transaction.

    Several processes may start at once: one migrates, the others wait and then find nothing to do. A process
    killed half-way leaves the old schema, since both databases roll back schema changes.
    """
    script = _scripts(folders)
    heads = set(script.get_heads())
    table = _version_table(script)
    with engine.connect().execution_options(usrland_write=False) as connection, connection.begin():
        if _current(connection, table) == heads:
            return
    with engine.connect().execution_options(usrland_write=True) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        with _one_at_a_time:
            _upgrade(connection, script, table)


def _scripts(folders: Sequence[Path]) -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(folders[0]).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(str(folder).replace("%", "%%") for folder in folders))
    return ScriptDirectory.from_config(config)


def _version_table(script: ScriptDirectory) -> str:
    labels = {label for base in script.get_bases() for label in script.get_revision(base).branch_labels}
    return f"{min(labels)}_schema_version"


def _current(connection: Connection, table: str) -> set[str]:
    context = MigrationContext.configure(connection, opts={"version_table": table})
    return set(context.get_current_heads())


def _upgrade(connection: Connection, script: ScriptDirectory, table: str) -> None:
    environment = EnvironmentContext(
        Config(),
        script,
        fn=lambda revision, _: script._upgrade_revs("heads", revision),  # what alembic.command.upgrade passes
    )
    environment.configure(
        connection=connection, version_table=table, transactional_ddl=False, transaction_per_migration=False
    )
    environment.run_migrations()
