"""What differs between two states, item by item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlmodel import Session

from memory_snapshot import journal
from memory_snapshot.canonical import short
from memory_snapshot.items import Remembrance, load
from memory_snapshot.snapshots import find_state
from memory_snapshot.state import States
from memory_snapshot.wire import Change, Diff
from usrland import NotFound, Principal

__all__ = ["diff"]

_SIGNS = {"added": "+", "changed": "~", "removed": "-"}


def diff(
    session: Session,
    states: States,
    principal: Principal,
    *,
    a: str,
    b: str,
    as_text: bool,
    offset: int,
    limit: int,
) -> Diff:
    """From `a` to `b`. Costs what differs."""
    space = journal.find_space(session, principal)
    if space is None or space.id is None:
        raise NotFound("nothing is remembered yet, so there is nothing to compare.")
    before = find_state(session, states, space.id, principal, a).standing
    after = find_state(session, states, space.id, principal, b).standing
    changes = before.changes_to(after)
    oids = {oid for oid in changes.values() if oid} | {before[name] for name in changes if name in before}
    items = load(session, space.id, oids)
    found = [_change(name, items.get(before.get(name, "")), items.get(oid or "")) for name, oid in changes.items()]
    found.sort(key=lambda change: (change.change, change.key or "", change.item_id))
    counts: Mapping[str, Any] = {kind: sum(change.change == kind for change in found) for kind in _SIGNS}
    text = "\n".join(map(_line, found)) if as_text else None
    shown = [] if as_text else found[offset : offset + limit]
    more = not as_text and offset + limit < len(found)
    return Diff(items=shown, total=len(found), more=more, text=text, **counts)


def _change(item_id: str, before: Remembrance | None, after: Remembrance | None) -> Change:
    item = after or before
    assert item is not None
    return Change(
        change="changed" if before and after else "added" if after else "removed",
        item_id=short(item_id),
        kind=item.kind,
        key=item.key,
        before=before.text if before else None,
        after=after.text if after else None,
    )


def _line(change: Change) -> str:
    name = f" {change.key}" if change.key else ""
    said = change.after if change.before is None else change.before
    if change.change == "changed":
        said = f"{change.before}\n  → {change.after}"
    return f"{_SIGNS[change.change]} [{change.item_id}] {change.kind}{name}: {said}"
