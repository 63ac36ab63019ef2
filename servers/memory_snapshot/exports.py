"""The files that were written from a memory: known by their paths, so that an erasure reaches them, too.

A native file is written anew from the journal, where the body is missing now and everything else proves itself as
before. From files that people edit, only what was erased is taken. What was moved away is named: nobody else knows
where it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlmodel import Session, col, select

from memory_snapshot import journal, native
from memory_snapshot.canonical import short
from memory_snapshot.foreign import to_jsonl
from memory_snapshot.forget import Erased
from memory_snapshot.state import States
from memory_snapshot.tables import Exported, Snapshot
from memory_snapshot.transfer import write_file
from usrland import Principal

__all__ = ["Cleaned", "clean", "native_anew", "note", "written_since"]


@dataclass(slots=True)
class Cleaned:
    files: int = 0
    moved: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    """Of the whole home, and not clean."""


def note(session: Session, *, states: States, principal: Principal, path: Path) -> None:
    """Remember that this is about to be written."""
    space = journal.lock_space(session, principal)
    assert space.id is not None
    session.merge(Exported(space_id=space.id, path=str(path), at=journal.now_after(None)))


def written_since(session: Session, *, states: States, principal: Principal, at: str) -> Sequence[str]:
    """What may hold something that was recorded then."""
    space = journal.find_space(session, principal)
    if space is None:
        return []
    query = select(Exported.path).where(Exported.space_id == space.id, Exported.at >= at)
    return session.exec(query.order_by(col(Exported.path))).all()


def native_anew(session: Session, *, states: States, principal: Principal, head: str) -> bytes | None:
    """The file of a snapshot as it would be written now; None where it is of another memory."""
    space = journal.find_space(session, principal)
    if space is None or space.id is None or session.get(Snapshot, (space.id, head)) is None:
        return None
    return native.write(session, states, space.id, head=head)


def clean(paths: Sequence[str], erased: Erased, anew: Callable[[str], bytes | None]) -> Cleaned:
    """Take what was erased out of these files; `anew` makes the native file of a snapshot."""
    done = Cleaned()
    names = {f"{short(item.item_id)}.md" for item in erased.items}
    lines = {line for item in erased.items if item.said for line in to_jsonl([item]).splitlines()}
    ids = [name.encode() for name in (*(item.oid for item in erased.items), *erased.messages)]
    for path in map(Path, paths):
        if path.is_dir():
            notes = [path / name for name in names if (path / name).is_file()]
            for each in notes:
                each.unlink()
            done.files += len(notes)
        elif path.is_file():
            done.files += _clean_file(path, lines, ids, anew)
        else:
            done.moved.append(str(path))
    return done


def _clean_file(path: Path, lines: set[str], ids: Sequence[bytes], anew: Callable[[str], bytes | None]) -> int:
    content = path.read_bytes()
    head = _head(content)
    if head is not None:
        left = anew(head) if any(name in content for name in ids) else None
    else:
        there = content.decode(errors="replace").splitlines(keepends=True)
        kept = "".join(line for line in there if line.rstrip("\n") not in lines)
        left = kept.encode() if len(kept) != sum(map(len, there)) else None
    if left is None:
        return 0
    write_file(path, left)
    return 1


def _head(content: bytes) -> str | None:
    """The snapshot that a native file is of."""
    try:
        first = json.loads(content.partition(b"\n")[0])
    except ValueError:
        return None
    return str(first["head"]) if isinstance(first, dict) and first.get("format") == native.FORMAT else None
