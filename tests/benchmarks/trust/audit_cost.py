"""What the chain costs: appending to the audit log against inserting the same rows without hashing anything.

    python tests/benchmarks/trust/audit_cost.py --entries 400 --rounds 5

Both write the same bytes to SQLite with full sync through the same layer, one entry a commit and in groups; rounds
alternate, and the median of the ratios counts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from usrland.audit import Entry
from usrland.audit.entry import commit
from usrland.ledger import Ledger


def entry(number: int) -> Entry:
    return Entry(
        at_ms=1_700_000_000_000 + number, call=f"{number:016x}", phase="intent", operation="memory_remember",
        effect="write", principal="ada@login.example.org", tenant="acme", namespace="main", source="oauth",
        client="desktop", decision="allowed",
        arguments=commit({"items": [{"text": f"The ferry {number} leaves."}]}),
    )  # fmt: skip


def chained(ledger: Ledger, entries: list[Entry]) -> Callable[[Any], None]:
    return lambda session: ledger.audit.append(session, entries)


def plain(ledger: Ledger, entries: list[Entry]) -> Callable[[Any], None]:
    """The same rows in the same tables by the same statements; numbers are counted here, hashes are zeros."""

    def work(session: Any) -> None:
        from sqlalchemy import insert

        from usrland.audit.tables import AuditArgument, AuditEntry

        rows, kept = [], []
        for each in entries:
            counted[0] += 1
            body = each.body(chain="plain", seq=counted[0])
            rows.append({"chain": "plain", "seq": counted[0], "body": body, "hash": bytes(32)})
            value = each.arguments
            kept.append({"commitment": value.digest, "salt": value.salt, "value": value.value})
        connection = session.connection()
        connection.execute(insert(AuditArgument), kept)
        connection.execute(insert(AuditEntry), rows)

    return work


counted = [0]


def timed(make: Callable[[Ledger, list[Entry]], Callable[[Any], None]], entries: int, group: int) -> float:
    counted[0] = 0
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger.open(f"sqlite:///{Path(folder) / 'calls.sqlite'}", chain="bench", key=b"")
        ledger.database.write_now(make(ledger, [entry(10**9)]))
        parts = [[entry(n) for n in range(first, first + group)] for first in range(0, entries, group)]
        begun = time.perf_counter()
        for part in parts:
            ledger.database.write_now(make(ledger, part))
        took = time.perf_counter() - begun
        ledger.database.close()
    return took / entries


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for group in (1, 32):
        rounds = [
            (timed(plain, options.entries, group), timed(chained, options.entries, group))
            for _ in range(options.rounds)
        ]
        ratio = statistics.median(hashed / bare for bare, hashed in rounds)
        bare, hashed = (statistics.median(column) * 1e6 for column in zip(*rounds, strict=True))
        sys.stdout.write(
            f"groups of {group}: {bare:.0f} us without, {hashed:.0f} us with the chain, {ratio:.2f} x\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
