"""What people said: the part of a version that can be erased."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Said"]

_STANDING = re.compile(
    r"\W*(?:please,?\s+)?(?:always|never|from now on|going forward|whenever (?:i|you)|every time (?:i|you))\b",
    re.I,
)
_PERSON = ("user", "human")
MAX_STANDING_CHARS = 400

_NOTE = re.compile(r"^\s*\[[^\[\]]*\]\s*(?=\S)|(?<=\S)\s*\[[^\[\]]*\]\s*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """All of a version that people wrote: what an erasure takes away, and what the commitment covers."""

    text: str
    key: str | None = None
    tags: tuple[str, ...] = ()
    speaker: str | None = None
    uri: str | None = None
    span: str | None = None

    @property
    def committed(self) -> Mapping[str, Any]:
        return {**asdict(self), "tags": list(self.tags) or None}

    @property
    def standing(self) -> bool:
        """Whether a person said it as a rule for all that follows: "always …", "from now on …"."""
        return (
            (self.speaker or "").lower() in _PERSON
            and len(self.text) <= MAX_STANDING_CHARS
            and _STANDING.match(self.text) is not None
        )

    @property
    def spoken(self) -> str:
        """What a speaker said, without a note in brackets before or after it ("[laughs]", "[shares a photo]"): it
        is found by its words like the rest, but would draw the meaning of what was said towards itself."""
        return _NOTE.sub("", self.text) if self.speaker else self.text

    @property
    def findable(self) -> str:
        """The words it is found by: key and tags say what a short text leaves out."""
        return " ".join(part for part in (self.key, self.text, *self.tags) if part)
