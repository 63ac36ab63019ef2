"""A change happens or does not, whenever the process dies; and every version keeps what it was."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from filesystem_retrieval.catalogue import MIGRATIONS
from filesystem_retrieval.changes import Changes
from filesystem_retrieval.differences import line_counts
from filesystem_retrieval.patterns import Rules, compiled
from filesystem_retrieval.reading import sha256_of
from filesystem_retrieval.roots import Root
from filesystem_retrieval.slots import Slot
from filesystem_retrieval.versions import Version, Versions, bytes_of, latest
from usrland.connector import Call
from usrland.database import Database
from usrland.database.seals import register
from usrland.errors import Conflict, NotFound, Unavailable
from usrland.schemas.principal import Principal

CALL = Call(id="c", principal=Principal(subject="t"), operation="fs_write")


class Killed(BaseException):
    """The process ends here: nothing after it runs, and nobody handles it."""


class Home:
    """Changes in one folder, with what they remember."""

    def __init__(self, top: Path) -> None:
        self.folder = top / "docs"
        self.folder.mkdir(exist_ok=True)
        self.root = Root(name="docs", folder=self.folder, tenant="local", rules=Rules(compiled([])), writable=True)
        self.database = Database(f"sqlite:///{top}/catalogue.sqlite", [MIGRATIONS])
        self.versions = Versions(self.database)
        self.changes = Changes([self.root], self.versions, top / "lock", max_bytes=1000)

    def put(self, path: str, content: bytes | None) -> int | None:
        return self.changes.put(self.root, path, "written", CALL, lambda _path, _seen: content).version

    def move(self, path: str, target: str) -> int | None:
        return self.changes.move(self.root, path, target, "moved", CALL).version

    def kept(self, version: int) -> tuple[str, bytes | None]:
        found = self.database.read_now(lambda session: session.get(Version, version))
        assert found is not None
        content = self.database.read_now(lambda session: bytes_of(session, found.root, found.sha256))
        return found.path, content

    def last(self, path: str) -> Version | None:
        return self.database.read_now(lambda session: latest(session, self.root.key_of(path), [path])).get(path)

    def disk(self) -> dict[str, bytes]:
        files = (file for file in self.folder.rglob("*") if file.is_file())
        return {str(file.relative_to(self.folder)): file.read_bytes() for file in files}


@pytest.mark.parametrize("step", ["begin", "draft", "put", "move_to", "remove", "finish", "drop"])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("change", ["make", "replace", "remove", "move"])
def test_killed_at_any_step_it_has_happened_or_it_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, after: bool, change: str
) -> None:
    home = Home(tmp_path)
    home.put("a.md", b"old")
    before = home.disk()
    owner: Any = Versions if step in ("begin", "finish", "drop") else Slot
    method = getattr(owner, step)

    def dies(*arguments: Any, **named: Any) -> Any:
        if after:
            method(*arguments, **named)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, dies)
        try:
            match change:
                case "make":
                    home.put("sub/b.md", b"new")
                case "replace":
                    home.put("a.md", b"new")
                case "remove":
                    home.put("a.md", None)
                case _:
                    home.move("a.md", "sub/c.md")
        except Killed:
            pass

    again = Home(tmp_path)
    again.changes.settle()

    changed = {
        "make": {"a.md": b"old", "sub/b.md": b"new"},
        "replace": {"a.md": b"new"},
        "remove": {},
        "move": {"sub/c.md": b"old"},
    }[change]
    assert again.disk() in (before, changed)
    for path in ("a.md", "sub/b.md", "sub/c.md"):
        content, version = again.disk().get(path), again.last(path)
        assert (version.sha256 if version else "") == (sha256_of(content) if content is not None else "")
    assert list(again.versions.unfinished()) == []


def test_killed_between_the_two_names_of_a_moved_file_the_old_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    home.put("a.md", b"old")
    with monkeypatch.context() as patch:

        def dies(*_: Any, **__: Any) -> None:
            raise Killed

        patch.setattr("filesystem_retrieval.slots.os.unlink", dies)
        with pytest.raises(Killed):
            home.move("a.md", "b.md")
    assert set(home.disk()) == {"a.md", "b.md"}

    Home(tmp_path).changes.settle()

    assert home.disk() == {"b.md": b"old"}
    left = home.last("a.md")
    assert left is not None and (left.how, left.other_path) == ("left", "b.md")


def test_bytes_of_any_length_come_back(tmp_path: Path) -> None:
    home = Home(tmp_path)
    contents = [b"a" * length for length in range(40)]
    assert any(
        len(zlib.compress(content, 1)) == len(content) for content in contents
    )  # where packing begins to pay
    for content in contents:
        home.put("a.md", None)
        version = home.put("a.md", content)
        assert version is not None and home.kept(version)[1] == content


def test_bytes_that_were_damaged_are_not_given_out(tmp_path: Path) -> None:
    home = Home(tmp_path)
    version = home.put("a.md", b"what was agreed upon, in full " * 9)
    assert version is not None
    with sqlite3.connect(tmp_path / "catalogue.sqlite") as database:
        register(database)
        ((data,),) = database.execute("SELECT data FROM fs_blob").fetchall()
        for damaged in (data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], b"what was agreed upon"):
            database.execute("UPDATE fs_blob SET data = ?", (damaged,))
            database.commit()
            with pytest.raises(Unavailable):
                home.kept(version)


PATHS = st.sampled_from(["a.md", "b.txt", "sub/c.md", "sub/deep/d.md"])
CONTENTS = st.binary(max_size=30)


class Everything(RuleBasedStateMachine):
    """Whatever is done in whatever order, each version holds what its path held when it was cut."""

    def __init__(self) -> None:
        super().__init__()
        self.top = Path(tempfile.mkdtemp())
        self.home = Home(self.top)
        self.versions: dict[int, tuple[str, bytes | None]] = {}

    @initialize()
    def start(self) -> None:
        self.home.put("a.md", b"first")

    @rule(path=PATHS, content=st.none() | CONTENTS)
    def put(self, path: str, content: bytes | None) -> None:
        version = self.home.put(path, content)
        if version is not None:
            self.versions[version] = (path, content)
        assert self.home.disk().get(path) == content

    @rule(path=PATHS, goal=PATHS)
    def move(self, path: str, goal: str) -> None:
        disk = self.home.disk()
        try:
            version = self.home.move(path, goal)
        except (NotFound, Conflict):
            assert path not in disk or goal in disk
            assert self.home.disk() == disk
            return
        content = disk.pop(path)
        assert version is not None and self.home.disk() == {**disk, goal: content}
        self.versions[version] = (goal, content)

    @rule(path=PATHS, content=CONTENTS)
    def somebody_else_writes(self, path: str, content: bytes) -> None:
        file = self.home.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    @rule(chance=st.randoms(use_true_random=False))
    def restore(self, chance: Any) -> None:
        if self.versions:
            path, content = self.versions[chance.choice(sorted(self.versions))]
            before = self.home.disk().get(path)
            self.home.put(path, content)
            assert self.home.disk().get(path) == content
            if before is not None and before != content:  # what it took the place of can come back as well
                last = self.home.last(path)
                assert last is not None and last.id is not None
                assert self.home.kept(last.id)[1] == content

    @invariant()
    def every_version_is_what_it_was(self) -> None:
        for version, (path, content) in self.versions.items():
            assert self.home.kept(version) == (path, content)

    def teardown(self) -> None:
        self.home.database.close()
        shutil.rmtree(self.top)


TestEverything = Everything.TestCase
TestEverything.settings = settings(
    max_examples=12,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.parametrize(
    ("before", "after", "counts"),
    [
        ("", "a\nb\n", (2, 0)),
        ("a", "", (0, 1)),
        ("a\n", "a", (0, 0)),
        ("a\nb", "a\nc\nd", (2, 1)),
        ("", "", (0, 0)),
    ],
)
def test_lines_that_came_and_went_are_counted(before: str, after: str, counts: tuple[int, int]) -> None:
    assert line_counts(before, after) == counts
