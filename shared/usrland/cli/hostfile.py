"""One host's configuration file: planned, shown, backed up, replaced, read back, restored.

The file is somebody else's. So: a change is computed from the bytes on the disk and made only while those
are still there; what was there before stays beside it, byte for byte; and a change that cannot be read back
is taken back.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from usrland.cli.host import Format
from usrland.errors import Conflict, InvalidInput, NotFound, Unavailable

__all__ = ["Change", "fragment", "plan", "read", "undo", "write"]

_BOM = "\ufeff"
_MARK = ".usrland-"
_ABSENT = "-absent"


class Kept(Protocol):
    """How a file of a host is read: a `Host`'s own, or one of hooks."""

    @property
    def format(self) -> Format: ...
    @property
    def container(self) -> str: ...
    @property
    def new_file(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What would be written. `None` stands for no file."""

    path: Path
    before: bytes | None
    after: bytes | None

    def __bool__(self) -> bool:
        return (self.before or b"") != (self.after or b"")

    def diff(self) -> str:
        """A unified diff, for a person."""
        lines = difflib.unified_diff(
            (self.before or b"").decode("utf-8-sig").splitlines(keepends=True),
            (self.after or b"").decode("utf-8-sig").splitlines(keepends=True),
            fromfile=os.devnull if self.before is None else str(self.path),
            tofile=os.devnull if self.after is None else str(self.path),
        )
        return "".join(
            line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """What a file says: the entries of the host's container, and all else."""

    entries: dict[str, Any]
    rest: dict[str, Any]


def read(path: Path, host: Kept) -> dict[str, Any]:
    """The host's entries by name; none where there is no file. Raises `InvalidInput` where it is broken."""
    return _understand(path, host, _decode(path, _bytes(path))).entries


def fragment(host: Kept, entries: Mapping[str, dict[str, Any]]) -> str:
    """A file with these entries and nothing else, for a person to copy from."""
    text = ""
    for name, entry in entries.items():
        text = host.format.put(text, host.container, name, entry)
    return text


def plan(path: Path, host: Kept, entries: Mapping[str, Any], *, removing: bool = False) -> Change:
    """The change that sets each entry, or takes out where it is `None`. Writes nothing.

    What takes out, or is `removing` what we once added, brings back the very bytes of before where it can.

    Raises `InvalidInput` where the file is broken, or written in a way that cannot be changed without touching
    the rest: repairing a person's file by guess would lose something.
    """
    path = path.resolve()  # a link to a file kept elsewhere stays a link
    before = _bytes(path)
    text = host.new_file if before is None else _decode(path, before)
    wanted = _understand(path, host, text)
    for name, entry in entries.items():
        if entry is not None:
            text = host.format.put(text, host.container, name, entry)
            wanted.entries[name] = entry
        elif name in wanted.entries:
            text = host.format.remove(text, host.container, name)
            del wanted.entries[name]
    if not _says(path, host, text, wanted):
        raise InvalidInput(
            f"{path} writes {host.container!r} in a way that cannot be changed in one place.",
            fix="Nothing was changed. Change it by hand, as the host's own documentation says.",
        )
    bom = _BOM if before is not None and before.startswith(_BOM.encode()) else ""
    after: bytes | None = (bom + text).encode()
    if removing or None in entries.values():
        after = _as_it_was(path, host, before, wanted, after)
    return Change(path=path, before=before, after=after)


def _as_it_was(
    path: Path, host: Kept, now: bytes | None, wanted: _Content, otherwise: bytes | None
) -> bytes | None:
    """What was there before we wrote, byte for byte, where it says the same and nobody else has written since."""
    for backup in reversed(_backups(path)):
        if _digest(now) != _written(backup):
            break
        now = None if backup.name.endswith(_ABSENT) else backup.read_bytes()
        if _says(path, host, host.new_file if now is None else _decode(path, now), wanted):
            return now
    return otherwise


def _understand(path: Path, host: Kept, text: str) -> _Content:
    try:
        content = host.format.parse(text)
        entries = host.format.entries(content, host.container)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error.fact}", fix="Correct the file; nothing was changed.") from error
    return _Content(
        entries=dict(entries), rest={key: value for key, value in content.items() if key != host.container}
    )


def _says(path: Path, host: Kept, text: str, wanted: _Content) -> bool:
    try:
        return _understand(path, host, text) == wanted
    except InvalidInput:
        return False


def write(change: Change, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Path:
    """Make the change; returns the backup.

    Raises `Conflict` where the file is not what the change was planned from: the host writes it too.
    """
    change.path.parent.mkdir(parents=True, exist_ok=True)
    backup = _keep(change, now())
    if _bytes(change.path) != change.before:
        backup.unlink()
        raise Conflict(f"{change.path} was changed by another program just now.", fix="Run the command again.")
    if change.after is None:
        change.path.unlink()
        return backup
    _replace(change.path, change.after)
    if _bytes(change.path) != change.after:
        _restore(change.path, backup)
        raise Unavailable(f"{change.path} does not read back as it was written; the old one is in place again.")
    return backup


def undo(path: Path) -> Path:
    """Put back what was there before our last change, byte for byte; returns the backup that was used up.

    Raises `NotFound` without a backup, `Conflict` where somebody has changed the file since.
    """
    path = path.resolve()
    backups = _backups(path)
    if not backups:
        raise NotFound(f"there is no backup of {path}.", fix="`usrland disconnect` takes our own entries out.")
    newest = backups[-1]
    if _digest(_bytes(path)) != _written(newest):
        raise Conflict(
            f"{path} was changed after usrland wrote it; the old content would take that change back.",
            fix=f"`usrland disconnect` takes only our own entries out. The old content is in {newest}.",
        )
    _restore(path, newest)
    newest.unlink()
    return newest


def _backups(path: Path) -> list[Path]:
    """Of this file, oldest first."""
    return sorted(path.parent.glob(f"{_escape(path.name)}{_MARK}*")) if path.parent.is_dir() else []


def _written(backup: Path) -> str:
    """The digest of what we wrote over it."""
    return backup.name.removesuffix(_ABSENT).rpartition("-")[2]


def _keep(change: Change, at: datetime) -> Path:
    """The backup's name holds the time and what we wrote over it, so that `undo` knows its own work."""
    stamp = at.strftime("%Y%m%dT%H%M%S.%fZ")
    absent = _ABSENT if change.before is None else ""
    backup = change.path.with_name(f"{change.path.name}{_MARK}{stamp}-{_digest(change.after)}{absent}")
    # the file may hold other servers' secrets: its copy is for its owner only
    with os.fdopen(os.open(backup, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(change.before or b"")
        file.flush()
        os.fsync(file.fileno())
    return backup


def _restore(path: Path, backup: Path) -> None:
    if backup.name.endswith(_ABSENT):
        path.unlink()
    else:
        _replace(path, backup.read_bytes())


def _replace(path: Path, content: bytes) -> None:
    """All of it or nothing, with the permissions the file had; a new one is for its owner only."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            temporary.chmod(path.stat().st_mode & 0o7777)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise Unavailable(f"{path} cannot be written: {error.strerror}.", fix="Check its permissions.") from error


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}.", fix="Check its permissions.") from error


def _decode(path: Path, content: bytes | None) -> str:
    try:
        return (content or b"").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 text.", fix="Correct the file; nothing was changed.") from error


def _digest(content: bytes | None) -> str:
    return hashlib.sha256(content or b"").hexdigest()[:12]


def _escape(name: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)
