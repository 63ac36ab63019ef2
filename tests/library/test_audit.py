"""Whatever is done to the log behind its back, `verify` says so."""

from __future__ import annotations

import base64
import json
import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import toy
from mcp import Client

from usrland.audit import AuditLog, Checkpoint, Entry, Signer, VerifyingKey, opened
from usrland.audit.entry import commit
from usrland.audit.merkle import Frontier, inclusion_proof, leaf_hash, proves_inclusion
from usrland.errors import InvalidInput, NotFound
from usrland.host import running
from usrland.ledger import Ledger
from usrland.settings import Settings

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


SIGNER = Signer(b"s" * 32)


async def exported(log: AuditLog) -> Checkpoint:
    """A checkpoint, on paper and back."""
    (checkpoint,) = opened(SIGNER.note(log.chain, *await log.state()), [SIGNER.key])
    return checkpoint


async def test_an_untouched_log_verifies_with_any_checkpoint_exported_from_it(log: AuditLog) -> None:
    first = await exported(log)
    await log.database.write(lambda s: log.append(s, [entry(99)]))

    verdict = await log.verify([first, await exported(log)])

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


async def test_a_tail_cut_below_an_exported_checkpoint_is_found(log: AuditLog, file: Path) -> None:
    head = await exported(log)
    await log.database.write(lambda s: log.append(s, [entry(50)]))

    tamper(file, f"DELETE FROM audit_entry WHERE seq > {COUNT}")
    assert (await log.verify([head])).ok
    tamper(file, f"DELETE FROM audit_entry WHERE seq >= {COUNT}")
    assert (await log.verify()).ok
    assert (await log.verify([head])).problems == (f"the log ends before the exported checkpoint of {COUNT}",)


async def test_a_rewritten_chain_does_not_fit_an_exported_checkpoint(log: AuditLog, file: Path) -> None:
    head = await exported(log)
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


# -- checkpoints


async def test_a_checkpoint_is_a_signed_note_as_others_read_it(log: AuditLog) -> None:
    note = SIGNER.note("toy", *await log.state())

    body, signature = note.split("\n\n")
    origin, size, root = body.split("\n")
    assert origin == f"{SIGNER.key.name}/toy"
    assert size == str(COUNT)
    assert len(base64.b64decode(root)) == 32
    dash, name, encoded = signature.rstrip("\n").split(" ")
    assert (dash, name) == ("—", SIGNER.key.name)
    assert base64.b64decode(encoded)[:4] == SIGNER.key.id
    assert VerifyingKey.parse(str(SIGNER.key)) == SIGNER.key
    assert [each.size for each in opened(f"{note}\n{note}", [SIGNER.key])] == [COUNT, COUNT]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda note: note.replace("\n12\n", "\n13\n"), "not signed"),
        (lambda note: note.replace("/toy", "/toz"), "not signed"),
        (lambda note: Signer(b"t" * 32).note("toy", 12, bytes(32)), "not signed"),
        (lambda note: note.rsplit(" ", 1)[0] + " AAAA\n", "not signed"),
        (lambda note: note.split("\n\n")[0] + "\n", "not a checkpoint"),
        (lambda note: "before\n\n" + note, "not a checkpoint"),
        (lambda note: note + "after\n", "not a checkpoint"),
        (lambda note: "{}", "not a checkpoint"),
        (lambda note: note.rsplit(" ", 1)[0] + " ???\n", "not a checkpoint"),
    ],
    ids=["size", "log", "key", "signature", "unsigned", "text before", "text after", "json", "no base64"],
)
async def test_a_checkpoint_that_nobody_known_has_signed_is_refused(
    log: AuditLog, change: Callable[[str], str], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        opened(change(SIGNER.note("toy", *await log.state())), [SIGNER.key])


@pytest.mark.parametrize("text", ["", "name", "name+00000000+AAAA", "name+0000+" + "A" * 44, "a+b+c"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="not a"):
        VerifyingKey.parse(text)


@pytest.mark.parametrize("size", range(1, 34))
def test_every_entry_of_every_tree_can_be_proven_and_no_other(size: int) -> None:
    leaves = [leaf_hash(bytes([number])) for number in range(size)]
    tree = Frontier()
    for leaf in leaves:
        tree.add(leaf)
    for index, leaf in enumerate(leaves):
        path = inclusion_proof(leaves, index)
        assert proves_inclusion(leaf, index, size, path, tree.root())
        assert not proves_inclusion(leaf_hash(b"other"), index, size, path, tree.root())
        assert not proves_inclusion(leaf, index, size + 1, [*path, leaf], tree.root())
        assert not proves_inclusion(leaf, size, size, path, tree.root())
        assert size == 1 or not proves_inclusion(leaf, (index + 1) % size, size, path, tree.root())


def test_the_tree_is_that_of_rfc_6962() -> None:
    # the roots of the inputs that Certificate Transparency's own implementations are tested with
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    roots = {
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    }
    tree = Frontier()
    assert tree.root().hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for leaf in inputs:
        tree.add(leaf_hash(bytes.fromhex(leaf)))
        if tree.size in roots:
            assert tree.root().hex() == roots[tree.size]


async def test_an_entry_is_proven_to_who_has_only_the_checkpoint(log: AuditLog) -> None:
    proof = await log.prove(5)
    checkpoint = await exported(log)

    assert json.loads(proof.body)["call"] == "c4"
    assert proves_inclusion(leaf_hash(proof.body), proof.index, checkpoint.size, proof.path, checkpoint.root)
    with pytest.raises(NotFound, match="no entry 13"):
        await log.prove(13)


async def test_a_running_server_exports_what_it_recorded(tmp_path: Path) -> None:
    kept = tmp_path / "elsewhere"
    settings = Settings(home=tmp_path / "home", tables={"audit": {"checkpoints": str(kept)}})
    for _ in range(2):
        async with running(toy.service(settings), settings) as host, Client(host.server) as client:
            await client.call_tool("add", {"left": 1})

    first, second = opened(kept.read_text(), [Signer(settings.key("audit")).key])
    ledger = Ledger.open(Ledger.url(settings, "toy"), chain="toy", key=b"")
    verdict = await ledger.audit.verify([first, second])
    ledger.database.close()
    assert (first.size, second.size) == (1, 2)
    assert (verdict.ok, verdict.entries) == (True, 2)


async def test_the_log_lives_in_postgresql_too(postgresql: Callable[[], str]) -> None:
    ledger = Ledger.open(postgresql(), chain="toy", key=b"k" * 32)
    await ledger.database.write(lambda s: ledger.audit.append(s, [entry(n) for n in range(COUNT)]))

    verdict = await ledger.audit.verify()

    assert (verdict.ok, verdict.entries) == (True, COUNT)
    from sqlalchemy import text

    with pytest.raises(Exception, match="append-only"):
        await ledger.database.write(lambda s: s.execute(text("DELETE FROM audit_entry")))
    ledger.database.close()
