"""Whatever is done to the log behind its back, `verify` says so."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from usrland.audit import AuditLog, Entry, Head
from usrland.audit.entry import commit
from usrland.errors import InvalidInput
from usrland.ledger import Ledger

COUNT = 12


def entry(number: int) -> Entry:
    return Entry(
        at_ms=1_000 + number, call=f"c{number}", phase="read", operation="look", effect="read", principal="p",
        tenant="t", namespace="n", source="test", arguments=commit({"number": number, "text": "ä"}),
    )  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "calls.sqlite"


@pytest.fixture
async def log(file: Path) -> AsyncIterator[AuditLog]:
    ledger = Ledger.open(f"sqlite:///{file}", chain="toy", key=b"k" * 32)
    await ledger.database.write(lambda s: ledger.audit.append(s, [entry(n) for n in range(COUNT)]))
    yield ledger.audit
    ledger.database.close()


def tamper(file: Path, *statements: str, values: tuple[object, ...] = ()) -> None:
    """Edit the database as somebody who owns the file can: without the triggers."""
    with sqlite3.connect(file) as connection:
        for trigger in ("audit_entry_no_update", "audit_entry_no_delete"):
            connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        for statement in statements:
            connection.execute(statement, values if "?" in statement else ())
    connection.close()


async def test_an_untouched_log_verifies_with_any_head_exported_from_it(log: AuditLog) -> None:
    head = await log.head()
    assert head is not None
    await log.database.write(lambda s: log.append(s, [entry(99)]))

    verdict = await log.verify([Head.from_json(head.to_json())])

    assert (verdict.ok, verdict.entries, verdict.problems) == (True, COUNT + 1, ())


async def test_any_flipped_byte_of_any_entry_is_found(log: AuditLog, file: Path) -> None:
    rows = sqlite3.connect(file).execute("SELECT seq, body, hash FROM audit_entry").fetchall()
    chance = random.Random(7)
    flips = [(seq, column, at) for seq, body, digest in rows for column, data in (("body", body), ("hash", digest))
             for at in range(len(data))]  # fmt: skip
    for seq, column, at in chance.sample(flips, 150):
        original = rows[seq - 1][1 if column == "body" else 2]
        flipped = bytearray(original)
        flipped[at] ^= 1 << chance.randrange(8)
        tamper(file, f"UPDATE audit_entry SET {column} = ? WHERE seq = {seq}", values=(bytes(flipped),))

        assert not (await log.verify()).ok, f"byte {at} of {column} of entry {seq}"
        tamper(file, f"UPDATE audit_entry SET {column} = ? WHERE seq = {seq}", values=(original,))
    assert (await log.verify()).ok


SWAP = (
    "UPDATE audit_entry SET seq = -1 WHERE seq = 4",
    "UPDATE audit_entry SET seq = 4 WHERE seq = 5",
    "UPDATE audit_entry SET seq = 5 WHERE seq = -1",
)


@pytest.mark.parametrize(
    "statements",
    [
        ("DELETE FROM audit_entry WHERE seq = 1",),
        ("DELETE FROM audit_entry WHERE seq = 6",),
        ("DELETE FROM audit_entry WHERE seq = 6", "UPDATE audit_entry SET seq = seq - 1 WHERE seq > 6"),
        SWAP,
        ("INSERT INTO audit_entry SELECT chain, 13, body, hash FROM audit_entry WHERE seq = 12",),
        ("INSERT INTO audit_entry VALUES ('toy', 13, x'7b7d', x'00')",),
        ("INSERT INTO audit_entry VALUES ('toy', 0, x'7b7d', x'00')",),
        ("UPDATE audit_entry SET chain = 'toz' WHERE seq = 12",),
        ("UPDATE audit_entry SET chain = 'toz' WHERE seq = 5",),
        ("UPDATE audit_entry SET body = 'text' WHERE seq = 3",),
        ("UPDATE audit_argument SET value = x'00'",),
        ("UPDATE audit_argument SET salt = x'00'",),
    ],
    ids=lambda statements: statements[-1][:60],
)
async def test_an_entry_dropped_moved_put_in_or_rewritten_is_found(
    log: AuditLog, file: Path, statements: tuple[str, ...]
) -> None:
    tamper(file, *statements)

    assert not (await log.verify()).ok


async def test_a_tail_cut_below_an_exported_head_is_found_and_above_it_is_not(log: AuditLog, file: Path) -> None:
    head = await log.head()
    assert head is not None
    await log.database.write(lambda s: log.append(s, [entry(50)]))

    tamper(file, f"DELETE FROM audit_entry WHERE seq > {COUNT}")
    assert (await log.verify([head])).ok
    tamper(file, f"DELETE FROM audit_entry WHERE seq >= {COUNT}")
    assert (await log.verify()).ok
    assert (await log.verify([head])).problems == (f"the log ends before the exported head {COUNT}",)


async def test_a_rewritten_chain_does_not_fit_an_exported_head(log: AuditLog, file: Path) -> None:
    head = await log.head()
    assert head is not None
    tamper(file, "DELETE FROM audit_entry")
    await log.database.write(lambda s: log.append(s, [entry(n + 100) for n in range(COUNT)]))

    assert (await log.verify()).ok
    assert not (await log.verify([head])).ok


async def test_erasing_an_argument_leaves_a_log_that_verifies(log: AuditLog, file: Path) -> None:
    first = (await log.last(COUNT))[0]
    assert first["call_arguments"] == {"number": 0, "text": "ä"}

    tamper(file, "DELETE FROM audit_argument WHERE commitment = ?", values=(first["arguments"],))

    assert (await log.verify()).ok
    assert (await log.last(COUNT))[0]["call_arguments"] is None


async def test_the_database_itself_refuses_to_change_the_log(log: AuditLog, file: Path) -> None:
    with sqlite3.connect(file) as connection:
        for statement in ("UPDATE audit_entry SET seq = 99", "DELETE FROM audit_entry"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)
    connection.close()


async def test_twenty_problems_are_enough(log: AuditLog, file: Path) -> None:
    await log.database.write(lambda s: log.append(s, [entry(n) for n in range(60)]))
    tamper(file, "UPDATE audit_entry SET hash = x'00'")

    assert "stopped after 20" in (await log.verify()).problems[-1]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"chain": "toy", "seq": "x", "hash": ""}'])
def test_what_is_not_a_head_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="not an exported audit head"):
        Head.from_json(text)


async def test_the_log_lives_in_postgresql_too(postgresql: Callable[[], str]) -> None:
    ledger = Ledger.open(postgresql(), chain="toy", key=b"k" * 32)
    await ledger.database.write(lambda s: ledger.audit.append(s, [entry(n) for n in range(COUNT)]))

    verdict = await ledger.audit.verify()

    assert (verdict.ok, verdict.entries) == (True, COUNT)
    from sqlalchemy import text

    with pytest.raises(Exception, match="append-only"):
        await ledger.database.write(lambda s: s.execute(text("DELETE FROM audit_entry")))
    ledger.database.close()
