"""Checkpoints written to a file of the operator's choice, while a server runs.

The file should be where this process can append and nobody can change what is there: another machine's share,
a versioned bucket's mount, a folder that a log shipper reads. What was recorded after the newest exported
checkpoint could be cut off unnoticed, so the interval is the honest promise.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import anyio
import anyio.to_thread
from pydantic import BaseModel, ConfigDict, Field

from usrland.audit.checkpoint import Signer
from usrland.audit.log import AuditLog
from usrland.errors import UsrlandError

__all__ = ["AuditTable", "Exporter"]

logger = logging.getLogger(__name__)


class AuditTable(BaseModel):
    """The `[audit]` table."""

    model_config = ConfigDict(extra="forbid")

    checkpoints: str = Field(default="", description="The file that signed checkpoints are appended to.")
    every_seconds: float = Field(default=60.0, ge=1.0, description="How often, while anything is recorded.")


class Exporter:
    """Appends a checkpoint of one log whenever it has grown."""

    def __init__(self, log: AuditLog, signer: Signer, file: Path) -> None:
        self._log = log
        self._signer = signer
        self._file = file
        self._exported = 0

    async def run(self, every_seconds: float) -> None:
        """Export until cancelled."""
        while True:
            await anyio.sleep(every_seconds)
            await self.export()

    async def export(self) -> None:
        """Now. Says so in the server's own log where it cannot, and tries again the next time."""
        try:
            if await self._log.size() == self._exported:
                return
            size, root = await self._log.state()
            await anyio.to_thread.run_sync(self._append, self._signer.note(self._log.chain, size, root))
            self._exported = size
        except (OSError, UsrlandError) as error:
            logger.error("no audit checkpoint could be written to %s: %s", self._file, error)

    def _append(self, note: str) -> None:
        # one write to a file opened for appending: servers that share it do not mix their lines
        descriptor = os.open(self._file.expanduser(), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, f"{note}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
