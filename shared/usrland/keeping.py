"""Looking over what a home keeps, copying it while servers run, and bringing a copy back.

What is true lies in SQL databases and in a few files of the operator's; what is derived from them is left out of
a copy and made anew. A database is copied as one state, a server's own before the log of its calls: of a write
that came meanwhile the log then says more than the data does, never less.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread

from usrland.connector import Service
from usrland.database import seals
from usrland.errors import Conflict, InvalidInput, NotFound, UsrlandError
from usrland.ledger import Ledger
from usrland.settings import Settings

__all__ = ["Problem", "back_up", "changed_files", "check", "copies", "restore"]

MANIFEST = "manifest.json"
COPIES = "copies.jsonl"
"""In a home: where copies of it were put, for whoever erases something later."""
_TEMPORARY = ("run", ".locks")
_LOCKS = (".lock", ".sqlite-wal", ".sqlite-shm", ".sqlite-journal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that is not as it was written."""

    place: str
    fact: str


async def check(settings: Settings, service: Service, *, read_data: bool) -> AsyncIterator[Problem]:
    """Look one server's data over. With `read_data` every stored byte is read and held against its hash."""
    folder = settings.home / service.name
    for file in sorted(folder.rglob("*.sqlite")) if folder.is_dir() else ():
        for fact in await anyio.to_thread.run_sync(_damage, file, read_data):
            yield Problem(place=str(file.relative_to(settings.home)), fact=fact)
    url = Ledger.url(settings, service.name)
    if _is_there(url):
        ledger = Ledger.open(url, chain=service.name, key=b"")
        try:
            for fact in (await ledger.audit.verify()).problems:
                yield Problem(place=f"{service.name}: log of calls", fact=fact)
        except UsrlandError as error:
            yield Problem(place=f"{service.name}: log of calls", fact=error.fact)
        except Exception as error:  # a damaged database fails in as many ways as there are bits
            yield Problem(place=f"{service.name}: log of calls", fact=f"cannot be read: {type(error).__name__}")
        finally:
            ledger.database.close()
    if service.keeping is not None:
        try:
            for fact in await service.keeping.check(read_data):
                yield Problem(place=service.name, fact=fact)
        except Exception as error:
            yield Problem(place=service.name, fact=f"its data cannot be read: {type(error).__name__}: {error}")


def _is_there(url: str) -> bool:
    file = url.removeprefix("sqlite:///")
    return file == url or Path(file).exists()


def _damage(file: Path, read_data: bool) -> list[str]:
    pragma = "integrity_check" if read_data else "quick_check"
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as connection:
            rows = [str(row[0]) for row in connection.execute(f"PRAGMA {pragma}(20)")]
            found = [row for row in rows if row != "ok"]
            return [*found, *(seals.broken(connection) if read_data else ())]
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return [str(error)]


# -- copies


def back_up(settings: Settings, services: Sequence[Service], target: Path) -> Mapping[str, Any]:
    """Copy everything that is true into a new folder; the manifest, with the hash of every file.

    Raises `Conflict` where the folder is there already.
    """
    if target.exists():
        raise Conflict(f"{target} is there already.", fix="Name a folder that is not.")
    for name in ("audit", "calls"):
        settings.key(name)  # made now if nobody needed it yet: what is signed later must fit the copy
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    draft.mkdir(parents=True, mode=0o700)
    try:
        for file in _true_files(settings.home, services):
            copy = draft / file.relative_to(settings.home)
            copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _copy(file, copy)
        manifest = {
            "format": 1,
            "made_at": int(time.time()),
            "elsewhere": sorted(_elsewhere(settings, services)),
            "files": {
                str(file.relative_to(draft)): {"sha256": _sha256(file), "bytes": file.stat().st_size}
                for file in sorted(draft.rglob("*"))
                if file.is_file()
            },
        }
        text = json.dumps(manifest, indent=2)
        (draft / MANIFEST).write_text(text, encoding="utf-8")
        for file in (*draft.rglob("*"), draft):
            _sync(file)
        with (settings.home / COPIES).open("a", encoding="utf-8") as known:
            known.write(json.dumps({"path": str(target.resolve()), "made_at": manifest["made_at"]}) + "\n")
        draft.rename(target)
        _sync(target.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return manifest


def copies(home: Path, since: float) -> list[str]:
    """Copies of this home that were made since then and are where they were put."""
    try:
        lines = (home / COPIES).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    known = {found["path"] for found in map(json.loads, lines) if found["made_at"] >= int(since)}
    return sorted(path for path in known if (Path(path) / MANIFEST).is_file())


def _true_files(home: Path, services: Sequence[Service]) -> Iterator[Path]:
    """Everything but what is derived; the logs of calls last."""
    derived = {
        home / service.name / name
        for service in services
        if service.keeping is not None
        for name in service.keeping.derived
    }
    found = [
        file
        for file in sorted(home.rglob("*"))
        if file.is_file()
        and not file.is_symlink()
        and not file.name.endswith(_LOCKS)
        and not derived.intersection([file, *file.parents])
        and file.relative_to(home).parts[0] not in _TEMPORARY
    ]
    yield from sorted(found, key=lambda file: file.name == "calls.sqlite")


def _elsewhere(settings: Settings, services: Sequence[Service]) -> Iterator[str]:
    """Databases that are no file of this home: whoever runs them backs them up."""
    for service in services:
        if not Ledger.url(settings, service.name).startswith("sqlite"):
            yield f"{service.name}: log of calls"
        if settings.tables.get(service.name, {}).get("database"):
            yield f"{service.name}: data"


def _copy(source: Path, target: Path) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.close(descriptor)
    if source.suffix != ".sqlite":
        shutil.copyfile(source, target)
        return
    with (
        closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=30)) as here,
        closing(sqlite3.connect(target)) as there,
    ):
        here.backup(there)
        there.execute("PRAGMA journal_mode=DELETE")


def changed_files(copy: Path) -> list[Problem]:
    """What of a copy is not as it was made. Raises `NotFound` or `InvalidInput` where it is none."""
    files = _manifest(copy)["files"]
    problems = [
        Problem(place=name, fact="is missing" if not (copy / name).is_file() else "was changed")
        for name, facts in files.items()
        if not (copy / name).is_file() or _sha256(copy / name) != facts["sha256"]
    ]
    known = {*files, MANIFEST}
    more = (str(file.relative_to(copy)) for file in copy.rglob("*") if file.is_file())
    return problems + [Problem(place=name, fact="was put in") for name in sorted(more) if name not in known]


def restore(copy: Path, home: Path) -> int:
    """Bring a copy back as a home that is not there yet, every file held against its hash first; how many.

    Raises `Conflict` where there is a home, and `InvalidInput` where the copy is not what was made.
    """
    if home.exists() and any(home.iterdir()):
        raise Conflict(f"{home} is not empty.", fix="Move it away, or set USRLAND_HOME to a new folder.")
    if problems := changed_files(copy):
        raise InvalidInput(
            f"{problems[0].place} {problems[0].fact}; nothing was restored.", fix="Use another copy."
        )
    draft = home.with_name(f".{home.name}.{os.getpid()}")
    names = list(_manifest(copy)["files"])
    for name in names:
        target = draft / name
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copyfile(copy / name, target)
        target.chmod(0o600)
        _sync(target)
    if home.exists():
        home.rmdir()
    draft.chmod(0o700)
    draft.rename(home)
    return len(names)


def _manifest(copy: Path) -> Mapping[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))
        safe = all(not Path(name).is_absolute() and ".." not in Path(name).parts for name in manifest["files"])
    except FileNotFoundError:
        raise NotFound(f"there is no copy in {copy}.", fix="Make one with: usrland backup FOLDER") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{copy / MANIFEST} is damaged.", fix="Use another copy.") from error
    if not safe:
        raise InvalidInput(f"{copy / MANIFEST} names files outside of it.", fix="Use another copy.")
    return manifest


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
