"""Slots: a name in a folder beneath a root, held open, so that what stands there can be replaced at once.

New bytes go into a draft beside their target and take its name when they have reached the disk: a reader sees
the old file or the new one, and so does whoever looks after a power failure. The folder is held by descriptor,
so nothing that happens to the path above it leads elsewhere.

What this does not protect against: another program that writes to the same file at the very moment of the
replacement (what it had written until then is noticed, and refused), and what only the old file had besides its
content and mode: hard links, access control lists, extended attributes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from filesystem_retrieval.beneath import absent, opened
from filesystem_retrieval.patterns import DRAFT, IGNORE_FILES
from filesystem_retrieval.reading import read_all, sha256_of
from filesystem_retrieval.roots import Root
from usrland.errors import Conflict, Denied, InvalidInput, NotFound, Unavailable, UsrlandError

__all__ = ["Seen", "Slot", "slot"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ETXTBSY)
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EXDEV, errno.EMLINK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A file as it was read."""

    content: bytes
    status: os.stat_result

    @property
    def sha256(self) -> str:
        return sha256_of(self.content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A name in an open folder. `path` says where that is beneath the root, links resolved."""

    root: Root
    folder: int
    name: str
    path: str

    def read(self, most: int) -> Seen | None:
        """What stands here; `None` where nothing does.

        Raises `InvalidInput` for anything but a file of at most `most` bytes: what cannot be kept as a version
        is not replaced.
        """
        try:
            fd = os.open(self.name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self.folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _refusal(self.path, error) from error
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise InvalidInput(f"{self.path!r} is not a file.", fix="Choose another path.")
            content = read_all(fd, most)
        finally:
            os.close(fd)
        if content is None:
            raise InvalidInput(
                f"{self.path!r} is larger than {most} bytes.", fix="It is not changed by this server."
            )
        return Seen(content=content, status=status)

    def draft(self, name: str, content: bytes, like: Seen | None) -> None:
        """Write bytes under another name in the same folder, with the mode and owner of what was seen.

        They have reached the disk when this returns.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with self._told():
            fd = os.open(name, flags, 0o666 if like is None else 0o600, dir_fd=self.folder)
            try:
                left = memoryview(content)
                while left:
                    left = left[os.write(fd, left) :]
                if like is not None:
                    with suppress(PermissionError):
                        os.fchown(fd, like.status.st_uid, like.status.st_gid)
                    os.fchmod(fd, stat.S_IMODE(like.status.st_mode))
                os.fsync(fd)
            finally:
                os.close(fd)

    def put(self, draft: str, seen: Seen | None) -> None:
        """Give the draft this name; raises `Conflict` where there is not what was seen."""
        with self._told():
            if seen is None:
                _name(self.folder, draft, self.folder, self.name)
            else:
                self._require(seen)
                os.replace(draft, self.name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
            os.fsync(self.folder)

    def move_to(self, target: Slot, seen: Seen) -> None:
        """Give the file another name, which nothing may have."""
        with self._told():
            self._require(seen)
            _name(self.folder, self.name, target.folder, target.name)
            os.fsync(target.folder)
            os.fsync(self.folder)

    def remove(self, seen: Seen) -> None:
        with self._told():
            self._require(seen)
            os.unlink(self.name, dir_fd=self.folder)
            os.fsync(self.folder)

    def discard(self, draft: str) -> None:
        """Take a draft away, where there is one."""
        with suppress(OSError):
            os.unlink(draft, dir_fd=self.folder)

    def is_taken(self) -> bool:
        """Whether anything has this name."""
        try:
            os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except OSError:
            return False
        return True

    def is_same(self, other: Slot) -> bool:
        """Whether both names are of one file."""
        try:
            here = os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
            there = os.stat(other.name, dir_fd=other.folder, follow_symlinks=False)
        except OSError:
            return False
        return os.path.samestat(here, there)

    def _require(self, seen: Seen) -> None:
        now = os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        if _identity(now) != _identity(seen.status):
            raise Conflict(f"{self.path!r} was changed by somebody else just now; nothing was changed.")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say what the system's refusal means."""
        try:
            yield
        except FileExistsError as error:
            raise Conflict(f"{self.path!r} has appeared just now; nothing was changed.") from error
        except FileNotFoundError as error:
            raise Conflict(f"{self.path!r} or its folder has gone just now; nothing was changed.") from error
        except OSError as error:
            raise _refusal(self.path, error) from error


@contextmanager
def slot(root: Root, path: str, *, make_folders: bool = False) -> Iterator[Slot]:
    """The place of a file, there already or not.

    A path through links is followed as far as they stay beneath the root. Raises `Denied` for what is ignored
    there, `NotFound` for what no path can be or whose folder is missing.
    """
    if {"", ".", ".."} & set(path.split("/")) or not _is_name(path):
        raise absent(path)
    asked = path
    _permit(root, path, asked)
    with suppress(NotFound), root.open(path) as file:
        path = file.path
    above, _, name = path.rpartition("/")
    if make_folders:
        _make_folders(root, above, asked)
    with opened(root.folder, above, folder=True) as folder:
        path = f"{folder.path}/{name}" if folder.path else name
        _permit(root, path, asked)
        yield Slot(root=root, folder=folder.fd, name=name, path=path)


def _is_name(path: str) -> bool:
    try:
        return b"\0" not in path.encode()
    except UnicodeEncodeError:
        return False


def _permit(root: Root, path: str, asked: str, *, folder: bool = False) -> None:
    """Raise `Denied` for what is ignored; says what was asked for, not where a link led."""
    name = path.rpartition("/")[2]
    if name in IGNORE_FILES:
        raise Denied(f"{name} decides what may be seen here, so it cannot be changed.")
    if name.startswith(DRAFT) or root.hides(path, folder=folder):
        raise Denied(f"{asked!r} is ignored here, by {' or '.join(IGNORE_FILES)} or by the operator.")


def _make_folders(root: Root, path: str, asked: str) -> None:
    parts = path.split("/") if path else []
    for end in range(1, len(parts) + 1):
        above, here = "/".join(parts[: end - 1]), "/".join(parts[:end])
        try:
            with opened(root.folder, here, folder=True):
                continue
        except NotFound:
            _permit(root, here, asked, folder=True)
        with opened(root.folder, above, folder=True) as folder:
            _permit(root, f"{folder.path}/{parts[end - 1]}".lstrip("/"), asked, folder=True)
            try:
                os.mkdir(parts[end - 1], dir_fd=folder.fd)
                os.fsync(folder.fd)
            except FileExistsError as error:  # a file, or a link to nowhere
                raise InvalidInput(f"{here!r} is not a folder.", fix="Choose another path.") from error
            except OSError as error:
                raise _refusal(here, error) from error


def _name(source_folder: int, source: str, folder: int, name: str) -> None:
    """Rename without ever replacing anything: a second name first, then the first one goes."""
    try:
        os.link(source, name, src_dir_fd=source_folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        os.unlink(source, dir_fd=source_folder)
        return
    # a file system without links, or a file of somebody else's: there only the moment between these two is open
    with suppress(FileNotFoundError):
        os.stat(name, dir_fd=folder, follow_symlinks=False)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.rename(source, name, src_dir_fd=source_folder, dst_dir_fd=folder)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    # not the change time: a second name for the file would alter it
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _refusal(path: str, error: OSError) -> UsrlandError:
    if error.errno in _FULL:
        return Unavailable("the disk is full; nothing was changed.", fix="Ask the operator to make room.")
    if error.errno in _REFUSED:
        return Denied(f"the operating system does not let this server change {path!r}.")
    if error.errno == errno.ENAMETOOLONG:
        return InvalidInput(f"{path[:80]!r}… is too long for this disk.", fix="Choose a shorter name.")
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO):
        return InvalidInput(f"{path!r} is not a file.", fix="Choose another path.")
    return Unavailable(f"{path!r} cannot be changed now: {error.strerror}.")
