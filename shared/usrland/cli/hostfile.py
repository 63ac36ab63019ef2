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
from typing import Any

from usrland.cli import jsontext
from usrland.errors import Conflict, InvalidInput, NotFound, Unavailable

__all__ = ["Change", "fragment", "plan", "read", "undo", "write"]

_BOM = "\ufeff"
_MARK = ".usrland-"
_ABSENT = "-absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What would be written. `before` is `None` where there is no file yet."""

    path: Path
    before: bytes | None
    after: bytes

    def __bool__(self) -> bool:
        return (self.before or b"") != self.after

    def diff(self) -> str:
        """A unified diff, for a person."""
        lines = difflib.unified_diff(
            (self.before or b"").decode("utf-8-sig").splitlines(keepends=True),
            self.after.decode("utf-8-sig").splitlines(keepends=True),
            fromfile=str(self.path) if self.before is not None else os.devnull,
            tofile=str(self.path),
        )
        return "".join(
            line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
        )


def read(path: Path) -> dict[str, Any]:
    """What the file says now; nothing where it is missing. Raises `InvalidInput` where it is broken."""
    return _parse(path, _decode(path, _bytes(path)))


def fragment(servers_key: str, entries: Mapping[str, Mapping[str, Any]]) -> str:
    """A file with these entries and nothing else, for a person to copy from."""
    text = ""
    for name, entry in entries.items():
        text = jsontext.set_value(text, (servers_key, name), entry)
    return text


def plan(path: Path, servers_key: str, entries: Mapping[str, Mapping[str, Any] | None]) -> Change:
    """The change that sets each entry, or takes out where it is `None`. Writes nothing.

    Raises `InvalidInput` where the file is broken: repairing a person's file by guess would lose something.
    """
    path = path.resolve()  # a link to a file kept elsewhere stays a link
    before = _bytes(path)
    text = _decode(path, before)
    expected = _parse(path, text)
    servers = expected.get(servers_key, {})
    if not isinstance(servers, dict):
        raise InvalidInput(
            f"{path}: {servers_key!r} holds no object.", fix="Correct the file; nothing was changed."
        )
    for name, entry in entries.items():
        if entry is not None:
            text = jsontext.set_value(text, (servers_key, name), entry)
            expected.setdefault(servers_key, {})[name] = dict(entry)
        elif name in servers:
            text = jsontext.remove(text, (servers_key, name))
            del expected[servers_key][name]
    if _parse(path, text) != expected:
        raise AssertionError(f"the edit of {path} would have changed something else")
    bom = _BOM if before is not None and before.startswith(_BOM.encode()) else ""
    return Change(path=path, before=before, after=(bom + text).encode())


def write(change: Change, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Path:
    """Make the change; returns the backup.

    Raises `Conflict` where the file is not what the change was planned from: the host writes it too.
    """
    change.path.parent.mkdir(parents=True, exist_ok=True)
    backup = _keep(change, now())
    if _bytes(change.path) != change.before:
        backup.unlink()
        raise Conflict(f"{change.path} was changed by another program just now.", fix="Run the command again.")
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
    backups = sorted(path.parent.glob(f"{_escape(path.name)}{_MARK}*")) if path.parent.is_dir() else []
    if not backups:
        raise NotFound(f"there is no backup of {path}.", fix="`usrland disconnect` takes our own entries out.")
    newest = backups[-1]
    written = newest.name.removesuffix(_ABSENT).rpartition("-")[2]
    if _digest(_bytes(path)) != written:
        raise Conflict(
            f"{path} was changed after usrland wrote it; the old content would take that change back.",
            fix=f"`usrland disconnect` takes only our own entries out. The old content is in {newest}.",
        )
    _restore(path, newest)
    newest.unlink()
    return newest


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


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return jsontext.parse(text)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error.fact}", fix="Correct the file; nothing was changed.") from error


def _digest(content: bytes | None) -> str:
    return hashlib.sha256(content or b"").hexdigest()[:12]


def _escape(name: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)
