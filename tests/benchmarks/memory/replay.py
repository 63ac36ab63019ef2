"""The ranking and the packing alone, without a server, on vectors that are made once: for choosing weights.

    python tests/benchmarks/memory/replay.py locomo|beam WHERE --vectors FOLDER [--half first|second]

The same conversations and measures as `conversations.py`, and the product's own texts, order and packing; what is
left out is the index, which proposes all turns of a conversation of this size anyway.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
from conversations import BUDGETS, Conversation, Figures, Turn, beam, chosen, gain, locomo, report

from memory_snapshot.canonical import parse_moment
from memory_snapshot.feeding import _between, _clipped, _spoken
from memory_snapshot.items import Remembrance, always_applies
from memory_snapshot.packing import pack
from memory_snapshot.ranking import rank
from memory_snapshot.recall import candidate
from memory_snapshot.said import Said
from usrland import tokens
from usrland.embedding import embedder


class Vectors:
    """Of lists of texts; each list is embedded once and kept in a file."""

    def __init__(self, folder: Path) -> None:
        model = embedder()
        assert model is not None
        self._folder, self._model = folder, model
        folder.mkdir(parents=True, exist_ok=True)

    def of(self, texts: Sequence[str]) -> Any:
        name = hashlib.sha256("\0".join([self._model.generation, *texts]).encode()).hexdigest()[:16]
        file = self._folder / f"{name}.npy"
        if not file.exists():
            numpy.save(file, self._model.documents(texts))
        return numpy.load(file)


def item(turn: Turn, place: int) -> Remembrance:
    said = Said(text=turn.text, speaker=turn.speaker, uri=turn.session, span=turn.name)
    oid = hashlib.sha256(f"{place} {turn}".encode()).hexdigest()
    date = parse_moment(turn.date, "date") if turn.date else None
    return Remembrance(
        oid=oid,
        item_id=oid[:32],
        kind="transcript",
        actor="me",
        origin="model_inference",
        trust="model_inference",
        valid_from=date,
        valid_to=None,
        retention=None,
        recorded_at=date or "2026-01-01T00:00:00.000000Z",
        pinned=False,
        core=always_applies("transcript", False, said),
        tokens=tokens.count(turn.text),
        seq=1,
        place=place,
        said=said,
    )


def measure(conversation: Conversation, vectors: Vectors, figures: Figures) -> None:
    items = [item(turn, place) for place, turn in enumerate(conversation.turns)]
    names = {found.oid: turn.name for found, turn in zip(items, conversation.turns, strict=True)}
    sessions = {turn.name: turn.session for turn in conversation.turns}
    around = {found.oid: "\n".join(map(_clipped, near)) for found, near in _between(items)}
    itself, window = vectors.of([_spoken(found) for found in items]), vectors.of([around[oid] for oid in names])
    by_oid = {found.oid: found for found in items}
    core = [found for found in items if found.core]
    for question, asked in zip(
        conversation.questions, vectors.of([question.text for question in conversation.questions]), strict=True
    ):
        near, nearby = itself @ asked, window @ asked
        ranked = rank(
            question.text,
            [candidate(found, float(near[at]), float(nearby[at])) for at, found in enumerate(items)],
        )
        order = list(ranked.scores)[:200]
        hits = [names[oid] for oid in order]
        for most in (5, 10, 20):
            share = len(question.evidence.intersection(hits[:most])) / len(question.evidence)
            figures.add(f"recall@{most}", question.group, share)
        figures.add("nDCG@10", question.group, gain(hits[:10], question.evidence))
        wanted = {sessions[name] for name in question.evidence}
        line = list(dict.fromkeys(sessions[name] for name in hits))
        for most in (5, 10):
            figures.add(
                f"session recall@{most}", question.group, len(wanted.intersection(line[:most])) / len(wanted)
            )
        rest = [by_oid[oid] for oid in order if not by_oid[oid].core]
        for budget in BUDGETS:
            kept = {names[found.oid] for found in pack(core, rest, budget=budget, mode="pack").packed}
            figures.add(
                f"kept in {budget} tokens", question.group, len(question.evidence & kept) / len(question.evidence)
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", choices=["locomo", "beam"])
    parser.add_argument("where", type=Path)
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--half", choices=["first", "second"])
    options = parser.parse_args()
    conversations = chosen(
        locomo(options.where) if options.collection == "locomo" else beam(options.where), options.half
    )
    vectors, figures = Vectors(options.vectors), Figures()
    for conversation in conversations:
        measure(conversation, vectors, figures)
    report(conversations, figures)


if __name__ == "__main__":
    main()
