"""Open what stands beneath a folder, and nothing else.

Containment is decided by the kernel while it opens, never by comparing path strings: a string that was checked
can mean another file a moment later. Linux is asked in one call (`openat2` with `RESOLVE_BENEATH`), which follows
symbolic links as long as they stay inside; elsewhere the path is walked component by component and no link is
followed at all. Callers read the descriptor they were given and never open the path again.

What this does not protect against: hard links (a file has no inside or outside), other file systems mounted
beneath the folder, a root folder that is itself replaced, and whoever may write into the folder choosing what
stands in it. Windows has none of these calls; there nothing is opened.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from usrland.errors import NotFound, Unavailable

__all__ = ["CLOCK_TICK_NS", "Opened", "Signature", "absent", "opened"]

_SYS_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_BENEATH_NO_MAGICLINKS = 0x08 | 0x02
_RACES = 16
"""How often to repeat when there was a rename on the way; each repetition is safe."""
_DELETED = " (deleted)"
MAX_PATH_CHARS = 4_096
CLOCK_TICK_NS = 2_000_000_000
"""What changed so shortly before it was read may change again without its times telling."""

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What changes when a file's content does: cheap to compare, without reading."""

    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Signature:
        return cls(size=status.st_size, mtime_ns=status.st_mtime_ns, ctime_ns=status.st_ctime_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An open file or folder. `path` is where it really stands beneath the root, links resolved."""

    fd: int
    path: str
    status: os.stat_result

    @property
    def signature(self) -> Signature:
        return Signature.of(self.status)


def absent(path: str) -> NotFound:
    """The one answer for what is not there, what may not be seen, and what no path can be.

    A way up is told by how it is written, whatever it leads to.
    """
    up = ".." in path.split("/")
    return NotFound(
        "no path leads upwards by '..' here." if up else f"there is no {path!r} here.",
        fix="Paths are relative to a root, with '/' between folders; fs_list shows what there is.",
    )


@contextmanager
def opened(root: Path, path: str, *, folder: bool = False) -> Iterator[Opened]:
    """Open a regular file, or a folder, at `path` beneath `root`; raises `NotFound` for everything else.

    A pipe, a socket or a device is not opened for longer than it takes to see what it is.
    """
    if "\0" in path or len(path) > MAX_PATH_CHARS or path.startswith("/") or (path.endswith("/") and not folder):
        raise absent(path)  # before any C call: those stop reading at NUL
    if not hasattr(os, "O_NOFOLLOW"):
        raise Unavailable("folders cannot be opened safely on this system.", fix="Use Linux or macOS.")
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | (os.O_DIRECTORY if folder else 0)
    try:
        top = os.open(root, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    except OSError as error:
        raise absent(path) from error
    try:
        for _ in range(_RACES):
            fd = _open(top, path or ".", flags)
            try:
                status = os.fstat(fd)
                if not (stat.S_ISDIR if folder else stat.S_ISREG)(status.st_mode):
                    raise absent(path)
                real = _real_path(top, fd, path)
                if not _was_replaced(top, real, status):
                    yield Opened(fd=fd, path=real, status=status)
                    return
            finally:
                os.close(fd)
        raise Unavailable(f"{path!r} is being replaced over and over.")
    finally:
        os.close(top)


def _open(top: int, path: str, flags: int) -> int:
    try:
        fd = _openat2(_libc, top, path, flags) if _libc is not None else None
        return _walk(top, path, flags) if fd is None else fd
    except (OSError, UnicodeEncodeError) as error:
        raise absent(path) from error


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def _openat2(libc: ctypes.CDLL, top: int, path: str, flags: int) -> int | None:
    """A descriptor, or `None` where the kernel (or a sandbox around it) does not know the call."""
    how = _OpenHow(flags=flags, mode=0, resolve=_RESOLVE_BENEATH_NO_MAGICLINKS)
    name = os.fsencode(path)
    for _ in range(_RACES):
        fd = libc.syscall(_SYS_OPENAT2, top, name, ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return int(fd)
        number = ctypes.get_errno()
        if number in (errno.ENOSYS, errno.EPERM):
            return None
        if number not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(number, os.strerror(number))


def _walk(top: int, path: str, flags: int) -> int:
    """Component by component; a link or a `..` anywhere ends it."""
    *folders, name = [part for part in path.split("/") if part not in ("", ".")] or ["."]
    if ".." in (*folders, name):
        raise OSError(errno.EXDEV, "not beneath")
    here = os.dup(top)
    try:
        for part in folders:
            below = os.open(part, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = below
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=here)
    finally:
        os.close(here)


def _was_replaced(top: int, real: str, status: os.stat_result) -> bool:
    """Whether another file took this one's place just now, which Linux tells by an ending of the path."""
    if not real.endswith(_DELETED):
        return False
    with suppress(OSError):
        there = os.stat(real, dir_fd=top, follow_symlinks=False)
        return (there.st_dev, there.st_ino) != (status.st_dev, status.st_ino)
    return True


def _real_path(top: int, fd: int, path: str) -> str:
    with suppress(OSError):
        # not pathlib: that would be half the cost of opening a file
        root, real = (os.readlink(f"/proc/self/fd/{number}") for number in (top, fd))  # noqa: PTH115
        if real == root:
            return ""
        if real.startswith(root.rstrip("/") + "/"):
            return real[len(root.rstrip("/")) + 1 :]
    # no /proc: then `_walk` opened it, which follows no links
    return "/".join(part for part in path.split("/") if part not in ("", "."))
