"""What is packed, looked over before it is unpacked: ZIP and TAR, and the documents that are ZIP files.

Runs in the parser's process. Nothing is ever written to a disk, so a member's name can lead nowhere; it is still
refused where it would, since it becomes a path that callers use.
"""

from __future__ import annotations

import io
import json
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

__all__ = ["Refused", "answer_about", "look_over", "problem_of_name"]

MAX_MEMBERS = 10_000
MAX_BYTES = 200 << 20
"""Of all members together, unpacked."""
MAX_RATIO = 200
"""Unpacked to packed, of what is larger than this:"""
SMALL_BYTES = 1 << 20
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
    handle: zipfile.ZipInfo | tarfile.TarInfo


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
        members, problems = _members(file)
        if not wanted:
            listed = [[member.name, member.size] for member in members.values()]
            out.write(json.dumps({"members": listed, "problems": problems}).encode() + b"\n")
            return
        contents = dict(_contents(file, [members[name] for name in wanted if name in members]))
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


def _members(file: IO[bytes]) -> tuple[dict[str, _Member], list[str]]:
    """The files in an archive by their names, and why others are left out."""
    handles = _zipped(file) if zipfile.is_zipfile(file) else _tarred(file)
    members: dict[str, _Member] = {}
    problems: list[str] = []
    for name, size, handle, problem in handles:
        problem = problem or problem_of_name(name)
        if problem:
            problems.append(problem)
        elif handle is not None:
            members[name] = _Member(name=name, size=size, handle=handle)
    folders = {name[:at] for name in members for at, letter in enumerate(name) if letter == "/"}
    for name in folders & members.keys():  # one name cannot be both
        del members[name]
        problems.append("a file has the name of a folder")
    return members, [f"{problem} ({problems.count(problem)})" for problem in dict.fromkeys(problems)][
        :MAX_PROBLEMS
    ]


_Found = tuple[str, int, "zipfile.ZipInfo | tarfile.TarInfo | None", str]


def _zipped(file: IO[bytes]) -> Iterator[_Found]:
    for info in look_over(file):
        if info.is_dir():
            continue
        kind = info.external_attr >> 28
        if info.flag_bits & _ENCRYPTED:
            yield info.filename, 0, None, "members with a password are left out"
        elif kind not in (0, 0o10):  # what its maker says it was: nothing, or a regular file
            yield info.filename, 0, None, "links and devices are left out"
        else:
            yield info.orig_filename, info.file_size, info, ""


def _tarred(file: IO[bytes]) -> Iterator[_Found]:
    packed = file.seek(0, io.SEEK_END)
    unpacked = count = 0
    for info in _tar(file):
        count += 1
        unpacked += info.size
        if count > MAX_MEMBERS:
            raise Refused(f"it has more than {MAX_MEMBERS} members")
        if unpacked > MAX_BYTES:
            raise Refused(f"it would unpack to more than {MAX_BYTES >> 20} MB")
        _require_ratio(unpacked, packed)
        if info.isdir():
            continue
        if not info.isreg() or info.issparse():
            yield info.name, 0, None, "links and devices are left out"
        else:
            yield info.name, info.size, info, ""


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


def _contents(file: IO[bytes], members: Sequence[_Member]) -> Iterator[tuple[str, bytes | None]]:
    """Their bytes; `None` for a member that is damaged or larger than it said."""
    file.seek(0)
    archive = zipfile.ZipFile(file) if zipfile.is_zipfile(file) else _tar(file)
    for member in members:
        try:
            if isinstance(archive, zipfile.ZipFile):
                assert isinstance(member.handle, zipfile.ZipInfo)
                stream: IO[bytes] | None = archive.open(member.handle)
            else:
                assert isinstance(member.handle, tarfile.TarInfo)
                stream = archive.extractfile(member.handle)
            content = stream.read(member.size + 1) if stream is not None else b""
        except _BROKEN:
            yield member.name, None
            continue
        yield member.name, content if len(content) == member.size else None
