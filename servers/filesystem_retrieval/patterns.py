"""Git's patterns: what is ignored, and what a glob selects.

Ignore files come with the content and globs from a model, so both are matched by RE2, which cannot be made to
run for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pathspec import GitIgnoreSpec

from usrland.errors import InvalidInput

__all__ = ["DRAFT", "IGNORE_FILES", "Glob", "Rules", "compiled", "is_pattern"]

IGNORE_FILES = (".gitignore", ".usrlandignore")
"""In this order: a later file overrides an earlier one of the same folder."""
DRAFT = ".usrland-draft-"
"""How the name of a file begins that is being written and has not got its own name yet."""
ALWAYS = frozenset({".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv"})
MAX_GLOB_CHARS = 500


@dataclass(frozen=True, slots=True)
class Rules:
    """The ignore rules in force in one folder: those of the folders above it, then its own."""

    operator: GitIgnoreSpec
    """Relative to the root; nothing in a folder can override these."""
    levels: tuple[tuple[str, GitIgnoreSpec], ...] = ()

    def within(self, folder: str, lines: Sequence[str]) -> Rules:
        """The rules of `folder`, whose own ignore files hold `lines`."""
        if not lines:
            return self
        return Rules(self.operator, (*self.levels, (f"{folder}/" if folder else "", compiled(lines))))

    def hides(self, path: str, *, folder: bool) -> bool:
        """Whether this child of the folder is ignored. An ignored folder hides all that is in it."""
        name = path.rpartition("/")[2]
        if name in ALWAYS or name.startswith(DRAFT):
            return True
        if not (self.operator.patterns or self.levels):
            return False
        subject = f"{path}/" if folder else path
        if self.operator.check_file(subject).include:
            return True
        for prefix, patterns in reversed(self.levels):
            verdict = patterns.check_file(subject[len(prefix) :]).include
            if verdict is not None:
                return verdict
        return False


class Glob:
    """A selection of files by path, written as git writes it: `*.md` anywhere, `docs/**/*.md` from the root."""

    def __init__(self, pattern: str) -> None:
        try:
            if len(pattern) > MAX_GLOB_CHARS:
                raise ValueError("too long")
            self._patterns = GitIgnoreSpec.from_lines([pattern], backend="re2")
        except ValueError as error:
            raise InvalidInput(
                f"glob: {pattern[:80]!r} is not a pattern.", fix="Write it like '*.md' or 'src/**/*.py'."
            ) from error

    def selects(self, path: str) -> bool:
        return self._patterns.match_file(path)


def compiled(lines: Sequence[str]) -> GitIgnoreSpec:
    """The patterns in `lines`. A line that is none is left out, as git does."""
    try:
        return GitIgnoreSpec.from_lines(lines, backend="re2")
    except ValueError:
        return GitIgnoreSpec.from_lines([line for line in lines if is_pattern(line)], backend="re2")


def is_pattern(line: str) -> bool:
    try:
        GitIgnoreSpec.from_lines([line], backend="re2")
    except ValueError:
        return False
    return True
