"""Which files a search looks in: by path, kind, label and time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from filesystem_retrieval.languages import LANGUAGES
from filesystem_retrieval.patterns import Glob
from filesystem_retrieval.roots import Root
from usrland.errors import InvalidInput

__all__ = ["Selection", "kinds_of", "nanoseconds"]

KINDS = ("markdown", "html", "text", "table", "document", "archive")
_LAST_NS = 2**63 - 1
"""No database counts further; some moment of the year 2262."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Everything, unless it says otherwise."""

    glob: Glob | None = None
    kinds: frozenset[str] = frozenset()
    label: str | None = None
    after_ns: int = 0
    before_ns: int = _LAST_NS

    @classmethod
    def of(
        cls,
        *,
        glob: str | None = None,
        kind: str | None = None,
        label: str | None = None,
        after: datetime | None = None,
        before: datetime | None = None,
    ) -> Selection:
        """Raises `InvalidInput` for what is no glob and no kind."""
        return cls(
            glob=Glob(glob) if glob else None,
            kinds=kinds_of([kind]) if kind else frozenset(),
            label=label,
            after_ns=nanoseconds(after) if after else 0,
            before_ns=nanoseconds(before) if before else _LAST_NS,
        )

    @property
    def is_all(self) -> bool:
        """Of the files under one key."""
        return self.glob is None and not self.kinds and not self.after_ns and self.before_ns == _LAST_NS

    def keys(self, root: Root) -> list[str]:
        """The keys of a root that may hold what is selected."""
        if self.label is None or self.label == root.label:
            return list(root.keys)
        return [key for label, key in root.keys_by_label.items() if label and self.label in label.split("+")]

    def selects(self, path: str, kind: str, changed_ns: int) -> bool:
        return (
            (not self.kinds or kind in self.kinds)
            and self.after_ns <= changed_ns <= self.before_ns
            and (self.glob is None or self.glob.selects(path))
        )


def nanoseconds(moment: datetime) -> int:
    """Since 1970; without a zone it is meant in UTC."""
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return min(max(int(moment.timestamp() * 1e9), 0), _LAST_NS)


def kinds_of(names: Iterable[str]) -> frozenset[str]:
    """The kinds of these names; `code` is every programming language. Raises `InvalidInput` for others."""
    kinds: set[str] = set()
    for name in names:
        if name not in (*KINDS, *LANGUAGES, "code"):
            known = f"{', '.join(KINDS)}, code; or one of {', '.join(LANGUAGES)}"
            raise InvalidInput(f"kind: there is no {name!r}.", fix=f"Kinds: {known}.")
        kinds |= set(LANGUAGES) if name == "code" else {name}
    return frozenset(kinds)
