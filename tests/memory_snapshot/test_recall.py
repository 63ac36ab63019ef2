from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from filelock import FileLock

from memory_snapshot import index as index_module
from memory_snapshot.feeding import position
from memory_snapshot.index import READ_DIRECTLY, UNREAD
from memory_snapshot.journal import last_event
from memory_snapshot.scan import scan
from memory_snapshot.wire import Item, Source
from usrland import InvalidInput
from usrland.search import index as search_module

BY_WORDS = "no embedding model is configured"


async def test_what_was_just_acknowledged_is_recalled(desk: Any) -> None:
    for number in range(5):
        await desk.remember(f"zebra number {number} has stripes")
        assert len(await desk.recalled("zebras")) == number + 1


async def test_what_another_process_just_wrote_is_recalled(sit: Callable[..., Any]) -> None:
    ours, theirs = sit(), sit()
    await ours.remember("the first zebra")
    assert await theirs.recalled("zebra") == ["the first zebra"]
    await theirs.remember("the second zebra")

    assert sorted(await ours.recalled("zebra")) == ["the first zebra", "the second zebra"]


async def test_while_another_process_feeds_the_index_the_journal_is_searched(desk: Any) -> None:
    await desk.remember("the first zebra")
    assert await desk.recalled("zebra")
    folder = desk.settings.data("memory-snapshot") / "index"
    with FileLock(folder / "feed.lock"):
        await desk.remember("the second zebra")
        page = await desk.recall("zebra")

    assert sorted(hit.text for hit in page.items) == ["the first zebra", "the second zebra"]
    assert "no embedding model" in page.degraded


async def test_more_than_a_little_that_the_index_has_not_read_is_said_to_be_found_by_words(
    sit: Callable[..., Any],
) -> None:
    desk = sit(embedding="minilm")
    await desk.remember("the first zebra")
    assert (await desk.recall("zebra")).degraded is None
    with FileLock(desk.settings.data("memory-snapshot") / "index" / "feed.lock"):
        await desk.remember(*[f"the zebra after {number}" for number in range(READ_DIRECTLY + 1)])
        page = await desk.recall("zebra", limit=100)

    assert page.total == READ_DIRECTLY + 2
    assert page.degraded == UNREAD
    assert (await desk.recall("zebra")).degraded is None


async def test_a_little_that_the_index_has_not_read_answers_as_it_will_from_the_index(
    sit: Callable[..., Any],
) -> None:
    desk = sit(embedding="minilm")
    talk = Source(uri="chat://1")
    said = [
        Item(text="The user lives in Paris", key="home"),
        Item(text="The physician prescribed new pills", kind="transcript", speaker="Ann", source=talk),
    ]
    await desk.remember(*said)
    assert await desk.recalled("pills")
    await (await desk.memory.store()).index.feed()
    await desk.remember(
        Item(text="The user lives in Rome", key="home"),
        Item(text="They are to be taken at noon", kind="transcript", speaker="Ann", source=talk),
    )
    questions = ("Which medicine did the doctor give?", "Which town is home?", "At lunch time?", "Paris")

    async def answers() -> list[Any]:
        pages = [await desk.recall(question, explain=True) for question in questions]
        assert [page.degraded for page in pages] == [None] * len(questions)
        return [[(hit.text, hit.why) for hit in page.items] for page in pages]

    before = await answers()
    assert await desk.ask("SELECT max(seq) FROM memory_index_position") == [1]
    await (await desk.memory.store()).index.feed()
    assert await desk.ask("SELECT max(seq) FROM memory_index_position") == [2]

    assert before == await answers()
    assert before[0][0][0] == "The physician prescribed new pills"
    assert [text for text, _ in before[1]] == ["The user lives in Rome"]


async def test_of_many_that_feed_at_once_one_does_it_for_all_who_wait_and_leaves_nothing_out(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, fed = (await desk.memory.store()).index, 0
    feed = index._feed

    async def counted() -> None:
        nonlocal fed
        fed += 1
        await feed()

    monkeypatch.setattr(index, "_feed", counted)

    async def say_and_feed(number: int) -> None:
        for turn in range(5):
            await desk.remember(f"caller {number} said {turn}")
            last = desk.database.read_now(lambda session: last_event(session, 1)).seq
            await index.feed()
            assert desk.database.read_now(partial(position, name=await index.name(), space_id=1)) >= last

    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(say_and_feed, number)
    assert fed < 6 * 5


async def test_an_index_that_was_lost_is_made_again(sit: Callable[..., Any]) -> None:
    first = sit()
    await first.remember("the zebra")
    assert await first.recalled("zebra")
    shutil.rmtree(first.settings.data("memory-snapshot") / "index")

    assert await sit().recalled("zebra") == ["the zebra"]


async def test_an_index_that_cannot_be_used_is_said_and_done_without(desk: Any) -> None:
    folder = desk.settings.data("memory-snapshot") / "index"
    folder.write_text("not a folder", encoding="utf-8")
    await desk.remember("the zebra")
    page = await desk.recall("zebra")

    assert [hit.text for hit in page.items] == ["the zebra"]
    assert "index cannot be used" in page.degraded


async def test_a_rebuilt_index_answers_as_before(desk: Any) -> None:
    await desk.remember("the zebra", "the giraffe", Item(text="the lion", key="king"))
    await desk.remember(Item(text="the tiger", key="king"))
    before = [await desk.recalled(word) for word in ("zebra", "king")]
    await desk.service.state["rebuild_index"]()

    assert [await desk.recalled(word) for word in ("zebra", "king")] == before == [["the zebra"], ["the tiger"]]


async def test_the_background_feeds_what_was_written(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "GATHER_SECONDS", 0)
    async with desk.service.lifespan():
        await desk.remember("the zebra")
        with anyio.fail_after(60):
            while await desk.ask("SELECT max(seq) FROM memory_index_position") != [1]:
                await anyio.lowlevel.checkpoint()


async def test_the_background_tries_again_what_another_process_kept_it_from(
    desk: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(index_module, "GATHER_SECONDS", 0)
    monkeypatch.setattr(index_module, "RETRY_SECONDS", 0)
    monkeypatch.setattr(search_module, "LOCK_SECONDS", 0)
    await desk.remember("the first zebra")
    assert await desk.recalled("zebra")
    async with desk.service.lifespan():
        with FileLock(desk.settings.data("memory-snapshot") / "index" / "write.lock"), anyio.fail_after(60):
            await desk.remember("the second zebra")
            while "could not be brought up to date" not in caplog.text:
                await anyio.lowlevel.checkpoint()
        with anyio.fail_after(60):
            while await desk.ask("SELECT max(seq) FROM memory_index_position") != [2]:
                await anyio.lowlevel.checkpoint()


async def test_what_a_burst_of_writes_leaves_on_the_disk_goes_when_it_is_over(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        await desk.remember(f"zebra {number}")
        await (await desk.memory.store()).index.feed()
    versions = desk.settings.data("memory-snapshot") / "index" / "lexical.lance" / "_versions"
    assert len(list(versions.iterdir())) > 8
    monkeypatch.setattr(search_module, "KEEP_VERSIONS", timedelta(seconds=3))  # too young at first
    monkeypatch.setattr(index_module, "QUIET_SECONDS", 0.1)
    async with desk.service.lifespan():
        with anyio.fail_after(60):
            while len(list(versions.iterdir())) > 2:  # noqa: ASYNC110 - nothing tells it
                await anyio.sleep(0.1)

    assert len(await desk.recalled("zebra")) == 8


async def test_only_the_newest_of_a_key_is_recalled(desk: Any) -> None:
    await desk.remember(Item(text="The user lives in Paris", key="home"))
    assert await desk.recalled("where does the user live") == ["The user lives in Paris"]
    await desk.remember(Item(text="The user lives in Rome", key="home"))

    assert await desk.recalled("where does the user live") == ["The user lives in Rome"]


async def test_a_version_is_recalled_as_of_the_time_it_was_known(desk: Any) -> None:
    await desk.remember(Item(text="The user lives in Paris", key="home"))
    then = (await desk.history(key="home")).items[0].at
    await desk.remember(Item(text="The user lives in Rome", key="home"))

    assert await desk.recalled("user lives", as_of=then) == ["The user lives in Paris"]
    assert await desk.recalled("user lives", as_of="2020-01-01") == []


async def test_a_correction_without_a_date_holds_from_when_it_was_recorded(desk: Any) -> None:
    await desk.remember(Item(text="The user lives in Paris", key="home"))
    before = (await desk.history(key="home")).items[0].at
    await desk.remember(Item(text="The user lives in Rome", key="home"))

    assert await desk.recalled("user lives", valid_at=before) == ["The user lives in Paris"]
    assert await desk.recalled("user lives", valid_at="2020-01-01") == ["The user lives in Paris"]


async def test_a_fact_that_has_ended_or_not_begun_is_not_recalled(desk: Any) -> None:
    await desk.remember(
        Item(text="zebra one", valid_to="2020-01-01"),
        Item(text="zebra two", valid_from="2999-01-01"),
        Item(text="zebra three", valid_from="2019-01-01", valid_to="2999-01-01"),
    )

    assert await desk.recalled("zebra") == ["zebra three"]
    assert sorted(await desk.recalled("zebra", valid_at="2019-06-01")) == ["zebra one", "zebra three"]
    assert await desk.recalled("zebra", valid_at="3000-01-01") == ["zebra two"]
    assert "zebra one" not in (await desk.restore()).text


async def test_until_a_successor_begins_what_it_supersedes_holds(desk: Any) -> None:
    await desk.remember(Item(text="The price is 10", key="price"))
    await desk.remember(Item(text="The price is 12", key="price", valid_from="2999-01-01"))

    assert await desk.recalled("price") == ["The price is 10"]
    assert "The price is 10" in (await desk.restore()).text
    assert await desk.recalled("price", valid_at="2999-06-01") == ["The price is 12"]


async def test_before_a_dated_fact_its_predecessor_was_true(desk: Any) -> None:
    await desk.remember(Item(text="Ann is the lead", key="lead", valid_from="2020-01-01"))
    await desk.remember(Item(text="Bob is the lead", key="lead", valid_from="2023-01-01"))

    assert await desk.recalled("lead", valid_at="2021-01-01") == ["Ann is the lead"]
    assert await desk.recalled("lead", valid_at="2024-01-01") == ["Bob is the lead"]
    assert await desk.recalled("lead", valid_at="2019-01-01") == []


async def test_kinds_and_age_narrow_what_is_recalled(desk: Any) -> None:
    await desk.remember(Item(text="zebra fact"), Item(text="zebra task", kind="task"))

    assert await desk.recalled("zebra", kinds=["task"]) == ["zebra task"]
    assert len(await desk.recalled("zebra", max_age_days=1)) == 2
    assert await desk.recalled("zebra", max_age_days=0) == []


async def test_a_recall_explains_its_order_where_it_is_asked_to(desk: Any) -> None:
    await desk.remember(Item(text="The zebra is tame", speaker="Ann", kind="transcript"))

    assert (await desk.recall("zebra")).items[0].why is None
    why = (await desk.recall("What did Ann say of the zebra?", explain=True)).items[0].why
    assert why["speaker"] > 0
    assert why["words"] > 0


async def test_nothing_relevant_is_an_answer(desk: Any) -> None:
    await desk.remember("The build runs on Fridays")
    page = await desk.recall("photosynthesis")

    assert page.items == []
    assert page.note.startswith("Nothing relevant is remembered.")


async def test_an_empty_store_answers_too(desk: Any) -> None:
    assert (await desk.recall("anything")).items == []
    assert (await desk.history()).items == []
    assert (await desk.restore()).text == "Nothing is remembered yet."


async def test_an_answer_by_words_alone_says_so(desk: Any) -> None:
    await desk.remember("the zebra")

    assert BY_WORDS in (await desk.recall("zebra")).degraded


async def test_keys_and_tags_are_found(desk: Any) -> None:
    await desk.remember(Item(text="Rome", key="home city"), Item(text="monthly", tags=["invoicing"]))

    assert await desk.recalled("city") == ["Rome"]
    assert await desk.recalled("invoicing") == ["monthly"]


async def test_at_most_limit_hits_come_the_surest_first(desk: Any) -> None:
    await desk.remember(*[f"zebra {number}" for number in range(10)], "a zebra with black stripes")
    page = await desk.recall("zebra black stripes", limit=3)

    assert len(page.items) == page.total == 3
    assert page.items[0].text == "a zebra with black stripes"
    assert all(0 < hit.confidence < 1 for hit in page.items)


@pytest.mark.parametrize(
    "arguments",
    [
        {"query": " "},
        {"query": "x" * 2_001},
        {"limit": 0},
        {"limit": 101},
        {"as_of": "soon"},
        {"max_age_days": -1},
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(desk: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        await desk.recall(**{"query": "zebra", **arguments})


async def test_meaning_is_found_where_no_word_matches(
    sit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = sit(embedding="minilm")
    await desk.remember("The physician prescribed new pills", "The bicycle has a flat tyre")
    await desk.service.state["rebuild_index"]()
    page = await desk.recall("Which medicine did the doctor give?")

    assert [hit.text for hit in page.items] == ["The physician prescribed new pills"]
    assert page.degraded is None
    assert (await desk.recall("the history of the Ottoman empire")).items == []


@pytest.mark.parametrize(
    ("query", "text", "found"),
    [
        ("Where are the zebras?", "A zebra stands there", True),
        ("deploying", "We deploy on Friday", True),
        ("what is it", "It is what it is", False),
        ("cat", "concatenate", False),
        ("max_file_bytes", "set max_file_bytes to 10", True),
        ("東京", "東京は晴れ", True),
        ("c++ (17)", "we use c++", True),
    ],
)
def test_the_scan_goes_by_words_and_not_by_letters(query: str, text: str, found: bool) -> None:
    assert bool(scan(query, {"it": text})) is found
