"""In and out of files, in one folder that the operator names: no argument reaches any other place of the disk."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlmodel import Session, select

from memory_snapshot import drafts, foreign, native, usage
from memory_snapshot.canonical import short
from memory_snapshot.drafts import Draft
from memory_snapshot.items import Remembrance, always_applies, load
from memory_snapshot.journal import MAIN
from memory_snapshot.native import Carried
from memory_snapshot.questions import HEAD
from memory_snapshot.remember import body, put
from memory_snapshot.said import Said
from memory_snapshot.snapshots import find_state
from memory_snapshot.state import RELATIONS, State, States, item_ids
from memory_snapshot.tables import Event, ItemVersion, Lineage, Ref, Snapshot
from memory_snapshot.wire import Item, Transferred
from memory_snapshot.writing import Writing, begin
from usrland import InvalidInput, NotFound, Principal, QuotaExceeded

__all__ = ["carry_in", "checked_path", "export", "exported_items", "import_items", "read_items", "write_file"]

MAX_BYTES = 512 * 1024 * 1024
ITEMS_AT_ONCE = 100


def checked_path(folder: Path, name: str) -> Path:
    """The file or folder of that name in the transfer folder. Does not follow a name out of it."""
    folder = folder.resolve()
    path = (folder / name).resolve()
    if not name.strip() or path == folder or folder not in path.parents:
        raise InvalidInput(f"path {name!r} is not inside the transfer folder.", fix="Give a plain file name.")
    return path


def write_file(path: Path, content: bytes) -> None:
    """All of it or nothing, on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)


def export(
    session: Session, states: States, principal: Principal, *, format: str, ref: str, expected_head: str | None
) -> dict[str, bytes]:
    """File name suffix → content. What is in no snapshot yet becomes one first: a file holds a committed state."""
    writing = begin(session, states, principal, expected_head=expected_head)
    if ref == HEAD and (writing.state.newer or writing.head is None):
        writing.commit(drafts.message("before an export"), "export")
        state = writing.after
    else:
        state = find_state(session, states, writing.space_id, principal, ref)
    if format == "native":
        assert state.snapshot is not None
        return {"": native.write(session, states, writing.space_id, head=state.snapshot)}
    items = [item for item in _items(writing, state) if item.said is not None]
    if format == "jsonl":
        return {"": foreign.to_jsonl(items).encode()}
    return {f"/{short(item.item_id)}.md": foreign.to_markdown(item).encode() for item in items}


def exported_items(
    session: Session, states: States, principal: Principal, *, ref: str, expected_head: str | None
) -> int:
    """How many items `export` would write. Raises what it would raise."""
    writing = begin(session, states, principal, expected_head=expected_head)
    return len(find_state(session, states, writing.space_id, principal, ref).standing)


def _items(writing: Writing, state: State) -> Sequence[Remembrance]:
    items = load(writing.session, writing.space_id, list(state.standing.values())).values()
    return sorted(items, key=lambda item: (item.recorded_at, item.item_id))


def read_items(path: Path) -> list[Item] | Carried:
    """A file or a folder of notes. Raises `InvalidInput` where it is damaged or of no known format."""
    if path.is_dir():
        return [item for note in _notes(path) for item in _note(note, note.relative_to(path).as_posix())]
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidInput(f"{path.name!r} has more than {MAX_BYTES} bytes.")
        content = path.read_bytes()
        if f'"format":"{native.FORMAT.partition("/")[0]}/'.encode() in content[:400].partition(b"\n")[0]:
            return native.read(content)
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        raise NotFound(f"there is no file {path.name!r} in the transfer folder.") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{path.name!r} is no UTF-8 text.") from None
    if path.suffix == ".md":
        return foreign.from_markdown(text, path.name)
    return foreign.items_in(text, path.name)


def _notes(folder: Path) -> list[Path]:
    """The notes below a folder, without what programs keep there (`.obsidian`); a link does not lead out of it."""
    return [
        note
        for note in sorted(folder.rglob("*.md"))
        if not any(part.startswith(".") for part in note.relative_to(folder).parts)
        and folder in note.resolve().parents
        and note.is_file()
    ]


def _note(path: Path, name: str) -> list[Item]:
    if path.stat().st_size > MAX_BYTES:
        raise InvalidInput(f"{name!r} has more than {MAX_BYTES} bytes.")
    try:
        return foreign.from_markdown(path.read_text(encoding="utf-8"), name)
    except UnicodeDecodeError:
        raise InvalidInput(f"{name!r} is no UTF-8 text.") from None


def import_items(
    session: Session,
    states: States,
    principal: Principal,
    *,
    items: Sequence[Draft],
    path: str,
    expected_head: str | None,
) -> Transferred:
    """Remember them on the caller's branch; what is there already, word for word, is skipped."""
    writing = begin(session, states, principal, expected_head=expected_head)
    done = []
    for start in range(0, len(items), ITEMS_AT_ONCE):
        done += put(writing, items[start : start + ITEMS_AT_ONCE], guarded=False)
    new = sum(item.new for item in done)
    return Transferred(format="items", path=path, items=len(items), new=new, branch=writing.branch)


def carry_in(
    session: Session,
    states: States,
    principal: Principal,
    *,
    carried: Carried,
    path: str,
    expected_head: str | None,
    dry_run: bool,
) -> Transferred:
    """Take a checked file in: onto `main` where the memory is empty, else as a branch that can be merged."""
    writing = begin(session, states, principal, expected_head=expected_head)
    space_id = writing.space_id
    known = set(session.exec(select(Snapshot.id).where(Snapshot.space_id == space_id)))
    new = [snapshot for snapshot in carried.snapshots if snapshot.id not in known]
    there = item_ids(session, space_id, list(carried.versions))
    brought = [oid for oid in carried.versions if oid not in there]
    empty = session.exec(select(Event.seq).where(Event.space_id == space_id).limit(1)).first() is None
    branch = MAIN if empty else f"import/{short(carried.head)}"
    done = Transferred(
        format="native",
        path=path,
        items=len(carried.versions),
        new=len(brought),
        snapshots=len(new),
        branch=branch,
    )
    if carried.head in known:
        return done.model_copy(update={"branch": None, "note": "All of it is here already."})
    if dry_run:
        return done.model_copy(update={"note": "Nothing was written."})
    _room(writing, carried, brought)
    line = replace(writing, branch=branch, ref=None, state=State(), standing=State().standing)
    if branch != MAIN:
        line.record("branch")
    _bring(line, carried, brought)
    for snapshot in new:
        line.turn_into("import", snapshot.standing)
        _keep_snapshot(line, snapshot, last=snapshot is new[-1])
    if new[-1].id != carried.head:
        raise InvalidInput("the file's head is not its last snapshot; nothing was imported.")
    session.add(Ref(space_id=space_id, name=branch, snapshot=carried.head, generation=1))
    return done


def _room(writing: Writing, carried: Carried, brought: Sequence[str]) -> None:
    """Raises `QuotaExceeded`."""
    quota = writing.states.quota
    standing = max((len(snapshot.standing) for snapshot in carried.snapshots), default=0)
    if quota is not None and standing > quota.items:
        raise QuotaExceeded(f"the file holds {standing} items, and this memory may hold {quota.items}.")
    kept = [carried.versions[oid] for oid in brought]
    tokens = sum(version.row["tokens"] for version in kept if version.said is not None)
    usage.spend(writing.session, writing.space_id, tokens, quota)


def _bring(line: Writing, carried: Carried, brought: Sequence[str]) -> None:
    """Store the versions, in the order of the file, under one event that names them all."""
    session, seq = line.session, line.next_seq
    for place, oid in enumerate(brought):
        version = carried.versions[oid]
        core = always_applies(version.row["kind"], version.row["pinned"], version.said)
        session.add(ItemVersion(space_id=line.space_id, seq=seq, place=place, oid=oid, core=core, **version.row))
        if version.said is not None and version.salt is not None:
            kind = version.row["kind"]
            session.add(body(line.space_id, seq, place, version.salt, kind, version.said))
    session.flush()
    places = _places(line, carried)
    for oid in brought:
        for relation in RELATIONS:
            for target in getattr(carried.versions[oid], relation):
                session.add(
                    Lineage(
                        space_id=line.space_id,
                        seq=places[oid][0],
                        place=places[oid][1],
                        relation=relation,
                        target_seq=places[target][0],
                        target_place=places[target][1],
                    )
                )
    mute = [oid for oid in brought if carried.versions[oid].said is None]
    line.record("import", brought=list(brought), mute=mute or None)


def _places(line: Writing, carried: Carried) -> dict[str, tuple[int, int]]:
    query = select(ItemVersion.oid, ItemVersion.seq, ItemVersion.place).where(
        ItemVersion.space_id == line.space_id
    )
    return {oid: (seq, place) for oid, seq, place in line.session.exec(query) if oid in carried.versions}


def _keep_snapshot(line: Writing, snapshot: native.CarriedSnapshot, *, last: bool) -> None:
    seq = line.next_seq
    if last:
        line.store_pages()
    place: dict[str, Any] = {"space_id": line.space_id, "seq": seq, "branch": line.branch}
    line.session.add(Snapshot(id=snapshot.id, paged=last, **place, **snapshot.row))
    if snapshot.message is not None and snapshot.salt is not None:
        said = Said(text=snapshot.message)
        line.session.add(body(line.space_id, seq, 0, snapshot.salt, "snapshot", said))
    line.record("snapshot", snapshot=snapshot.id, root=snapshot.row["root"], paged=last or None)
