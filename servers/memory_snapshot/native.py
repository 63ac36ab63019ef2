"""The file that a memory is carried in: one line of canonical JSON for each thing, hashes included.

    {"format": "usrland-memory/1", "head": …}                           where it stood has a part in no byte
    {"is": "version", "oid": …, …, "body": {"salt": …, "said": {…}}}    as they were recorded; no body if erased
    {"is": "snapshot", "id": …, …, "put": […], "drop": […]}             parents first; changes against the first
    {"is": "end", "sha256": …}                                          of all bytes before this line

The same state makes the same bytes wherever it is exported from, and everything in the file proves itself: it is
checked as a whole before anything of it is stored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlmodel import Session, col, select

from memory_snapshot.canonical import canonical, commitment, digest
from memory_snapshot.history import ancestry
from memory_snapshot.items import said_in, version_oid
from memory_snapshot.manifest import EMPTY, Manifest
from memory_snapshot.said import Said
from memory_snapshot.snapshots import parents
from memory_snapshot.state import RELATIONS, States, ancestors
from memory_snapshot.tables import Body, ItemVersion, Snapshot
from memory_snapshot.writing import snapshot_id
from usrland import InvalidInput
from usrland.database import in_batches

__all__ = ["FORMAT", "Carried", "CarriedSnapshot", "CarriedVersion", "read", "write"]

FORMAT = "usrland-memory/1"
_VERSION = ("item_id", "kind", "actor", "origin", "trust", "commitment", "valid_from", "valid_to", "retention")
_MORE_VERSION = ("recorded_at", "pinned", "tokens")
_SNAPSHOT = ("root", "parents", "author", "commitment", "reason", "items", "tokens", "taken_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedVersion:
    row: Mapping[str, Any]
    supersedes: Sequence[str]
    derived_from: Sequence[str]
    salt: str | None
    said: Said | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedSnapshot:
    id: str
    row: Mapping[str, Any]
    salt: str | None
    message: str | None
    standing: Manifest


@dataclass(slots=True, kw_only=True)
class Carried:
    """A whole file, checked."""

    head: str
    versions: dict[str, CarriedVersion] = field(default_factory=dict)
    snapshots: list[CarriedSnapshot] = field(default_factory=list)
    """Parents first."""


def write(session: Session, states: States, space_id: int, *, head: str) -> bytes:
    """The snapshot `head`, all that it came from, and every version in their lineage."""
    line = _parents_first(ancestry(session, space_id, head))
    standing = {snapshot.id: states.of_snapshot(session, snapshot).standing for snapshot in line}
    oids = {oid for manifest in standing.values() for oid in manifest.values()}
    related = ancestors(session, space_id, oids)
    for relation in RELATIONS:
        oids.update(*related[relation].values())
    lines = [canonical({"format": FORMAT, "head": head})]
    lines += _versions(session, space_id, oids, related)
    bodies = _bodies(session, space_id, [(snapshot.seq, 0) for snapshot in line])
    for snapshot in line:
        before = standing[parents(snapshot)[0]] if parents(snapshot) else EMPTY
        changes = before.changes_to(standing[snapshot.id])
        message = bodies.get((snapshot.seq, 0))
        lines.append(
            canonical(
                {
                    "is": "snapshot",
                    "id": snapshot.id,
                    **{name: getattr(snapshot, name) for name in _SNAPSHOT},
                    "message": {"salt": message.salt, "text": message.text} if message else None,
                    "put": sorted(oid for oid in changes.values() if oid is not None),
                    "drop": sorted(name for name, oid in changes.items() if oid is None),
                }
            )
        )
    whole = "".join(f"{line}\n" for line in lines).encode()
    return whole + f"{canonical({'is': 'end', 'sha256': digest(whole)})}\n".encode()


def _parents_first(line: Mapping[str, Snapshot]) -> list[Snapshot]:
    """By the longest way to a beginning, then by id: an order that no journal has a part in."""
    depths: dict[str, int] = {}
    for snapshot in sorted(line.values(), key=lambda snapshot: snapshot.seq):  # parents were taken before
        depths[snapshot.id] = 1 + max((depths[parent] for parent in parents(snapshot)), default=0)
    return sorted(line.values(), key=lambda snapshot: (depths[snapshot.id], snapshot.id))


def _versions(
    session: Session, space_id: int, oids: set[str], related: Mapping[str, Mapping[str, list[str]]]
) -> Iterator[str]:
    rows: dict[str, ItemVersion] = {}
    for some in in_batches(oids):
        query = select(ItemVersion).where(ItemVersion.space_id == space_id, col(ItemVersion.oid).in_(some))
        rows.update({row.oid: row for row in session.exec(query)})
    bodies = _bodies(session, space_id, [(row.seq, row.place) for row in rows.values()])
    for oid, row in sorted(rows.items(), key=lambda found: (found[1].seq, found[1].place)):
        body = bodies.get((row.seq, row.place))
        yield canonical(
            {
                "is": "version",
                "oid": oid,
                **{name: getattr(row, name) for name in (*_VERSION, *_MORE_VERSION)},
                **{relation: related[relation].get(oid) for relation in RELATIONS},
                "body": {"salt": body.salt, "said": _present(said_in(body))} if body else None,
            }
        )


def _present(said: Said) -> Mapping[str, Any]:
    return {name: value for name, value in said.committed.items() if value is not None}


def _bodies(session: Session, space_id: int, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Body]:
    wanted = set(places)
    found: dict[tuple[int, int], Body] = {}
    for some in in_batches({seq for seq, _ in places}):
        for body in session.exec(select(Body).where(Body.space_id == space_id, col(Body.seq).in_(some))):
            if (body.seq, body.place) in wanted:
                found[(body.seq, body.place)] = body
    return found


def read(content: bytes) -> Carried:
    """Parse and check everything. Raises `InvalidInput` for the first thing that is not what it says."""
    try:
        return _read(content)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise _broken(f"it cannot be read ({type(error).__name__})") from error


def _broken(what: str) -> InvalidInput:
    return InvalidInput(f"the file is damaged: {what}. Nothing was imported.", fix="Export it again.")


def _read(content: bytes) -> Carried:
    end = content.rstrip(b"\n").rfind(b"\n") + 1
    if json.loads(content[end:]) != {"is": "end", "sha256": hashlib.sha256(content[:end]).hexdigest()}:
        raise _broken("its last line does not fit the others")
    first, *lines = [json.loads(line) for line in content[:end].splitlines()]
    if first["format"] != FORMAT:
        raise InvalidInput(f"format {first['format']!r} is not known.", fix=f"This version reads {FORMAT}.")
    carried = Carried(head=first["head"])
    for line in lines:
        if line["is"] == "version":
            carried.versions[line["oid"]] = _version(line)
    standing: dict[str, Manifest] = {}
    for line in lines:
        if line["is"] == "snapshot":
            snapshot = _snapshot(line, standing, carried.versions)
            standing[snapshot.id] = snapshot.standing
            carried.snapshots.append(snapshot)
    for version in carried.versions.values():
        for target in (*version.supersedes, *version.derived_from):
            if target not in carried.versions:
                raise _broken(f"version {target} is missing")
    if carried.head not in standing:
        raise _broken("its head is missing")
    return carried


def _version(line: Mapping[str, Any]) -> CarriedVersion:
    row: dict[str, Any] = {name: line.get(name) for name in (*_VERSION, *_MORE_VERSION)}
    supersedes, derived_from = line.get("supersedes", []), line.get("derived_from", [])
    if version_oid(ItemVersion(**row), supersedes, derived_from) != line["oid"]:
        raise _broken(f"version {line['oid']} was changed")
    body = line.get("body")
    said = None
    if body is not None:
        said = Said(**{**body["said"], "tags": tuple(body["said"].get("tags", ()))})
        if commitment(body["salt"], said.committed) != row["commitment"]:
            raise _broken(f"the text of version {line['oid']} was changed")
    return CarriedVersion(
        row=row, supersedes=supersedes, derived_from=derived_from, salt=body and body["salt"], said=said
    )


def _snapshot(
    line: Mapping[str, Any], standing: Mapping[str, Manifest], versions: Mapping[str, CarriedVersion]
) -> CarriedSnapshot:
    row = {name: line[name] for name in _SNAPSHOT}
    named = json.loads(row["parents"])
    if any(parent not in standing for parent in named):
        raise _broken(f"a parent of snapshot {line['id']} is missing")
    changes: dict[str, str | None] = dict.fromkeys(line["drop"])
    changes.update({versions[oid].row["item_id"]: oid for oid in line["put"]})
    manifest = (standing[named[0]] if named else EMPTY).changed(changes)
    if manifest.root != row["root"] or snapshot_id(Snapshot(**row)) != line["id"]:
        raise _broken(f"snapshot {line['id']} was changed")
    message = line.get("message")
    if (
        message is not None
        and commitment(message["salt"], Said(text=message["text"]).committed) != row["commitment"]
    ):
        raise _broken(f"the message of snapshot {line['id']} was changed")
    return CarriedSnapshot(
        id=line["id"],
        row=row,
        salt=message and message["salt"],
        message=message and message["text"],
        standing=manifest,
    )
