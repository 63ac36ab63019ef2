"""What changed between two texts, line by line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher, unified_diff

from filesystem_retrieval.reading import SNIFF_BYTES, decode, encoding_of

__all__ = ["Aligned", "aligned", "difference", "is_text", "line_counts"]

CONTEXT_LINES = 2


def difference(before: bytes, after: bytes, path: str) -> str:
    """A unified diff, or a sentence where one of them is no text."""
    if not (is_text(before) and is_text(after)):
        return f"{path}: no text; {len(before)} bytes before, {len(after)} after."
    old, new = (decode(content).split("\n") for content in (before, after))
    return "\n".join(unified_diff(old, new, f"before/{path}", f"after/{path}", lineterm="", n=CONTEXT_LINES))


def is_text(content: bytes) -> bool:
    """Whether a person could read it as it is."""
    return encoding_of(content)[1].startswith(("utf-16", "utf-32")) or b"\0" not in content[:SNIFF_BYTES]


def line_counts(before: str, after: str) -> tuple[int, int]:
    """How many lines came and how many went. What is empty has none."""
    old, new = (Counter(text.removesuffix("\n").split("\n") if text else ()) for text in (before, after))
    return (new - old).total(), (old - new).total()


@dataclass(frozen=True, slots=True, kw_only=True)
class Aligned:
    """Where lines of an old text stand in a new one; counted from 0, the end not included."""

    first: int
    end: int
    equal: bool
    """All of these lines are as they were, and nothing stands between them that did not."""


def aligned(old: Sequence[str], new: Sequence[str], first: int, end: int) -> Aligned | None:
    """The lines of `new` that stand for `old[first:end]`; `None` where nothing does."""
    head = _shared(old, new)
    tail = _shared(old[head:][::-1], new[head:][::-1])
    matcher = SequenceMatcher(None, old[head : len(old) - tail], new[head : len(new) - tail])
    blocks = [
        ("equal", 0, head, 0, head),
        *((tag, a + head, b + head, c + head, d + head) for tag, a, b, c, d in matcher.get_opcodes()),
        ("equal", len(old) - tail, len(old), len(new) - tail, len(new)),
    ]
    spans, kept = [], 0
    for tag, old_first, old_end, new_first, new_end in blocks:
        start, stop = max(first, old_first), min(end, old_end)
        if start >= stop:
            continue
        if tag == "equal":
            spans.append((new_first + start - old_first, new_first + stop - old_first))
            kept += stop - start
        elif tag == "replace":
            spans.append((new_first, new_end))
    if not spans:
        return None
    begin, stop = spans[0][0], spans[-1][1]
    return Aligned(first=begin, end=stop, equal=kept == end - first == stop - begin)


def _shared(old: Sequence[str], new: Sequence[str]) -> int:
    """How many lines both begin with."""
    count = 0
    for before, after in zip(old, new, strict=False):
        if before != after:
            break
        count += 1
    return count
