"""Where the audit logs of the installed servers are, for the sub-commands that read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from usrland.audit import AuditLog
from usrland.cli.servers import pick_servers
from usrland.ledger import Ledger
from usrland.settings import Settings

__all__ = ["audit_logs", "ledgers"]


@contextmanager
def audit_logs(settings: Settings, names: Sequence[str]) -> Iterator[dict[str, AuditLog]]:
    """The log of each server that has recorded something, open until the block is left."""
    with ledgers(settings, names) as found:
        yield {name: ledger.audit for name, ledger in found.items()}


@contextmanager
def ledgers(settings: Settings, names: Sequence[str]) -> Iterator[dict[str, Ledger]]:
    """The ledger of each server that has recorded something, open until the block is left."""
    found = {}
    for server in pick_servers(names):
        url = Ledger.url(settings, server.name)
        file = url.removeprefix("sqlite:///")
        if file == url or Path(file).exists():  # opening would make it, and looking must not change anything
            found[server.name] = Ledger.open(url, chain=server.name, key=b"")
    try:
        yield found
    finally:
        for ledger in found.values():
            ledger.database.close()
