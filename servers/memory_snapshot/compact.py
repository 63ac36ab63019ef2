"""Making room: the server says which items could be told together, the kernel tells them.

The oldest go first, and what records events before what was decided; pins, instructions, preferences and open
tasks stay. Nothing is lost: what a summary stands for leaves the working set, is found through the summary's
lineage, and stands again after a rollback.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from sqlmodel import Session

from memory_snapshot import drafts, journal
from memory_snapshot.canonical import short
from memory_snapshot.drafts import Draft
from memory_snapshot.items import Remembrance, load, matching_item
from memory_snapshot.questions import HEAD
from memory_snapshot.remember import add
from memory_snapshot.snapshots import find_state
from memory_snapshot.state import States
from memory_snapshot.tables import Ref
from memory_snapshot.wire import Compacted, Fold
from memory_snapshot.writing import begin, check_head, seat
from usrland import InvalidInput, Principal, tokens

__all__ = ["fold", "plan"]

KEPT_KINDS = ("task", "summary")
FIRST_KINDS = ("transcript", "observation")
ITEMS_A_FOLD = 40
FOLDS = 10
SHORTER = 5
"""A summary may take a fifth of what it stands for."""
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")


def plan(
    session: Session, states: States, principal: Principal, *, budget: int, expected_head: str | None
) -> Compacted:
    """What to fold so that the rest fits into `budget`."""
    space = journal.find_space(session, principal)
    if space is None or space.id is None:
        return Compacted(tokens=0, note="Nothing is remembered yet.")
    if expected_head is not None:
        branch = seat(session, space.id, principal)
        check_head(branch, session.get(Ref, (space.id, branch)), expected_head)
    state = find_state(session, states, space.id, principal, HEAD)
    total = states.tokens(session, space.id, state)
    if total <= budget:
        return Compacted(tokens=total, note="It fits already.")
    items = load(session, space.id, list(state.standing.values()), said=False).values()
    # what goes by itself would take the summary along
    foldable = [item for item in items if not (item.core or item.retention or item.kind in KEPT_KINDS)]
    foldable.sort(key=lambda item: (item.kind not in FIRST_KINDS, item.order))
    folds: list[Fold] = []
    saved = 0
    for group in _groups(foldable):
        if total - saved <= budget or len(folds) == FOLDS:
            break
        cost = sum(item.tokens for item in group)
        saved += cost - cost // SHORTER
        texts = load(session, space.id, [item.oid for item in group]).values()
        folds.append(
            Fold(
                ids=[short(item.item_id) for item in group],
                tokens=cost,
                budget=max(20, cost // SHORTER),
                extract=_extract([item.text or "" for item in texts], max(20, cost // SHORTER)),
            )
        )
    note = None if total - saved <= budget else "More is left to fold after these: ask again then."
    return Compacted(tokens=total, folds=folds, note=note if folds else "There is nothing that could be folded.")


def _groups(items: Sequence[Remembrance]) -> Iterable[list[Remembrance]]:
    """Neighbours of one day."""
    group: list[Remembrance] = []
    for item in items:
        if group and (item.day != group[-1].day or len(group) == ITEMS_A_FOLD):
            yield group
            group = []
        group.append(item)
    if group:
        yield group


def _extract(texts: Sequence[str], budget: int) -> str:
    """The sentences with the words that most of the others share, in their order, within the budget."""
    sentences = [match.group().strip() for text in texts for match in _SENTENCE.finditer(text)]
    words = [set(re.findall(r"\w{4,}", sentence.lower())) for sentence in sentences]
    shared = Counter(word for some in words for word in some)
    ranked = sorted(
        range(len(sentences)),
        key=lambda place: (-sum(shared[word] for word in words[place]) / (len(words[place]) + 3), place),
    )
    chosen: list[int] = []
    for place in ranked:
        cost = tokens.count(sentences[place]) + 1
        if cost <= budget:
            chosen.append(place)
            budget -= cost
    return " ".join(sentences[place] for place in sorted(chosen))


def fold(
    session: Session,
    states: States,
    principal: Principal,
    *,
    summaries: Sequence[Draft],
    expected_head: str | None,
    dry_run: bool,
) -> Compacted:
    """Put each summary in the place of what it is derived from."""
    writing = begin(session, states, principal, expected_head=expected_head)
    drop = dict.fromkeys(
        matching_item(writing.standing, prefix)
        for place, draft in enumerate(summaries)
        for prefix in _derived(place, draft)
    )
    if dry_run:
        return Compacted(tokens=states.tokens(session, writing.space_id, writing.state), folded=len(drop))
    if writing.state.newer:
        writing.commit(drafts.message("before the compaction"), "compact")
    put: list[tuple[str, str]] = []
    seq = writing.next_seq
    for place, draft in enumerate(summaries):
        summary = add(writing, draft, replaced=[], seq=seq, place=place)
        put.append((summary.item_id, summary.oid))
    writing.record("compact", put=put, drop=drop)
    snapshot = writing.commit(drafts.message(f"{len(drop)} items told in {len(put)}"), "compact")
    return Compacted(tokens=snapshot.tokens, folded=len(drop), snapshot=snapshot.id)


def _derived(place: int, draft: Draft) -> Sequence[str]:
    if not draft.derived_from:
        raise InvalidInput(f"summaries[{place}] is derived from nothing.", fix="Name the ids it stands for.")
    return draft.derived_from
