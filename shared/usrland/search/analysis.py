"""Text → the words it is found by.

Prose and code share one index, so an identifier counts both whole and in its parts (`parseHttpRequest` is
found by `http request`, `max_file_bytes` by `file bytes`). Scripts written without spaces are cut into
overlapping pairs. Stemming, stop words and lower case are left to the index, which applies them to the result
of this function on both sides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["terms"]

_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_UNSPACED}]+|[^\W{_UNSPACED}]+")
_PAIRWISE = re.compile(rf"[{_UNSPACED}]")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def terms(text: str) -> str:
    """The words of `text`, separated by spaces: whole identifiers followed by their parts."""
    return " ".join(_terms(text))


def _terms(text: str) -> Iterator[str]:
    for match in _WORD.finditer(text):
        word = match.group()
        if _PAIRWISE.match(word):
            yield from (word[start : start + 2] for start in range(max(1, len(word) - 1)))
            continue
        yield word
        parts = _PART.findall(word) if word.isascii() else word.split("_")
        if len(parts) > 1:
            yield from parts
