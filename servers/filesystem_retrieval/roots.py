"""Roots: the folders an operator has named, and what may be seen in them.

What is ignored is as good as absent, for listing, searching and reading alike: the file that holds the secrets
of a project is usually in its `.gitignore`. So is what has a label that the caller does not hold.

Everything stored about what has a label is kept under a key of its own, as if it were another root: passages,
versions and bytes of different labels never meet in one query. What labels do not protect against: an operator
who changes the patterns leaves what was indexed before where it was until the next scan, and until then only the
check of each path stands between it and a caller.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pathspec import GitIgnoreSpec

from filesystem_retrieval.beneath import CLOCK_TICK_NS, Opened, Signature, absent, opened
from filesystem_retrieval.patterns import IGNORE_FILES, Rules
from usrland.errors import NotFound
from usrland.schemas.principal import Principal

if TYPE_CHECKING:
    from filesystem_retrieval.buckets import Bucket

__all__ = ["Folder", "Found", "Named", "Root", "scopes_for"]

MAX_IGNORE_BYTES = 256 * 1024
_PLAINLY = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file or folder met on a walk."""

    path: str
    signature: Signature
    """Of a member of an archive: the archive's."""
    folder: bool = False
    archive: str | None = None
    """The path of the archive that it is in."""
    size: int | None = None
    """Of a member of an archive."""
    problem: str | None = None
    """Why an archive is not read, or not all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder that is open, and the names of the files in it: that is all that is known of them."""

    fd: int
    path: str
    names: Sequence[str]

    def path_of(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name

    def open(self, name: str) -> int:
        """A descriptor, which is the caller's to close: no link is followed, and no pipe waited for.

        Raises `OSError`.
        """
        return os.open(name, _PLAINLY, dir_fd=self.fd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a folder was seen to hold, and what that depends on."""

    signature: Signature
    above: Rules
    ignore: Sequence[str] | None
    """What its own ignore files say, where it has any."""
    rules: Rules
    files: Sequence[str]
    """Names."""
    folders: Sequence[str]
    """Paths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """One named folder of one tenant."""

    name: str
    folder: Path
    tenant: str
    rules: Rules
    writable: bool = False
    private: frozenset[tuple[int, int]] = frozenset()
    """Device and inode of folders never to be entered: our own data, where a root holds it."""
    include: GitIgnoreSpec | None = None
    """Where there is one, files that it does not match are not there."""
    kinds: frozenset[str] = frozenset()
    """What is read for searching; all, where there are none."""
    max_file_bytes: int = 2 << 20
    max_document_bytes: int = 50 << 20
    bucket: Bucket | None = None
    """What the folder is a copy of."""
    label: str | None = None
    """Without the scope for it nobody knows of this root."""
    labels: Mapping[str, GitIgnoreSpec] = field(default_factory=dict)
    """What else needs a label; the first that matches decides."""
    withheld: frozenset[str] = frozenset()
    """Labels of what is not there for whoever holds this object."""
    remembered: dict[str, Rules] | None = None
    """The rules in force in the folders that were looked into, where they are kept."""

    def seen_by(self, principal: Principal) -> Root | None:
        """The root as far as it is there for this caller; `None` where it is not at all."""
        if principal.tenant != self.tenant or (self.label and _lacks(principal, self.label)):
            return None
        return replace(self, withheld=frozenset(label for label in self.labels if _lacks(principal, label)))

    def remembering(self) -> Root:
        """The same root for as long as one answer takes: what ignore files say is looked up once."""
        return replace(self, remembered={})

    @property
    def keys(self) -> Sequence[str]:
        """What everything stored about this root is kept under: one key for each label, and one for the rest."""
        return list(self.keys_by_label.values())

    @property
    def keys_by_label(self) -> Mapping[str | None, str]:
        return {label: self._key(label) for label in (None, *self.labels) if label not in self.withheld}

    def key_of(self, path: str) -> str:
        """The key for what stands at a path. Raises `NotFound` where its label is withheld."""
        label = self.label_of(path)
        if label in self.withheld:
            raise absent(path)
        return self._key(label)

    def label_of(self, path: str) -> str | None:
        """Also of a file where the pattern is for a folder: what a label holds has no other use for its name."""
        for label, patterns in self.labels.items():
            if patterns.match_file(path) or patterns.match_file(f"{path}/"):
                return label
        return None

    def _key(self, label: str | None) -> str:
        return f"{self.tenant}/{self.name}#{label}" if label else f"{self.tenant}/{self.name}"

    @contextmanager
    def open(self, path: str, *, folder: bool = False) -> Iterator[Opened]:
        """Open a file or folder that is not ignored; raises `NotFound` for everything else."""
        with opened(self.folder, path, folder=folder) as file:
            if file.path and self.hides(file.path, folder=folder):
                raise absent(path)
            yield file

    @contextmanager
    def open_found(self, found: Found) -> Iterator[Opened]:
        """Open a file that a walk has just met, which has seen to it that it is not ignored."""
        with opened(self.folder, found.path) as file:
            if file.path != found.path:  # a link has taken its place
                raise absent(found.path)
            yield file

    def walk(self, start: str = "", depth: int | None = None) -> Iterator[Found]:
        """Everything beneath `start` that is not ignored, folders before what is in them; follows no links.

        Raises `NotFound` where `start` cannot be entered. A folder that vanishes on the way is passed over.
        """
        with self.open(start, folder=True) as top:
            start = top.path
        pending = [(start, self._rules_of(start), 1)]
        while pending:
            folder, rules, level = pending.pop()
            try:
                children = self._children(folder, rules)
            except NotFound:
                if folder == start:
                    raise
                continue
            for found in children:
                yield found
                if found.folder and (depth is None or level < depth):
                    below = rules.within(found.path, self._ignore_lines(found.path))
                    pending.append((found.path, below, level + 1))

    def folders(self, known: MutableMapping[str, Named] | None = None) -> Iterator[Folder]:
        """Every folder that is not ignored, open until the next one is taken, with the names of its files.

        For reading all of them: nothing is asked about a file but its name and that it is one, and it is opened
        from its folder. That costs a fraction of opening each by its path. What is `known` of folders that have
        not changed is not looked up again; what is met is added to it.
        """
        known = {} if known is None else known
        pending = [("", self.rules)]
        while pending:
            path, above = pending.pop()
            try:
                with opened(self.folder, path, folder=True) as here:
                    if here.path != path:  # a link has taken its place
                        continue
                    if (here.status.st_dev, here.status.st_ino) in self.private:
                        continue
                    named = known.get(path)
                    if named is None or not self._is_so(named, path, here.signature, above):
                        read_ns = time.time_ns()
                        named = self._named(here, path, above)
                        if named.signature.ctime_ns <= read_ns - CLOCK_TICK_NS:
                            known[path] = named
                    yield Folder(fd=here.fd, path=path, names=named.files)
            except NotFound:  # gone since, or the root itself is away
                continue
            pending += [(folder, named.rules) for folder in named.folders]

    def _is_so(self, named: Named, path: str, signature: Signature, above: Rules) -> bool:
        if named.signature != signature or named.above is not above:
            return False
        return named.ignore is None or named.ignore == self._ignore_lines(path)

    def _named(self, here: Opened, folder: str, above: Rules) -> Named:
        with os.scandir(here.fd) as entries:
            met = [(entry.name, entry) for entry in entries]
        names = {name for name, _ in met}
        ignore = self._ignore_lines(folder) if not names.isdisjoint(IGNORE_FILES) else None
        rules = above.within(folder, ignore or ())
        prefix = f"{folder}/" if folder else ""
        files, folders = [], []
        for name, entry in met:
            if not (name.isascii() or _is_text(name)):
                continue
            path = prefix + name
            if entry.is_file(follow_symlinks=False):
                if not (rules.hides(path, folder=False) or self._withholds(path) or self._leaves_out(path)):
                    files.append(name)
            elif entry.is_dir(follow_symlinks=False) and not (
                rules.hides(path, folder=True) or self._withholds(path)
            ):
                folders.append(path)
        return Named(
            signature=here.signature,
            above=above,
            ignore=ignore,
            rules=rules,
            files=sorted(files),
            folders=sorted(folders),
        )

    def _children(self, folder: str, rules: Rules) -> list[Found]:
        with opened(self.folder, folder, folder=True) as here:
            return self._met(here.fd, folder, rules)

    def _met(self, fd: int, folder: str, rules: Rules) -> list[Found]:
        children = []
        with os.scandir(fd) as entries:
            for entry in entries:
                if entry.is_symlink() or not _is_text(entry.name):
                    continue
                path = f"{folder}/{entry.name}" if folder else entry.name
                is_folder = entry.is_dir(follow_symlinks=False)
                if not (is_folder or entry.is_file(follow_symlinks=False)) or rules.hides(path, folder=is_folder):
                    continue
                if self._withholds(path) or (not is_folder and self._leaves_out(path)):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:  # gone since
                    continue
                if (status.st_dev, status.st_ino) not in self.private:
                    children.append(Found(path=path, signature=Signature.of(status), folder=is_folder))
        return sorted(children, key=lambda found: found.path)

    def hides(self, path: str, *, folder: bool = False) -> bool:
        """Whether this path is ignored, or beneath a folder that is, or its label withheld; of what is not there,
        by the rules."""
        if self._withholds(path):
            return True
        rules = self._rules_of("")
        parts = path.split("/")
        for end in range(1, len(parts)):
            parent = "/".join(parts[:end])
            if rules.hides(parent, folder=True) or self._is_private(parent):
                return True
            rules = self._within(rules, parent)
        if rules.hides(path, folder=folder):
            return True
        return self._is_private(path) if folder else self._leaves_out(path)

    def limit(self, kind: str) -> int:
        """Bytes of a file of this kind that are read for searching."""
        if self.kinds and kind not in self.kinds:
            return 0
        return self.max_document_bytes if kind == "document" else self.max_file_bytes

    def lacks(self, file: Opened) -> bool:
        """Whether the content of a file is not here, since it is too large to be fetched."""
        return self.bucket is not None and self.bucket.lacks(file)

    def _leaves_out(self, path: str) -> bool:
        return self.include is not None and not self.include.match_file(path)

    def _withholds(self, path: str) -> bool:
        return bool(self.withheld) and self.label_of(path) in self.withheld

    def _is_private(self, folder: str) -> bool:
        if not self.private:
            return False
        try:
            with opened(self.folder, folder, folder=True) as here:
                return (here.status.st_dev, here.status.st_ino) in self.private
        except NotFound:
            return False

    def _rules_of(self, folder: str) -> Rules:
        rules = self._within(self.rules, "")
        parts = folder.split("/") if folder else []
        for end in range(1, len(parts) + 1):
            rules = self._within(rules, "/".join(parts[:end]))
        return rules

    def _within(self, above: Rules, folder: str) -> Rules:
        if self.remembered is None:
            return above.within(folder, self._ignore_lines(folder))
        if folder not in self.remembered:
            self.remembered[folder] = above.within(folder, self._ignore_lines(folder))
        return self.remembered[folder]

    def _ignore_lines(self, folder: str) -> Sequence[str]:
        lines: list[str] = []
        for name in IGNORE_FILES:
            try:
                with opened(self.folder, f"{folder}/{name}" if folder else name) as file:
                    lines += os.pread(file.fd, MAX_IGNORE_BYTES, 0).decode("utf-8", "replace").splitlines()
            except NotFound:
                continue
        return lines


def scopes_for(label: str) -> frozenset[str]:
    """What a caller needs for what has this label: `finance+legal` needs both."""
    return frozenset(f"fs:label:{name}" for name in label.split("+"))


def _lacks(principal: Principal, label: str) -> bool:
    return bool(principal.missing(scopes_for(label)))


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
