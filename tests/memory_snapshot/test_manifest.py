from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_snapshot.manifest import Manifest, Pages, pages_of, read

manifests = st.dictionaries(
    st.binary(min_size=16, max_size=16).map(bytes.hex),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    max_size=200,
)


def made(count: int, seed: int = 1) -> dict[str, str]:
    chance = random.Random(seed)
    return {chance.randbytes(16).hex(): chance.randbytes(32).hex() for _ in range(count)}


def size(pages: Pages) -> int:
    return sum(map(len, pages.values()))


@given(manifests)
@settings(deadline=None)
def test_what_was_paged_is_read_back(manifest: Manifest) -> None:
    root, pages = pages_of(manifest)

    assert read(root, lambda _: pages) == manifest


@given(manifests)
@settings(deadline=None)
def test_the_same_items_make_the_same_root_in_any_order(manifest: Manifest) -> None:
    assert pages_of(dict(reversed(manifest.items()))) == pages_of(manifest)


def test_ids_that_all_end_in_zeros_still_come_to_one_root() -> None:
    manifest = {f"{number << 64:032x}": "ab" * 32 for number in range(40)}
    root, pages = pages_of(manifest)

    assert read(root, lambda _: pages) == manifest


def test_one_changed_item_makes_one_new_page_on_each_level() -> None:
    before = made(1_000)
    _, old = pages_of(before)
    _, new = pages_of({**before, next(iter(before)): "00" * 32})
    levels = max(content[0] for content in old.values()) + 1

    assert len(new.keys() - old.keys()) == levels


def test_an_item_that_is_added_leaves_nearly_all_pages_as_they_were() -> None:
    before = made(1_000)
    _, old = pages_of(before)
    _, new = pages_of({**before, **made(1, seed=2)})

    assert len(new.keys() - old.keys()) <= 10


def test_a_snapshot_at_one_percent_change_costs_less_than_a_kilobyte_a_change() -> None:
    standing = made(1_000)
    chance = random.Random(3)
    kept: Pages = {}
    for _ in range(50):
        for item_id in chance.sample(sorted(standing), 10):
            standing[item_id] = chance.randbytes(32).hex()
        kept.update(pages_of(standing)[1])
    first = size(pages_of(standing)[1])

    assert (size(kept) - first) / (49 * 10) < 1_000


def test_a_missing_page_is_an_error_and_not_a_shorter_manifest() -> None:
    root, pages = pages_of(made(1_000))
    pages.pop(next(name for name in pages if name != root))

    with pytest.raises(KeyError):
        read(root, lambda _: pages)
