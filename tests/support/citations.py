"""A shelf of files whose every line is known, so that what became of a citation can be told for sure.

Each line is unique and none comes back; files are edited, moved and deleted and their lines never change order.
A passage whose lines are all there and in one piece stands. Of any other, what counts is what is between the
lines nearest to it that are still there: something, and it has changed; nothing, and it is gone.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

__all__ = ["Cited", "Shelf"]

WORDS = (
    *("amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "harbor"),
    *("inlet", "juniper", "kelp", "lagoon", "meadow", "nectar", "orchid"),
)


@dataclass(frozen=True, kw_only=True)
class Cited:
    """A citation, and the lines it was of."""

    arguments: dict[str, Any]
    lines: list[str]
    source: list[str]
    """All lines of its file then."""
    file: int


@dataclass
class _File:
    path: str
    lines: list[str]


@dataclass
class Shelf:
    """Files beneath `folder`."""

    folder: Path
    chance: random.Random
    files: dict[int, _File] = field(default_factory=dict)
    _numbers: Any = field(default_factory=count)

    def fill(self, files: int, lines: int = 90) -> None:
        for _ in range(files):
            number = next(self._numbers)
            self.files[number] = _File(f"file{number}.md", [self._line() for _ in range(lines)])
            self._write(self.files[number])

    async def cite(self, use: Callable[..., Awaitable[Any]], most: int) -> list[Cited]:
        """Cite passages that a search returns and lines that were read, in turn."""
        cited = []
        while len(cited) < most:
            number = self.chance.choice(list(self.files))
            file = self.files[number]
            first = self.chance.randrange(len(file.lines) - 4)
            if len(cited) % 2:
                hits = (await use("fs_search", file.lines[first], mode="lexical", limit=1)).items
                place = {name: getattr(hits[0], name) for name in ("path", "sha256", "first_line", "last_line")}
            else:
                read = await use("fs_read", file.path)
                place = {"path": file.path, "sha256": read.sha256}
                place |= {"first_line": first + 1, "last_line": first + self.chance.randint(1, 4)}
            assert place["path"] == file.path
            lines = [line for line in file.lines[place["first_line"] - 1 : place["last_line"]] if line]
            cited.append(Cited(arguments=place, lines=lines, source=list(file.lines), file=number))
        return cited

    def disturb(self, times: int) -> None:
        """Change things at random."""
        for _ in range(times):
            number = self.chance.choice(list(self.files))
            what = self.chance.choices(["edit", "cut", "insert", "move", "delete"], [4, 3, 3, 2, 1])[0]
            if what == "delete" and len(self.files) > 2:
                (self.folder / self.files.pop(number).path).unlink()
            elif what == "move":
                self._move(self.files[number])
            else:
                self._edit(self.files[number], what)

    def problem(self, cited: Cited, found: Any) -> str | None:
        """What is wrong with a verdict; nothing where it is right."""
        state, path = self._expected(cited)
        if (found.state, found.path) != (state, path):
            return f"{cited.arguments}: {found.state} at {found.path}, not {state} at {path}"
        file = self.files.get(cited.file)
        if state in ("same", "moved") and file is not None:
            shown = [line for line in file.lines[found.first_line - 1 : found.last_line] if line]
            if shown != cited.lines:
                return f"{cited.arguments}: stands at {found.first_line}, not there"
        return None

    def _expected(self, cited: Cited) -> tuple[str, str]:
        file = self.files.get(cited.file)
        if file is None:
            return "gone", cited.arguments["path"]
        here = [line for line in cited.lines if line in file.lines]
        if here == cited.lines and self._in_one_piece(file, cited.lines):
            first = file.lines.index(cited.lines[0]) + 1
            same = file.path == cited.arguments["path"] and first == cited.arguments["first_line"]
            return ("same" if same else "moved"), file.path
        return ("changed", file.path) if here or self._between(file, cited) else ("gone", cited.arguments["path"])

    def _between(self, file: _File, cited: Cited) -> list[str]:
        """What stands where the passage stood."""
        first = cited.source.index(cited.lines[0])
        above = [line for line in cited.source[:first] if line in file.lines]
        below = [line for line in cited.source[first + len(cited.lines) :] if line in file.lines]
        start = file.lines.index(above[-1]) + 1 if above else 0
        return file.lines[start : file.lines.index(below[0]) if below else len(file.lines)]

    def _in_one_piece(self, file: _File, lines: list[str]) -> bool:
        first = file.lines.index(lines[0])
        return file.lines[first : first + len(lines)] == lines

    def _edit(self, file: _File, what: str) -> None:
        first = self.chance.randrange(1, len(file.lines) - 12)
        size = self.chance.randint(1, 10)
        new = [] if what == "cut" else [self._line() for _ in range(size if what == "edit" else 2)]
        if what == "insert":
            file.lines[first:first] = new
        else:
            file.lines[first : first + size] = new
        file.lines += [self._line() for _ in range(max(40 - len(file.lines), 0))]
        self._write(file)

    def _move(self, file: _File) -> None:
        target = f"{self.chance.choice(WORDS)}/{self.chance.choice(WORDS)}{next(self._numbers)}.md"
        (self.folder / target).parent.mkdir(exist_ok=True)
        (self.folder / file.path).rename(self.folder / target)
        file.path = target

    def _write(self, file: _File) -> None:
        (self.folder / file.path).write_text("\n".join([*file.lines, ""]), encoding="utf-8")

    def _line(self) -> str:
        words = " ".join(self.chance.choices(WORDS, k=6))
        return f"Line number{next(self._numbers)}x says {words}."
