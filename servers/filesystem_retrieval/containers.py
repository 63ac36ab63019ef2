"""What is packed, looked over before it is unpacked: ZIP and TAR, and the documents that are ZIP files.

Runs in the parser's process. Nothing is ever written to a disk, so a member's name can lead nowhere; it is still
refused where it would, since it becomes a path that callers use. An archive in an archive is a folder as well, to
some depth; whatever is in it counts towards the same limits.
"""

from __future__ import annotations

import io
import json
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import IO

from filesystem_retrieval.reading import kind_of

__all__ = ["Refused", "answer_about", "look_over", "problem_of_name"]

MAX_MEMBERS = 10_000
MAX_BYTES = 200 << 20
"""Of all members together, unpacked."""
MAX_RATIO = 200
"""Unpacked to packed, of what is larger than this:"""
SMALL_BYTES = 1 << 20
MAX_DEPTH = 3
"""Of archives in archives."""
MAX_NAME_CHARS = 1_000
MAX_PROBLEMS = 3

_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    NotImplementedError,
    RuntimeError,  # what zipfile raises for a member with a password
    struct.error,
)
_ENCRYPTED = 0x1


class Refused(Exception):
    """Raised for what is not unpacked; says why, in words for `fs_status`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    name: str
    size: int
    open: Callable[[], IO[bytes] | None]

    def content(self) -> bytes | None:
        """Its bytes; `None` where it is damaged or larger than it said."""
        try:
            stream = self.open()
            content = stream.read(self.size + 1) if stream is not None else b""
        except _BROKEN:
            return None
        return content if len(content) == self.size else None


@dataclass(slots=True, kw_only=True)
class _Room:
    """What may still be unpacked of one file."""

    members: int = MAX_MEMBERS
    bytes: int = MAX_BYTES

    def take(self, size: int) -> None:
        self.members -= 1
        self.bytes -= size
        if self.members < 0:
            raise Refused(f"it has more than {MAX_MEMBERS} members")
        if self.bytes < 0:
            raise Refused(f"it would unpack to more than {MAX_BYTES >> 20} MB")


def look_over(file: IO[bytes]) -> Sequence[zipfile.ZipInfo]:
    """The members of a ZIP file; raises `Refused` where unpacking all of them would cost too much."""
    try:
        members = zipfile.ZipFile(file).infolist()
    except _BROKEN as error:
        raise Refused("it is damaged") from error
    if len(members) > MAX_MEMBERS:
        raise Refused(f"it has more than {MAX_MEMBERS} members")
    if sum(member.file_size for member in members) > MAX_BYTES:
        raise Refused(f"it would unpack to more than {MAX_BYTES >> 20} MB")
    for member in members:
        _require_ratio(member.file_size, member.compress_size)
    return members


def answer_about(request: str, file: IO[bytes], out: IO[bytes]) -> None:
    """List the members of an archive (`[]`), or give the bytes of some (`["a.md", "b.md"]`), on one JSON line
    and behind it."""
    wanted: list[str] = json.loads(request)
    try:
        members, problems = _members(file, _Room())
        if not wanted:
            listed = [[member.name, member.size] for member in members.values()]
            out.write(json.dumps({"members": listed, "problems": problems}).encode() + b"\n")
            return
        contents = {name: members[name].content() for name in wanted if name in members}
    except Refused as error:
        out.write(json.dumps({"problem": str(error)}).encode() + b"\n")
        return
    except _BROKEN:
        out.write(json.dumps({"problem": "it is damaged"}).encode() + b"\n")
        return
    sizes = [[name, -1 if content is None else len(content)] for name, content in contents.items()]
    out.write(json.dumps({"contents": sizes}).encode() + b"\n")
    for content in contents.values():
        out.write(content or b"")


def _members(file: IO[bytes], room: _Room, depth: int = 0) -> tuple[dict[str, _Member], list[str]]:
    """The files in an archive by their names, and why others are left out."""
    members: dict[str, _Member] = {}
    problems: list[str] = []
    for member, problem in _zipped(file, room) if zipfile.is_zipfile(file) else _tarred(file, room):
        problem = problem or problem_of_name(member.name)
        if problem:
            problems.append(problem)
            continue
        inside = _inside(member, room, depth)
        members.update({each.name: each for each in inside} or {member.name: member})
    folders = {name[:at] for name in members for at, letter in enumerate(name) if letter == "/"}
    for name in folders & members.keys():  # one name cannot be both
        del members[name]
        problems.append("a file has the name of a folder")
    told = [f"{problem} ({problems.count(problem)})" for problem in dict.fromkeys(problems)]
    return members, told[:MAX_PROBLEMS]


def _inside(member: _Member, room: _Room, depth: int) -> Sequence[_Member]:
    """What is in a member that is an archive itself; nothing where it is none, or cannot be unpacked."""
    if kind_of(member.name, b"") != "archive" or depth + 1 >= MAX_DEPTH:
        return []
    content = member.content()
    if content is None:
        return []
    try:
        members, _ = _members(io.BytesIO(content), room, depth + 1)
    except (Refused, *_BROKEN):
        return []
    return [replace(each, name=f"{member.name}/{each.name}") for each in members.values()]


def _zipped(file: IO[bytes], room: _Room) -> Iterator[tuple[_Member, str]]:
    archive = zipfile.ZipFile(file)
    for info in look_over(file):
        room.take(info.file_size)
        if info.is_dir():
            continue
        kind, problem = info.external_attr >> 28, ""
        if info.flag_bits & _ENCRYPTED:
            problem = "members with a password are left out"
        elif kind not in (0, 0o10):  # what its maker says it was: nothing, or a regular file
            problem = "links and devices are left out"
        yield _Member(name=info.orig_filename, size=info.file_size, open=partial(archive.open, info)), problem


def _tarred(file: IO[bytes], room: _Room) -> Iterator[tuple[_Member, str]]:
    packed = file.seek(0, io.SEEK_END)
    unpacked = 0
    archive = _tar(file)
    for info in archive:
        room.take(info.size)
        unpacked += info.size
        _require_ratio(unpacked, packed)
        if info.isdir():
            continue
        problem = "" if info.isreg() and not info.issparse() else "links and devices are left out"
        yield _Member(name=info.name, size=info.size, open=partial(archive.extractfile, info)), problem


def _tar(file: IO[bytes]) -> tarfile.TarFile:
    file.seek(0)
    return tarfile.open(fileobj=file, mode="r:*", errorlevel=2)


def _require_ratio(unpacked: int, packed: int) -> None:
    if unpacked > SMALL_BYTES and unpacked > MAX_RATIO * max(packed, 1):
        raise Refused(f"it would unpack to more than {MAX_RATIO} times its size")


def problem_of_name(name: str) -> str:
    """Why a member of this name has no path here, or nothing."""
    parts = name.removeprefix("./").split("/")
    if name.startswith("/") or "\\" in name or ".." in parts or parts[0].endswith(":"):
        return "names that lead outside are left out"
    if {"", "."} & set(parts) or len(name) > MAX_NAME_CHARS or any(ord(letter) < 32 for letter in name):
        return "names that are no paths are left out"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "names that are no text are left out"
    return ""
