"""A memory as `agent-memory-integrity` attacks it: what the owner of the database file can read and write.

    agmi-check --adapter tampering:MemoryAdapter      (with tests/support on the PYTHONPATH)

One record is one acknowledged item with everything that stands for it in the tables: its event of the journal, its
version and its body. The attacker has removed the triggers, knows the tables, and chains what they add: a forged
event carries the right hash of the one before it. They do not have the key of the home, nor the folder in which
the server keeps its signed heads.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
from agmi.adapters.base import MemoryAdapter as Adapter
from agmi.adapters.base import Record

from memory_snapshot import journal
from memory_snapshot.memory import Memory
from memory_snapshot.server import service
from memory_snapshot.tables import Event, Space
from memory_snapshot.wire import Item
from usrland import Call, Principal
from usrland.settings import Settings

TABLES = {"event": "memory_event", "version": "memory_item_version", "body": "memory_body"}
PLACE = ("space_id", "seq", "place")
"""What a record keeps when another one's content is written over it."""
FIRST, SECOND = "first", "second"


class MemoryAdapter(Adapter):  # type: ignore[misc]
    name = "memory-snapshot"
    detection_point = "audit"
    supports_replay = supports_metadata = supports_snapshot = True

    def setup(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="agmi-usrland-"))
        self.home, self.elsewhere = self.folder / "home", self.folder / "another disk"
        table = {"embedding": "none", "anchor": str(self.elsewhere)}
        self.settings = Settings(home=self.home, tables={"memory-snapshot": table})
        self._open()

    def teardown(self) -> None:
        self.memory.close()
        shutil.rmtree(self.folder)

    def _open(self) -> None:
        self.memory: Memory = service(self.settings).state["memory"]

    # -- the front door

    def seed(self, n: int) -> None:
        for number in range(n):
            self._remember(FIRST, f"the limit of account {number} is {40 + number}")

    def seed_other(self, n: int) -> None:
        for number in range(n):
            self._remember(SECOND, f"the other limit of account {number} is {90 + number}")

    def append_genuine(self) -> None:
        self._remember(FIRST, "the newest limit is 7")

    def _remember(self, space: str, text: str) -> None:
        who = Principal(subject="ann", namespace=space)
        call = Call(id="seed", principal=who, operation="memory_remember")
        anyio.run(self.memory.memory_remember, [Item(text=text)], call)

    def reload(self) -> None:
        self.memory.close()
        self._open()

    def verify(self) -> bool:
        problems = anyio.run(self.memory.verify, Principal(subject="ann", namespace=FIRST)).problems
        self.verify_detail = problems[0] if problems else None
        return not problems

    # -- the back door

    @contextmanager
    def _raw(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.home / "memory-snapshot" / "memory.sqlite")) as connection:
            connection.row_factory = sqlite3.Row
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                connection.execute(f"DROP TRIGGER {name}")
            yield connection
            connection.commit()

    def read_all_raw(self) -> list[Record]:
        return self._read(FIRST)

    def read_other_raw(self) -> list[Record]:
        return self._read(SECOND)

    def _read(self, space: str) -> list[Record]:
        with self._raw() as connection:
            query = "SELECT id FROM memory_space WHERE name = ?"
            found = connection.execute(query, (space,)).fetchone()
            if found is None:
                return []
            seqs = connection.execute("SELECT seq FROM memory_event WHERE space_id = ? ORDER BY seq", (found[0],))
            return [
                Record(seq=place, fields=self._record(connection, found[0], seq))
                for place, (seq,) in enumerate(seqs.fetchall())
            ]

    def _record(self, connection: sqlite3.Connection, space_id: int, seq: int) -> dict[str, Any]:
        fields: dict[str, Any] = {"space": space_id}
        for name, table in TABLES.items():
            query = f"SELECT * FROM {table} WHERE space_id = ? AND seq = ?"
            row = connection.execute(query, (space_id, seq)).fetchone()
            fields |= {f"{name}.{column}": value for column, value in dict(row).items()} if row else {}
        return fields

    def write_raw(self, record: Record) -> None:
        there = self.read_all_raw()
        with self._raw() as connection:
            if record.seq < len(there):
                self._overwrite(connection, there[record.seq].fields, record.fields)
            else:
                self._insert(connection, record.fields)

    def _overwrite(self, connection: sqlite3.Connection, at: dict[str, Any], fields: dict[str, Any]) -> None:
        for name, table in TABLES.items():
            columns = [key.partition(".")[2] for key in fields if key.startswith(f"{name}.")]
            columns = [column for column in columns if column not in PLACE]
            if name == "version":  # an oid is unique: the slot keeps its own
                columns.remove("oid")
            values = [fields[f"{name}.{column}"] for column in columns]
            connection.execute(
                f"UPDATE {table} SET {', '.join(f'{column} = ?' for column in columns)} "
                "WHERE space_id = ? AND seq = ?",
                (*values, at["space"], at["event.seq"]),
            )

    def _insert(self, connection: sqlite3.Connection, fields: dict[str, Any]) -> None:
        for name, table in TABLES.items():
            row = {key.partition(".")[2]: value for key, value in fields.items() if key.startswith(f"{name}.")}
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))

    def delete_raw(self, seq: int) -> None:
        at = self.read_all_raw()[seq].fields
        with self._raw() as connection:
            for table in reversed(TABLES.values()):
                where = "WHERE space_id = ? AND seq = ?"
                connection.execute(f"DELETE FROM {table} {where}", (at["space"], at["event.seq"]))

    def mutate_payload(self, record: Record) -> Record:
        record.fields["body.text"] = b"\0the limit is 1000000"
        return record

    def forge_record(self, template: Record) -> Record:
        """The next event of the chain, with the hash that it has to have."""
        fields = dict(template.fields)
        for name in TABLES:
            fields[f"{name}.seq"] += 1
        fields["version.oid"] = bytes(reversed(fields["version.oid"]))
        fields["body.text"] = b"\0the limit is 1000000"
        event = {key.partition(".")[2]: value for key, value in fields.items() if key.startswith("event.")}
        event["payload"] = '{"put":["%s"]}' % fields["version.oid"].hex()  # noqa: UP031
        space = Space(tenant="local", name=FIRST)
        before = template.fields["event.hash"].hex()
        fields["event.payload"] = event["payload"]
        fields["event.hash"] = bytes.fromhex(journal.event_hash(space, before, Event(**{**event, "hash": ""})))
        return Record(seq=template.seq + 1, fields=fields)

    def replay_onto(self, victim_seq: int, donor: Record) -> None:
        self.write_raw(Record(seq=victim_seq, fields=donor.fields))

    def read_meta(self, seq: int) -> dict[str, Any]:
        fields = self.read_all_raw()[seq].fields
        return {name: fields[f"version.{name}"] for name in ("actor", "origin", "trust", "recorded_at")}

    def write_meta(self, seq: int, meta: dict[str, Any]) -> None:
        record = self.read_all_raw()[seq]
        record.fields |= {f"version.{name}": value for name, value in meta.items() if name != "agmi_meta_tampered"}
        if meta.get("agmi_meta_tampered"):
            record.fields |= {"version.origin": "direct_user", "version.trust": "direct_user"}
        self.write_raw(record)

    # -- what the guard compares

    def identity_of(self, record: Record) -> str:
        return f"{record.fields['space']}:{record.fields['event.seq']}"

    def payload_of(self, record: Record) -> str:
        return str(record.fields.get("body.text"))

    def owner_of(self, record: Record) -> str:
        return str(record.fields["space"])

    # -- the whole home, put back as it was

    def snapshot_store(self) -> object:
        self.memory.close()
        copy = self.folder / "copy"
        shutil.copytree(self.home, copy)
        self._open()
        return copy

    def restore_store(self, token: object) -> None:
        self.memory.close()
        shutil.rmtree(self.home)
        shutil.copytree(str(token), self.home)
        self._open()
