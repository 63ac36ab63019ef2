"""The picture of a memory: one HTML file that needs nothing else, with every snapshot and what differs between any
two.

All that was said stands in the file as data and is shown as text, never as markup; its one script is named by its
hash, so that a browser runs nothing that a memory might hold.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any

from sqlmodel import Session, col, select

from memory_snapshot import journal
from memory_snapshot.canonical import short
from memory_snapshot.history import messages
from memory_snapshot.items import load
from memory_snapshot.journal import MAIN
from memory_snapshot.manifest import EMPTY, Manifest
from memory_snapshot.snapshots import PIN, parents
from memory_snapshot.state import States
from memory_snapshot.tables import Ref, Snapshot
from memory_snapshot.writing import seat
from usrland import NotFound, Principal

__all__ = ["page"]

SHOWN_CHARS = 2_000
"""Of one item: who wants all of a long one asks for it."""
ROW, LANE, EDGE, DOT = 56, 18, 16, 6
COLOURS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One snapshot, or what stands on a branch beyond its newest one (`id` is then the branch's name)."""

    id: str
    parents: Sequence[str]
    standing: Manifest
    at: str
    actor: str = ""
    message: str | None = None
    reason: str = ""
    items: int
    tokens: int
    names: Sequence[str] = ()
    """Branches and pins that point here."""
    unsaved: int = 0


def page(session: Session, states: States, principal: Principal, *, limit: int) -> str:
    """The newest `limit` snapshots of the principal's space. Raises `NotFound` where there is nothing to show."""
    space = journal.find_space(session, principal)
    if space is None or space.id is None:
        raise NotFound("nothing is remembered yet, so there is no picture.")
    rows = _rows(session, states, space.id, limit)
    if not rows:
        raise NotFound("nothing is remembered yet, so there is no picture.")
    own = seat(session, space.id, principal)
    lanes, edges = _lanes(rows, states.current(session, space.id, MAIN).snapshot)
    texts = _texts(session, space.id, rows)
    left = _count(session, space.id) - sum(not row.unsaved for row in rows)
    return _filled(rows, lanes, edges, texts, own=own, left=left, who=f"{space.tenant} / {space.name}")


def _count(session: Session, space_id: int) -> int:
    return len(session.exec(select(Snapshot.id).where(Snapshot.space_id == space_id)).all())


def _rows(session: Session, states: States, space_id: int, limit: int) -> list[_Row]:
    query = select(Snapshot).where(Snapshot.space_id == space_id).order_by(col(Snapshot.seq).desc()).limit(limit)
    snapshots = session.exec(query).all()
    said = messages(session, space_id, snapshots)
    refs = session.exec(select(Ref).where(Ref.space_id == space_id).order_by(Ref.name)).all()
    named: dict[str, list[str]] = {}
    for ref in refs:
        named.setdefault(ref.snapshot, []).append(ref.name)
    there = {snapshot.id for snapshot in snapshots}
    rows = [
        _Row(
            id=snapshot.id,
            parents=[parent for parent in parents(snapshot) if parent in there],
            standing=states.of_snapshot(session, snapshot).standing,
            at=snapshot.taken_at,
            actor=json.loads(snapshot.author)["subject"],
            message=said.get(snapshot.id),
            reason=snapshot.reason,
            items=snapshot.items,
            tokens=snapshot.tokens,
            names=named.get(snapshot.id, []),
        )
        for snapshot in snapshots
    ]
    branches = sorted({MAIN, *(ref.name for ref in refs if not ref.name.startswith(PIN))})
    return [*_unsaved(session, states, space_id, branches, there), *rows]


def _unsaved(
    session: Session, states: States, space_id: int, branches: Sequence[str], there: set[str]
) -> list[_Row]:
    rows = []
    for branch in branches:
        state = states.current(session, space_id, branch)
        if state.newer:
            rows.append(
                _Row(
                    id=f"branch {branch}",
                    parents=[state.snapshot] if state.snapshot in there else [],
                    standing=state.standing,
                    at="",
                    items=len(state.standing),
                    tokens=states.tokens(session, space_id, state),
                    names=[branch],
                    unsaved=state.newer,
                )
            )
    return rows


def _lanes(rows: Sequence[_Row], main: str | None) -> tuple[dict[str, int], list[tuple[str, str, bool]]]:
    """The column of each row, that of `main` first; and the lines: child, parent, whether by a merge."""
    waiting: list[str | None] = [main]
    lanes: dict[str, int] = {}
    edges: list[tuple[str, str, bool]] = []
    for row in rows:
        lane = next((place for place, name in enumerate(waiting) if name == row.id), None)
        if lane is None and main is not None and list(row.parents[:1]) == [main] and MAIN in row.names:
            lane = 0  # what is unsaved on main stands above it
        elif lane is None:
            lane = _free(waiting)
        lanes[row.id] = lane
        waiting = [None if name == row.id else name for name in waiting]
        for place, parent in enumerate(row.parents):
            edges.append((row.id, parent, place > 0))
            if parent not in waiting:
                column = lane if waiting[lane] is None else _free(waiting)
                waiting[column] = parent
    return lanes, edges


def _free(waiting: list[str | None]) -> int:
    if None in waiting[1:]:
        return waiting.index(None, 1)
    waiting.append(None)
    return len(waiting) - 1


def _texts(session: Session, space_id: int, rows: Sequence[_Row]) -> dict[str, dict[str, Any]]:
    oids = {oid for row in rows for oid in row.standing.values()}
    found = {}
    for item in sorted(load(session, space_id, list(oids)).values(), key=lambda item: item.order):
        text = item.text
        if text is not None and len(text) > SHOWN_CHARS:
            text = f"{text[:SHOWN_CHARS]}…"
        found[item.oid] = {"item": item.item_id, "kind": item.kind, "key": item.key, "text": text}
    return found


def _filled(
    rows: Sequence[_Row],
    lanes: Mapping[str, int],
    edges: Sequence[tuple[str, str, bool]],
    texts: Mapping[str, dict[str, Any]],
    *,
    own: str,
    left: int,
    who: str,
) -> str:
    template = files("memory_snapshot").joinpath("graph.html").read_text(encoding="utf-8")
    script = template.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    most = max(row.tokens for row in rows) or 1
    snapshots = sum(not row.unsaved for row in rows)
    note = f" · {left:,} older ones are not shown" if left > 0 else ""
    branches = {name for row in rows for name in row.names if not name.startswith(PIN)}
    words = {
        "%SCRIPT%": digest,
        "%WHO%": escape(who),
        "%COUNTS%": f"{snapshots:,} snapshots · {len(branches)} branches · "
        f"{rows[0].items:,} items, {rows[0].tokens:,} tokens in the newest{note}",
        "%HEIGHT%": str(ROW * len(rows)),
        "%WIDTH%": str(2 * EDGE + LANE * max(lanes.values())),
        "%ROW%": str(ROW),
        "%LINES%": _lines(rows, lanes, edges),
        "%ROWS%": "\n".join(_row(row, place, own, most) for place, row in enumerate(rows)),
        "%DATA%": _data(rows, texts),
    }
    return re.sub("|".join(words), lambda found: words[found[0]], template)  # once: a memory may hold such words


def _lines(rows: Sequence[_Row], lanes: Mapping[str, int], edges: Sequence[tuple[str, str, bool]]) -> str:
    at = {row.id: (EDGE + LANE * lanes[row.id], ROW * place + ROW // 2) for place, row in enumerate(rows)}
    drawn = []
    for child, parent, merged in edges:
        (x, y), (to_x, to_y) = at[child], at[parent]
        lane = lanes[parent] if merged else lanes[child]
        if x == to_x:
            line = f"M{x} {y}V{to_y}"
        elif merged:  # bends at the merge, then runs down its own column
            line = f"M{x} {y}C{x} {y + ROW // 2} {to_x} {y + ROW // 2} {to_x} {y + ROW}V{to_y}"
        else:  # runs down its column and bends where it began
            line = f"M{x} {y}V{to_y - ROW}C{x} {to_y - ROW // 2} {to_x} {to_y - ROW // 2} {to_x} {to_y}"
        drawn.append(f'<path class="c{lane % COLOURS}" d="{line}"/>')
    for row in rows:
        x, y = at[row.id]
        kind = " unsaved" if row.unsaved else " merge" if len(row.parents) > 1 else ""
        drawn.append(f'<circle class="c{lanes[row.id] % COLOURS}{kind}" cx="{x}" cy="{y}" r="{DOT}"/>')
    return "".join(drawn)


def _row(row: _Row, place: int, own: str, most: int) -> str:
    chips = "".join(_chip(name, own) for name in row.names)
    title = (
        f"{row.unsaved:,} change{'s' * (row.unsaved > 1)} in no snapshot yet"
        if row.unsaved
        else row.message or "(message erased)"
    )
    name = f"{row.names[0]}, unsaved" if row.unsaved else short(row.id)
    about = [f"{row.items:,} items", f"{row.tokens:,} tokens"]
    if not row.unsaved:
        about = [name, row.at[:16].replace("T", " "), row.actor, row.reason, *about]
    return (
        f'<li data-at="{place}"><span class="pick">'
        f'<input type="radio" name="a" value="{place}" aria-label="compare from: {escape(name)}">'
        f'<input type="radio" name="b" value="{place}" aria-label="compare to: {escape(name)}"></span>'
        f'<span class="said"><span class="title" title="{escape(title)}">{chips}{escape(title)}</span>'
        f'<span class="about">{escape(" · ".join(about))}</span>'
        f'<span class="bar" style="width:{max(1, 100 * row.tokens // most)}%"></span></span></li>'
    )


def _chip(name: str, own: str) -> str:
    kind = "pin" if name.startswith(PIN) else "own" if name == own else "branch"
    return f'<span class="chip {kind}">{escape(name)}</span>'


def _data(rows: Sequence[_Row], texts: Mapping[str, dict[str, Any]]) -> str:
    """Each state as what differs from its first parent's: a state costs what changed in it."""
    by_id = {row.id: (place, row) for place, row in enumerate(rows)}
    numbers = {oid: number for number, oid in enumerate(texts)}
    states = []
    for row in rows:
        before, base = by_id[row.parents[0]] if row.parents else (None, None)
        changes = (base.standing if base else EMPTY).changes_to(row.standing)
        states.append(
            {
                "name": f"{row.names[0]}, unsaved" if row.unsaved else short(row.id),
                "base": before,
                "put": sorted(numbers[oid] for oid in changes.values() if oid is not None),
                "drop": sorted(name for name, oid in changes.items() if oid is None),
                "tokens": row.tokens,
            }
        )
    data = json.dumps({"states": states, "items": list(texts.values())}, ensure_ascii=False)
    return data.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
