"""Signed heads kept outside the store, so that a journal that was cut off or put back as a whole is found out.

A chain of hashes proves that nothing in it was changed, and not that it is all there: whoever can write the
database can put an older copy of it in place. So the newest head of each space is signed and kept in a folder that
whoever can write the store should not be able to write: another disk, another host's share.

A change promises its new head before it is committed and keeps it afterwards. After a crash between the two, the
journal may stand at either; otherwise it has to stand exactly where its head says. A store that does not is not
written to any more, because the next head would cover it up. Restoring a backup on purpose therefore means to
delete the head as well.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from filelock import FileLock, Timeout

from usrland import Conflict, InvalidInput, Unavailable
from usrland.audit import Checkpoint, Signer, VerifyingKey, opened

if TYPE_CHECKING:
    from memory_snapshot.tables import Event, Space

__all__ = ["Anchors", "chain_name", "differing", "signed_head"]

logger = logging.getLogger(__name__)

SUFFIX = ".head"
_LOCK_SECONDS = 30


def chain_name(space: Space) -> str:
    """What the head of this space is signed as."""
    return f"memory-snapshot~{quote(space.tenant, safe='')}~{quote(space.name, safe='')}"


def signed_head(seed: bytes, space: Space, event: Event) -> str:
    """The newest event of a journal, for whoever keeps it somewhere else."""
    return Signer(seed).note(chain_name(space), event.seq, bytes.fromhex(event.hash))


def differing(head: Checkpoint, event: Event | None) -> bool:
    """Whether the event at the head's place (None: there is none) is another one than was signed."""
    return event is None or event.seq != head.size or event.hash != head.root.hex()


class Anchors:
    """The heads of one store's spaces, one file each, signed with the key of the usrland home."""

    def __init__(self, folder: Path, seed: bytes) -> None:
        self._folder = folder
        self._signer = Signer(seed)

    @property
    def key(self) -> VerifyingKey:
        return self._signer.key

    def note(self, space: Space, event: Event) -> str:
        """The signed head."""
        return self._signer.note(chain_name(space), event.seq, bytes.fromhex(event.hash))

    def check(self, space: Space, last: Event | None) -> None:
        """Raises `Conflict` where the journal does not stand where its head says."""
        if problem := self.problem(space, last):
            raise Conflict(
                f"{problem}; nothing was written.",
                fix=f"Call memory_status(verify=true). If a backup was restored on purpose, delete "
                f"{self._file(space)}.",
            )

    def problem(self, space: Space, last: Event | None) -> str | None:
        """What is wrong with the newest event of this journal, if anything."""
        try:
            heads = self._heads(space)
        except (InvalidInput, OSError) as error:
            return f"the signed head of this memory cannot be read ({error})"
        if not heads or any(not differing(head, last) for head in heads):
            return None
        there, signed = last.seq if last else 0, heads[-1].size
        if there < signed:
            return f"the journal ends at event {there}, and event {signed} was signed: it was cut off or put back"
        if there > signed:
            return f"the journal goes on to event {there}, and only event {signed} was signed: it was added to"
        return f"event {there} is not the one that was signed: the journal was replaced"

    def promise(self, space: Space, before: Event | None, after: Event) -> None:
        """Say where the journal will stand; the caller holds the space's lock and commits next."""
        notes = [self.note(space, event) for event in (before, after) if event is not None]
        try:
            with self._lock(space):
                self._write(space, notes)
        except (OSError, Timeout) as error:
            raise Unavailable(f"the head of this memory cannot be kept ({error}); nothing was written.") from error

    def keep(self, space: Space, after: Event) -> None:
        """The promised head is committed, unless somebody has promised a later one meanwhile."""
        try:
            with self._lock(space):
                heads = self._heads(space)
                if heads and not differing(heads[-1], after):
                    self._write(space, [self.note(space, after)])
        except (OSError, Timeout) as error:  # it is still among the two that were promised
            logger.warning("the head of a memory stays promised: %s", error)

    def _heads(self, space: Space) -> list[Checkpoint]:
        try:
            text = self._file(space).read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        heads = opened(text, [self.key])
        name = chain_name(space)
        if any(head.chain != name for head in heads):
            raise InvalidInput("it is the head of another memory")
        return heads

    def _file(self, space: Space) -> Path:
        return self._folder / f"{chain_name(space)}{SUFFIX}"

    def _lock(self, space: Space) -> FileLock:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return FileLock(f"{self._file(space)}.lock", timeout=_LOCK_SECONDS)

    def _write(self, space: Space, notes: Sequence[str]) -> None:
        file = self._file(space)
        draft = file.with_suffix(f".{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write("".join(notes))
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
