"""Looking over what a home keeps, copying it while servers run, and bringing a copy back.

What is true lies in SQL databases and in a few files of the operator's; what is derived from them is left out of
a copy and made anew. A database is copied as one state, a server's own before the log of its calls: of a write
that came meanwhile the log then says more than the data does, never less.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio.to_thread

from usrland.connector import Service
from usrland.database import seals
from usrland.durable import sync
from usrland.errors import Conflict, InvalidInput, NotFound, Unavailable, UsrlandError
from usrland.ledger import Ledger
from usrland.settings import Settings

__all__ = ["Draft", "Problem", "Reworked", "back_up", "changed_files", "check", "copies", "restore", "rework"]

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
COPIES = "copies.jsonl"
"""In a home: where copies of it were put, for whoever erases something later."""
_LOCK_SECONDS = 120
"""How long one that makes or changes copies of a home waits for another."""
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
    with _alone(settings.home):  # an erasure meanwhile waits, and reaches this copy, too
        return _back_up(settings, services, target)


def _back_up(settings: Settings, services: Sequence[Service], target: Path) -> Mapping[str, Any]:
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
                str(file.relative_to(draft)): _facts(file) for file in sorted(draft.rglob("*")) if file.is_file()
            },
        }
        text = json.dumps(manifest, indent=2)
        (draft / MANIFEST).write_text(text, encoding="utf-8")
        for file in (*draft.rglob("*"), draft):
            sync(file)
        with (settings.home / COPIES).open("a", encoding="utf-8") as known:
            known.write(json.dumps({"path": str(target.resolve()), "made_at": manifest["made_at"]}) + "\n")
        draft.rename(target)
        sync(target.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return manifest


def copies(home: Path, since: float) -> list[str]:
    """Copies of this home that were made since then and are where they were put."""
    return sorted(_known(home, since))


def _known(home: Path, since: float) -> dict[str, int]:
    """The copies, and when each was made."""
    try:
        lines = (home / COPIES).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    made = {found["path"]: int(found["made_at"]) for found in map(json.loads, lines)}
    return {path: at for path, at in made.items() if at >= int(since) and (Path(path) / MANIFEST).is_file()}


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Be the only one that makes or changes copies of this home."""
    from filelock import FileLock, Timeout

    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = FileLock(home / "copies.lock", timeout=_LOCK_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise Unavailable("copies of this home are made or changed by another process.") from None
    try:
        yield
    finally:
        lock.release()


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


# -- copies that have to follow an erasure


@dataclass(frozen=True, slots=True)
class Draft:
    """Where one copy is changed: beside it, so that it stays what it is until all of the change is there."""

    home: Path
    copy: Path
    folder: Path
    taken: set[Path] = field(default_factory=set)

    def take(self, path: Path) -> Path | None:
        """What the copy has of this file or folder of the home, to be changed; None where it has nothing."""
        path, home = path.resolve(), self.home.resolve()
        if not path.is_relative_to(home) or not (self.copy / path.relative_to(home)).exists():
            return None
        name = path.relative_to(home)
        source, target = self.copy / name, self.folder / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if source.is_dir():
                shutil.copytree(source, target)
            else:
                shutil.copyfile(source, target)
        self.taken.add(name)
        return target


@dataclass(frozen=True, slots=True)
class Reworked:
    """`done`: copies that `work` said are whole; `left`: known, and not so."""

    done: Sequence[str]
    left: Sequence[str]


def rework(home: Path, since: float, work: Callable[[Draft], bool]) -> Reworked:
    """Change every copy that was made since then and fits its manifest, and write that anew.

    What `work` takes into the draft is put back when it is through; it says whether nothing is missing. A copy for
    which it fails stays as it was. One that a crash met while files were put back fits its manifest no more: it is
    left from then on, and named each time. Raises `Unavailable` where another process is at the copies.
    """
    done: list[str] = []
    left: list[str] = []
    with _alone(home):
        for path, made_at in sorted(_known(home, since).items()):
            try:
                whole = _rework(home, Path(path), made_at, work)
            except Exception as error:  # whatever is wrong with one copy: it is named, and the next one is tried
                logger.warning("%s could not be changed: %s: %s", path, type(error).__name__, error)
                whole = False
            (done if whole else left).append(path)
    return Reworked(done, left)


def _rework(home: Path, copy: Path, made_at: int, work: Callable[[Draft], bool]) -> bool:
    manifest = _manifest(copy)
    if manifest["made_at"] != made_at or changed_files(copy):
        raise Conflict("it is not what was put there.")
    folder = copy.with_name(f".{copy.name}.draft")
    if folder.exists():
        shutil.rmtree(folder)  # of one that was killed
    folder.mkdir(mode=0o700)
    try:
        draft = Draft(home, copy, folder)
        whole = work(draft)
        _put_back(draft, manifest)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return whole


def _put_back(draft: Draft, manifest: Mapping[str, Any]) -> None:
    """Have the changed files take the place of those in the copy, and then the manifest that fits them."""
    files = dict(manifest["files"])
    changed, gone = [], []
    for name in manifest["files"]:
        if draft.taken.isdisjoint([Path(name), *Path(name).parents]):
            continue
        file = draft.folder / name
        if not file.exists():
            gone.append(name)
            del files[name]
            continue
        if file.suffix == ".sqlite":
            with closing(sqlite3.connect(file)) as connection:
                connection.execute("PRAGMA journal_mode=DELETE")
        if (facts := _facts(file)) != files[name]:
            changed.append(name)
            files[name] = facts
            file.chmod(0o600)
            sync(file)
    text = json.dumps({**manifest, "files": files}, indent=2)
    (draft.folder / MANIFEST).write_text(text, encoding="utf-8")
    sync(draft.folder / MANIFEST)
    for name in changed:
        (draft.folder / name).replace(draft.copy / name)
    for name in gone:
        (draft.copy / name).unlink()
    (draft.folder / MANIFEST).replace(draft.copy / MANIFEST)
    for folder in {(draft.copy / name).parent for name in (*changed, *gone, MANIFEST)}:
        sync(folder)


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
        sync(target)
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


def _facts(file: Path) -> dict[str, Any]:
    return {"sha256": _sha256(file), "bytes": file.stat().st_size}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
