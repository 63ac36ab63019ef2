"""The memory and a simple model of it, driven through the same random operations and compared after each.

The model keeps whole copies of everything in plain dictionaries; it shares no code with the server.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from memory_snapshot.memory import Memory
from memory_snapshot.server import service
from memory_snapshot.wire import Item, Summary
from usrland import Call, Conflict, NotFound, Principal
from usrland.settings import Settings

TEXTS = [f"word{letter * 3}" for letter in "abcdefgh"]
KEYS = [None, "one", "two", "three"]
SAID = st.lists(st.tuples(st.sampled_from(TEXTS), st.sampled_from(KEYS)), min_size=1, max_size=4)


@dataclass(frozen=True)
class Version:
    number: int
    """Of all versions: greater is newer."""
    item: int
    text: str
    key: str | None
    sources: frozenset[int] = frozenset()
    """Of a summary: the items that it stands for."""

    @property
    def kind(self) -> str:
        return "summary" if self.sources else "fact"

    @property
    def line(self) -> str:
        """As a restore shows it, behind its id."""
        return f"{self.kind}{f' {self.key}' if self.key else ''}: {self.text}"


Standing = dict[int, Version]


@dataclass(frozen=True)
class Taken:
    number: int
    standing: Standing
    parents: tuple[Taken, ...]
    id: str = ""

    def line(self) -> dict[int, Taken]:
        found = {self.number: self}
        for parent in self.parents:
            found |= parent.line()
        return found


@dataclass
class Branch:
    standing: Standing = field(default_factory=dict)
    head: Taken | None = None
    dirty: bool = False
    """Something is in no snapshot yet."""


class MemoryMachine(RuleBasedStateMachine):
    """`run` needs a portal to an event loop and one store for all sequences: each has a space of its own."""

    portal: BlockingPortal
    memory: Memory
    spaces = itertools.count()

    @initialize()
    def begin(self) -> None:
        self.who = Principal(subject="ann", namespace=f"space {next(self.spaces)}")
        self.numbers = itertools.count(1)
        self.branches = {"main": Branch()}
        self.current = "main"
        self.taken: list[Taken] = []
        self.versions: list[Version] = []
        self.erased: set[int] = set()

    def do(self, function: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any, **named: Any) -> Any:
        call = Call(id="model", principal=self.who, operation="model")
        return self.portal.call(lambda: function(*arguments, call=call, **named))

    @property
    def here(self) -> Branch:
        return self.branches[self.current]

    # -- operations

    @rule(said=SAID)
    def remember(self, said: list[tuple[str, str | None]]) -> None:
        self.do(self.memory.memory_remember, [Item(text=text, key=key) for text, key in said])
        for text, key in said:
            self._remember(self.here, text, key)

    @rule(said=SAID, name=st.sampled_from(["main", "left", "right"]))
    def remember_elsewhere(self, said: list[tuple[str, str | None]], name: str) -> None:
        items = [Item(text=text, key=key) for text, key in said]
        try:
            self.do(self.memory.memory_remember, items, branch=name)
        except NotFound:
            assert name not in self.branches
            return
        for text, key in said:
            self._remember(self.branches[name], text, key)

    @precondition(lambda self: self.taken)
    @rule(data=st.data(), key=st.sampled_from(KEYS[1:]))
    def write_upon_a_head_that_may_be_stale(self, data: st.DataObject, key: str) -> None:
        seen = data.draw(st.sampled_from(self.taken))
        stale = self.here.head is not seen
        for write, named in (
            (self.memory.memory_remember, {"items": [Item(text="wordzzz", key=key)]}),
            (self.memory.memory_forget, {"containing": "wordzzz"}),
        ):
            try:
                self.do(write, expected_head=seen.id, **named)
            except Conflict as error:
                assert stale
                assert (
                    self.here.head is None or error.details["head"] == self.here.head.id or not self.here.head.id
                )
                return
            assert not stale
        self._remember(self.here, "wordzzz", key)
        self.here.standing = {i: v for i, v in self.here.standing.items() if v.text != "wordzzz"}
        self.here.dirty = True

    def _remember(self, branch: Branch, text: str, key: str | None) -> None:
        standing = branch.standing
        facts = [v for v in standing.values() if v.kind == "fact"]
        same = [v for v in facts if v.text == text and (key is None or v.key in (None, key))]
        twin = min(same, key=lambda version: version.number, default=None)
        if twin is not None and key in (None, twin.key):
            return
        replaced = [v for v in standing.values() if key is not None and v.key == key]
        replaced += [twin] if twin is not None and twin not in replaced else []
        item = replaced[0].item if replaced else next(self.numbers)
        for version in replaced:
            del standing[version.item]
        standing[item] = self._version(item, text, key or (replaced[0].key if replaced else None))
        branch.dirty = True

    def _version(self, item: int, text: str, key: str | None, sources: frozenset[int] = frozenset()) -> Version:
        version = Version(next(self.numbers), item, text, key, sources)
        self.versions.append(version)
        return version

    @rule()
    def snapshot(self) -> None:
        done = self.do(self.memory.memory_snapshot, "taken")
        self._commit(self.here, id=done.id)

    def _commit(self, branch: Branch, *more: Taken, id: str = "") -> None:
        parents = tuple(parent for parent in (branch.head, *more) if parent is not None)
        branch.head = Taken(next(self.numbers), dict(branch.standing), parents, id)
        branch.dirty = False
        if id:
            self.taken.append(branch.head)

    @rule(name=st.sampled_from(["left", "right"]))
    def branch(self, name: str) -> None:
        if name in self.branches:
            return
        self.do(self.memory.memory_branch, action="create", name=name)
        made = Branch(dict(self.here.standing), self.here.head)
        if self.here.head is None or made.standing != self.here.head.standing:
            self._commit(made)
        self.branches[name] = made

    @rule(name=st.sampled_from(["main", "left", "right"]))
    def switch(self, name: str) -> None:
        if name in self.branches:
            self.do(self.memory.memory_branch, action="switch", name=name)
            self.current = name

    @rule(name=st.sampled_from(["left", "right"]))
    def delete(self, name: str) -> None:
        if name not in self.branches:
            return
        self.do(self.memory.memory_branch, action="delete", name=name)
        del self.branches[name]
        self.current = "main" if self.current == name else self.current

    @precondition(lambda self: len(self.here.standing) > 1)
    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        standing = sorted(self.here.standing.values(), key=lambda version: version.number)
        told = data.draw(st.lists(st.sampled_from(standing), min_size=1, max_size=3, unique=True))
        ids = self._ids()
        text = f"summary {next(self.numbers)}"
        summary = Summary(text=text, derived_from=[ids[version.line].pop() for version in told])
        self.do(self.memory.memory_compact, summaries=[summary])
        if self.here.dirty:
            self._commit(self.here)
        for version in told:
            self.here.standing = {i: v for i, v in self.here.standing.items() if i != version.item}
        item = next(self.numbers)
        sources = frozenset(version.item for version in told)
        self.here.standing[item] = self._version(item, text, None, sources)
        self._commit(self.here)

    @precondition(lambda self: self.taken)
    @rule(data=st.data(), key=st.sampled_from(KEYS[1:]))
    def rollback_of_a_key(self, data: st.DataObject, key: str) -> None:
        to = data.draw(st.sampled_from(self.taken))
        items = {v.item for v in self.versions if v.key == key and v.number not in self.erased}
        try:
            self.do(self.memory.memory_rollback, to.id, key=key)
        except NotFound:
            assert not items
            return
        assert items
        target = {item: version for item, version in self.here.standing.items() if item not in items}
        for item in items:
            then = to.standing.get(item)
            if then is not None and then.number in self.erased:
                then = self.here.standing.get(item)
            if then is not None:
                target[item] = then
        if target != self.here.standing:
            self.here.standing = target
            self._commit(self.here)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def rollback(self, data: st.DataObject) -> None:
        to = data.draw(st.sampled_from(self.taken))
        self.do(self.memory.memory_rollback, to.id)
        target = {item: version for item, version in to.standing.items() if version.number not in self.erased}
        lost = {item for item, version in to.standing.items() if version.number in self.erased}
        kept = {item: version for item, version in self.here.standing.items() if item in lost}
        if self.here.standing != target | kept:
            self.here.standing = target | kept
            self._commit(self.here)

    @rule(
        source=st.sampled_from(["main", "left", "right"]),
        strategy=st.sampled_from(["ask", "ours", "theirs", "both", "newest"]),
    )
    def merge(self, source: str, strategy: Any) -> None:
        if source not in self.branches or source == self.current:
            return
        merged = self._merged(self.branches[source], strategy)
        try:
            self.do(self.memory.memory_merge, source, strategy=strategy)
        except Conflict:
            assert merged is None
            return
        assert merged is not None
        theirs = self.branches[source]
        if theirs.head is None or theirs.dirty:
            self._commit(theirs)
        for item in [item for item in merged if item < 0]:  # once more, as an item of its own
            version = merged.pop(item)
            again = next(self.numbers)
            merged[again] = self._version(again, version.text, None, version.sources)
        self.here.standing = merged
        assert theirs.head is not None
        self._commit(self.here, theirs.head)

    def _merged(self, source: Branch, strategy: str) -> Standing | None:
        """None: there are conflicts."""
        base = self._base(source)
        mine, theirs = self.here.standing, source.standing
        items = sorted({*base, *mine, *theirs})
        here = {item: mine.get(item) for item in items if mine.get(item) != base.get(item)}
        there = {item: theirs.get(item) for item in items if theirs.get(item) != base.get(item)}
        merged = dict(mine)
        for item, new in there.items():
            if new is not None and new.number in self.erased:
                continue
            old = here.get(item)
            rival = next((v for v in here.values() if v and new and v.key is not None and v.key == new.key), None)
            if item in here:
                if old == new or (old and new and _same(old, new)):
                    continue
                take = strategy
                if strategy == "newest" and old and new:
                    take = "theirs" if new.number > old.number else "ours"
            elif rival is not None and new is not None:
                if _same(rival, new):
                    continue
                take = strategy
                if strategy == "newest":
                    take = "theirs" if new.number > rival.number else "ours"
                old = rival
                if take == "theirs":
                    merged.pop(rival.item, None)
            elif new is None or item in base or all(v is None or not _same(v, new) for v in here.values()):
                take = "theirs"
            else:
                continue
            if take in ("ask", "newest"):
                return None
            if take == "theirs" or (take == "both" and old is None):
                merged.pop(item, None)
                if new is not None:
                    merged[item] = new
            elif take == "both" and new is not None:
                merged[-item] = replace(new, key=None)
        return merged

    def _base(self, source: Branch) -> Standing:
        if self.here.head is None or source.head is None:
            return {}
        common = self.here.head.line().keys() & source.head.line().keys()
        return source.head.line()[max(common)].standing if common else {}

    @rule(text=st.sampled_from(TEXTS), mode=st.sampled_from(["retract", "erase"]))
    def forget(self, text: str, mode: Any) -> None:
        there = [v for v in self.versions if v.text == text and v.number not in self.erased]
        items = {version.item for version in there}
        if mode == "retract":
            gone = [v for v in self.here.standing.values() if v in there]
        else:
            before = 0
            while before != len(items):  # and what was made from it, and so on
                before = len(items)
                items |= {v.item for v in self.versions if v.sources & items}
            gone = [v for v in self.versions if v.item in items and v.number not in self.erased]
            gone = gone if there else []
        try:
            self.do(self.memory.memory_forget, containing=text, mode=mode)
        except NotFound:
            assert not gone
            return
        assert gone
        if mode == "retract":
            self.here.dirty = True
            self.here.standing = {i: v for i, v in self.here.standing.items() if v not in gone}
            return
        self.erased |= {version.number for version in gone}
        for branch in self.branches.values():
            left = {i: v for i, v in branch.standing.items() if v.number not in self.erased}
            branch.dirty = branch.dirty or branch is self.here or left != branch.standing
            branch.standing = left

    # -- comparison

    @invariant()
    def what_stands_is_what_the_model_says(self) -> None:
        if hasattr(self, "branches"):
            assert self._shown("HEAD") == self._expected(self.here.standing)

    def teardown(self) -> None:
        if not hasattr(self, "branches"):
            return
        for name, branch in self.branches.items():
            assert self._shown(name) == self._expected(branch.standing), name
        for taken in self.taken:
            assert self._shown(taken.id) == self._expected(taken.standing)
        status = self.do(self.memory.memory_status, verify=True)
        assert status.problems == []
        assert status.erased == len(self.erased)
        self._carried_there_and_back()

    def _carried_there_and_back(self) -> None:
        """What was exported and imported elsewhere says the same, and exports the same bytes."""
        first = self.do(self.memory.memory_transfer, action="export", path="first")
        there, self.who = self.who, replace(self.who, namespace=f"{self.who.namespace}, carried")
        self.do(self.memory.memory_transfer, action="import", path="first")
        second = self.do(self.memory.memory_transfer, action="export", path="second")
        assert first.sha256 == second.sha256
        assert self._shown("HEAD") == self._expected(self.branches[self.current].standing)
        assert self.do(self.memory.memory_status, verify=True).problems == []
        self.who = there

    def _shown(self, ref: str) -> list[str]:
        return sorted(line for _, line in self._lines(ref))

    def _ids(self) -> dict[str, list[str]]:
        """Line → the ids of the items that are shown so."""
        found: dict[str, list[str]] = {}
        for item_id, line in self._lines("HEAD"):
            found.setdefault(line, []).append(item_id)
        return found

    def _lines(self, ref: str) -> list[tuple[str, str]]:
        text = self.do(self.memory.memory_restore, ref=ref, mode="full", budget_tokens=20_000).text
        return re.findall(r"^\[(\w+)\] ((?:fact|summary).*)$", text, re.MULTILINE)

    def _expected(self, standing: Standing) -> list[str]:
        left = [version for version in standing.values() if version.number not in self.erased]
        return sorted(version.line for version in left)


def _same(one: Version, other: Version) -> bool:
    return (one.kind, one.text) == (other.kind, other.text)


def machine(portal: BlockingPortal, home: Path) -> type[MemoryMachine]:
    """The machine on a store of its own."""
    settings = Settings(home=home, tables={"memory-snapshot": {"embedding": "none"}})
    memory = service(settings).state["memory"]
    return type("Machine", (MemoryMachine,), {"portal": portal, "memory": memory})
