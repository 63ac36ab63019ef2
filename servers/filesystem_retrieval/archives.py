"""Archives as folders: what is in them is listed, read and searched by paths such as `backup.zip/plan.md`.

An archive is opened beneath its root like any file, and its descriptor is handed to a limited process that looks
it over and gives out members (`extract`); nothing is unpacked onto a disk. A member stands as long as its archive
does, so what is known of it is as old as the archive's own size and times.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

from filesystem_retrieval.beneath import Opened, Signature, absent
from filesystem_retrieval.reading import kind_of
from filesystem_retrieval.roots import Found, Root
from usrland.errors import NotFound

__all__ = ["Listing", "is_archive", "listing", "members", "opened_member", "read_members", "walk"]

WALL_SECONDS = 60.0
KEPT_LISTINGS = 64
MAX_REQUEST_CHARS = 100_000
"""An argument of a process may not be much longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The files in an archive with their sizes, and why others are not there."""

    sizes: Mapping[str, int]
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A place in an open archive; an empty name is the archive as a folder."""

    archive: Opened
    name: str

    @property
    def path(self) -> str:
        return f"{self.archive.path}/{self.name}" if self.name else self.archive.path


def is_archive(path: str) -> bool:
    return kind_of(path, b"") == "archive"


@contextmanager
def opened_member(root: Root, path: str) -> Iterator[Member]:
    """The archive that a path leads into, whether or not the member is there.

    Raises `NotFound` where it leads into none.
    """
    parts = path.split("/")
    with ExitStack() as stack:
        for end in range(1, len(parts) + 1):
            above = "/".join(parts[:end])
            if not is_archive(above):
                continue
            try:
                archive = stack.enter_context(root.open(above))
            except NotFound:  # a folder of that name, or nothing
                continue
            member = Member(archive=archive, name="/".join(parts[end:]))
            if not root.hides(member.path):
                yield member
                return
    raise absent(path)


_listings: OrderedDict[tuple[int, int, Signature], Listing] = OrderedDict()
_turn = Lock()


def listing(archive: Opened) -> Listing:
    """What is in it; asked once for each state of an archive."""
    key = archive.status.st_dev, archive.status.st_ino, archive.signature
    with _turn:
        if (known := _listings.get(key)) is not None:
            _listings.move_to_end(key)
            return known
    answer, _ = _ask(archive, [])
    problems = [answer["problem"]] if "problem" in answer else answer["problems"]
    found = Listing(sizes=dict(answer.get("members", ())), problem="; ".join(problems) or None)
    with _turn:
        _listings[key] = found
        while len(_listings) > KEPT_LISTINGS:
            _listings.popitem(last=False)
    return found


def read_members(archive: Opened, names: Sequence[str]) -> Mapping[str, bytes]:
    """The bytes of these members; those that are damaged or not there are left out."""
    found: dict[str, bytes] = {}
    for part in _requests(names):
        answer, content = _ask(archive, part)
        start = 0
        for name, size in answer.get("contents", ()):
            if size >= 0:
                found[name] = content[start : start + size]
                start += size
    return found


def _requests(names: Sequence[str]) -> Iterator[list[str]]:
    part: list[str] = []
    for name in names:
        if part and len(json.dumps([*part, name])) > MAX_REQUEST_CHARS:
            yield part
            part = []
        part.append(name)
    if part:
        yield part


def _ask(archive: Opened, names: Sequence[str]) -> tuple[Mapping[str, Any], bytes]:
    """Ask the limited process. It gets the archive's descriptor and no path."""
    command = [sys.executable, "-I", "-m", "filesystem_retrieval.extract", "archive", json.dumps(names)]
    with tempfile.TemporaryDirectory(prefix="usrland-parser-", ignore_cleanup_errors=True) as folder:
        try:
            done = subprocess.run(
                command,
                stdin=archive.fd,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=WALL_SECONDS,
                env={"TMPDIR": folder},
                cwd=folder,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"problem": f"looking it over took longer than {WALL_SECONDS:.0f} seconds"}, b""
    head, line, content = done.stdout.partition(b"\n")
    if done.returncode != 0 or not line:
        return {"problem": "looking it over took too much memory or time"}, b""
    answer: Mapping[str, Any] = json.loads(head)
    return answer, content


def members(root: Root, archive: Found) -> Sequence[Found]:
    """The files in an archive that a walk has met, those left out that are ignored."""
    try:
        with root.open_found(archive) as file:
            inside = listing(file)
            signature = file.signature
    except NotFound:
        return []
    paths = {f"{archive.path}/{name}": size for name, size in inside.sizes.items()}
    return [
        Found(path=path, signature=signature, archive=archive.path, size=size)
        for path, size in sorted(paths.items())
        if not root.hides(path)
    ]


def walk(root: Root, start: str, depth: int | None) -> Iterator[Found]:
    """Like `Root.walk`, into archives too."""
    level = start.count("/") + 1 if start else 0
    try:
        first = root.walk(start, depth)
        met = next(first, None)
    except NotFound:
        yield from _beneath(root, start, depth)
        return
    while met is not None:
        yield met
        if not met.folder and is_archive(met.path) and (depth is None or met.path.count("/") - level + 1 < depth):
            left = None if depth is None else depth - (met.path.count("/") - level + 1)
            yield from _beneath(root, met.path, left)
        met = next(first, None)


def _beneath(root: Root, path: str, depth: int | None) -> Iterator[Found]:
    """Folders and files in an archive, or in a folder of one."""
    with opened_member(root, path) as member:
        sizes = listing(member.archive).sizes
        signature, archive = member.archive.signature, member.archive.path
        prefix = f"{member.name}/" if member.name else ""
    below = [name for name in sizes if name.startswith(prefix)]
    if prefix and not below:
        raise absent(path)
    folders = {name[:at] for name in below for at in range(len(prefix), len(name)) if name[at] == "/"}
    for name in sorted((*below, *folders)):
        if depth is not None and name[len(prefix) :].count("/") >= depth:
            continue
        if not root.hides(f"{archive}/{name}", folder=name in folders):
            yield Found(
                path=f"{archive}/{name}",
                signature=signature,
                folder=name in folders,
                archive=archive,
                size=sizes.get(name),
            )
