from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_snapshot.manifest import EMPTY, Manifest

oids = st.binary(min_size=32, max_size=32).map(bytes.hex)
items = st.dictionaries(
    st.binary(min_size=16, max_size=16).map(bytes.hex),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    max_size=200,
)
changes = st.lists(
    st.tuples(st.integers(0, 255).map(lambda number: f"{number:032x}"), st.none() | st.just("ab" * 32) | oids),
    max_size=300,
)


def made(count: int, seed: int = 1) -> dict[str, str]:
    chance = random.Random(seed)
    return {chance.randbytes(16).hex(): chance.randbytes(32).hex() for _ in range(count)}


@given(items)
@settings(deadline=None)
def test_what_was_paged_is_read_back(found: dict[str, str]) -> None:
    manifest = EMPTY.changed(found)
    pages = manifest.pages()

    assert Manifest.read(manifest.root, lambda _: pages) == manifest
    assert dict(manifest) == found


@given(changes, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_root_says_what_stands_and_not_how_it_came_to_stand(made: list[Any], chance: random.Random) -> None:
    """Ids that differ in their last digits alone: pages are parted and joined at every depth."""
    manifest, expected = EMPTY, dict[str, str]()
    while made:
        some, made = made[: chance.randint(1, 40)], made[chance.randint(1, 40) :]
        manifest = manifest.changed(dict(some))
        expected.update({item: oid for item, oid in dict(some).items() if oid is not None})
        for item, oid in dict(some).items():
            if oid is None:
                expected.pop(item, None)

    assert dict(manifest) == expected
    assert len(manifest) == len(expected)
    assert manifest.root == EMPTY.changed(expected).root


@given(items, items, changes)
@settings(deadline=None)
def test_the_changes_between_two_lead_from_the_one_to_the_other(
    one: dict[str, str], other: dict[str, str], some: list[Any]
) -> None:
    before, after = EMPTY.changed(one), EMPTY.changed(one | other).changed(dict(some))
    found = before.changes_to(after)

    assert before.changed(found) == after
    assert all(before.get(item) != oid for item, oid in found.items())


def test_one_changed_item_makes_one_new_page_on_each_level() -> None:
    before = EMPTY.changed(made(1_000))
    after = before.changed({next(iter(before)): "00" * 32})

    assert len(after.pages().keys() - before.pages().keys()) == 3


@pytest.mark.parametrize("prefix", ["", "0", "00", "abc", "f" * 32])
def test_items_are_found_by_how_their_ids_begin(prefix: str) -> None:
    manifest = EMPTY.changed(made(1_000) | {"f" * 32: "00" * 32})

    assert manifest.beginning_with(prefix) == sorted(item for item in manifest if item.startswith(prefix))


def test_a_missing_page_is_an_error_and_not_a_shorter_manifest() -> None:
    manifest = EMPTY.changed(made(1_000))
    pages = manifest.pages()
    pages.pop(next(name for name in pages if name.hex() != manifest.root))

    with pytest.raises(KeyError):
        Manifest.read(manifest.root, lambda _: pages)
