"""Which new file is an old one under another name.

A file that was moved and edited before anybody looked is told by its lines, as git tells it: at least half of
them must be the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from filesystem_retrieval.reading import decode

__all__ = ["MAX_FILES", "renames"]

MAX_FILES = 200
"""Gone and new together; of more, only those with an equal content are matched."""
MIN_SHARE = 0.5


def renames(gone: Mapping[str, bytes], new: Mapping[str, bytes]) -> Mapping[str, str]:
    """New paths by old ones. Each is used once; the most similar go first, equal names before others."""
    old_lines = {path: Counter(_lines(content)) for path, content in gone.items()}
    new_lines = {path: Counter(_lines(content)) for path, content in new.items()}
    pairs = [
        (_share(lines, new_lines[target]), _name(path) == _name(target), path, target)
        for path, lines in old_lines.items()
        for target in new_lines
    ]
    found: dict[str, str] = {}
    taken: set[str] = set()
    for share, _, path, target in sorted(pairs, key=lambda pair: (-pair[0], not pair[1], pair[2:])):
        if share >= MIN_SHARE and path not in found and target not in taken:
            found[path] = target
            taken.add(target)
    return found


def _lines(content: bytes) -> list[str]:
    return [line.strip() for line in decode(content).split("\n") if line.strip()]


def _share(old: Counter[str], new: Counter[str]) -> float:
    return (old & new).total() / max(old.total(), new.total(), 1)


def _name(path: str) -> str:
    return path.rpartition("/")[2]
