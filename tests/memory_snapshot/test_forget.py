from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest
from filelock import FileLock
from mcp import Client

from memory_snapshot.server import service
from memory_snapshot.wire import Item, Summary
from usrland import Call, Conflict, InvalidInput, NotFound, Principal
from usrland.host import running
from usrland.keeping import back_up, changed_files, restore
from usrland.settings import Settings

SECRET = "the xylographer Quimby-Featherstonehaugh lives at Zwölfbogengasse 17"
FORMATS = ("native", "jsonl", "markdown")
WORDS = ("xylographer", "Quimby", "Featherstonehaugh", "Zwölfbogengasse")


async def test_a_retraction_leaves_history_and_can_be_rolled_back(desk: Any) -> None:
    then = await desk.snapshot("then", "tea", "coffee")
    done = await desk.remember("milk")
    receipt = await desk.forget(done.items[0].item_id, reason="asked to")

    assert (receipt.items, receipt.versions, receipt.ids) == (1, 1, [done.items[0].item_id])
    assert await desk.texts() == ["tea", "coffee"]
    assert await desk.recalled("milk") == []
    assert (await desk.history(item_id=done.items[0].item_id)).items[0].text == "milk"
    await desk.forget(containing="COFF")
    assert await desk.texts() == ["tea"]
    await desk.rollback(then.id)
    assert await desk.texts() == ["tea", "coffee"]


async def test_an_erasure_takes_every_version_on_every_branch_and_every_hash_still_verifies(desk: Any) -> None:
    then = await desk.snapshot("then", Item(text="Paris", key="home"), "tea")
    await desk.branch("create", "idea")
    await desk.remember(Item(text="Rome", key="home"), branch="idea")
    before = await desk.verify()
    item_id = (await desk.history(key="home")).items[0].item_id
    receipt = await desk.forget(item_id, mode="erase")
    after = await desk.verify()

    assert (receipt.items, receipt.versions, receipt.degraded) == (1, 2, None)
    assert (before.erased, after.erased, after.problems) == (0, 2, [])
    assert after.head == (receipt.event, receipt.hash)
    assert [await desk.texts(ref) for ref in ("HEAD", "idea", then.id)] == [["tea"]] * 3
    assert [entry.text for entry in (await desk.history(item_id=item_id)).items] == [None, None]
    assert await desk.recalled("Paris") == await desk.recalled("Rome") == []


async def test_what_was_erased_does_not_come_back(desk: Any) -> None:
    then = await desk.snapshot("then", "tea", "coffee")
    await desk.branch("create", "idea")
    await desk.forget(containing="coffee", mode="erase")
    await desk.rollback(then.id)
    await desk.merge("idea", strategy="theirs")

    assert await desk.texts() == ["tea"]
    with pytest.raises(NotFound):
        await desk.forget(containing="coffee", mode="erase")
    assert (await desk.verify()).problems == []


async def test_what_was_derived_from_it_goes_with_it(desk: Any) -> None:
    done = await desk.remember("Bob lives in Paris", "Bob works in Rome", "tea")
    ids = [item.item_id for item in done.items]
    await desk.remember(Item(text="Bob commutes", kind="summary", derived_from=ids[:2]))
    dry = await desk.memory.preview_forget(desk.call(), ids[:1], mode="erase")
    assert dry.affected == 2
    await desk.forget(ids[0], mode="erase")

    assert await desk.texts() == ["Bob works in Rome", "tea"]


async def test_a_message_that_says_it_is_erased_too(desk: Any) -> None:
    await desk.snapshot("talked about zebras", "tea")
    await desk.remember("zebras have stripes")
    await desk.forget(containing="zebras", mode="erase")

    assert [entry.text for entry in (await desk.history()).items] == [None]
    assert (await desk.verify()).problems == []


async def test_nothing_is_forgotten_by_accident(desk: Any) -> None:
    await desk.remember("tea")
    for arguments, said in (({}, "what to forget"), ({"containing": "x"}, "too short")):
        with pytest.raises(InvalidInput, match=said):
            await desk.forget(**arguments)
    for arguments in ({"containing": "zebra"}, {"before": "2020-01-01"}):
        with pytest.raises(NotFound):
            await desk.forget(**arguments)
    with pytest.raises(NotFound):
        await desk.forget("deadbeef")
    assert await desk.texts() == ["tea"]


async def test_several_ways_to_say_it_are_taken_together(desk: Any) -> None:
    done = await desk.remember("zebra one", "zebra two")
    receipt = await desk.forget(done.items[0].item_id, containing="zebra", before="2999-01-01")

    assert receipt.items == 1
    assert await desk.texts() == ["zebra two"]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_after_an_erasure_no_byte_of_it_is_in_any_file(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """Through the wire: what was said also went through the log of calls and into the search index."""
    table: dict[str, Any] = {"embedding": "minilm"}
    if kind == "postgresql":
        table["database"] = request.getfixturevalue("postgresql")()
    settings = Settings(home=tmp_path / "home", tables={"memory-snapshot": table})
    item = {
        "text": SECRET,
        "key": "home of Quimby",
        "tags": ["Featherstonehaugh"],
        "speaker": "the xylographer",
        "source": {"uri": "talk://1", "span": "in the Zwölfbogengasse"},
    }
    async with running(service(settings), settings) as host, Client(host.server) as client:
        for number in range(30):
            await client.call_tool("memory_remember", {"items": [{"text": f"note {number} says something else"}]})
        beside = {"text": "I see, he said.", "speaker": "Bob", "source": {"uri": "talk://1"}}
        arguments = {"items": [item, beside], "idempotency_key": "once"}
        assert not (await client.call_tool("memory_remember", arguments)).is_error
        await client.call_tool(
            "memory_snapshot", {"message": "with the xylographer", "items": [{"text": "and tea"}]}
        )
        found = await client.call_tool("memory_recall", {"query": "where does the xylographer live?"})
        assert found.structured_content["items"][0]["text"] == SECRET  # type: ignore[index]
        assert holding(settings.home) != set()
        if kind == "postgresql":
            assert holding_relations(table["database"]) != set()
        wish = {"containing": "xylographer", "mode": "erase"}
        refused = await client.call_tool("memory_forget", wish)
        token = re.search(r"confirm_token='([^']+)'", refused.content[0].text)  # type: ignore[union-attr]
        assert token is not None
        erased = await client.call_tool("memory_forget", {**wish, "confirm_token": token[1]})
        assert not erased.is_error, erased.content
        assert "degraded" not in (erased.structured_content or {})
        assert holding(settings.home, allowed=b"containing") == set()
        if kind == "postgresql":
            assert holding_relations(table["database"]) == set()
        status = await client.call_tool("memory_status", {"verify": True})
    assert status.structured_content["problems"] == []  # type: ignore[index]
    assert holding(settings.home, allowed=b"containing") == set()


def holding_relations(url: str) -> set[str]:
    """Tables and indexes of this schema whose files hold one of the words, read as the database's owner can."""
    relations = (
        "SELECT c.relname, pg_read_binary_file(pg_relation_filepath(c.oid)) FROM pg_class c "
        "WHERE pg_relation_filenode(c.oid) IS NOT NULL AND (c.relnamespace = current_schema()::regnamespace OR "
        "c.oid IN (SELECT reltoastrelid FROM pg_class WHERE relnamespace = current_schema()::regnamespace))"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        rows = connection.execute(relations).fetchall()
    assert len(rows) > 20
    return {name for name, content in rows if any(word.encode() in content for word in WORDS)}


def holding(home: Path, allowed: bytes = b"") -> set[str]:
    """Files that hold one of the words, in any case, as any host of the index might write it.

    What was asked for by name stays in the log of calls: that somebody had it erased is what the log is for.
    """
    found = set()
    for file in home.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            if allowed:
                content = re.sub(rb'\{"(?:containing|dry_run|mode)[^}]*\}', b"", content)
                content = re.sub(rb'\{"query"[^}]*\}', b"", content)
            content = content.lower()
            if any(word.lower().encode(code) in content for word in WORDS for code in ("utf-8", "utf-16-le")):
                found.add(str(file.relative_to(home)))
    return found


async def test_a_plan_says_what_to_fold_and_the_summaries_take_its_place(desk: Any) -> None:
    taken = await desk.snapshot("then", Item(text="Answer in Italian", kind="instruction"))
    for day in range(3):
        texts = [f"On day {day} we looked at problem {number} and the pump was noisy." for number in range(10)]
        await desk.remember(*[Item(text=text, kind="observation") for text in texts])
    plan = await desk.compact(budget_tokens=200)

    assert plan.tokens > 200 and plan.folds
    assert "pump" in plan.folds[0].extract
    fold = plan.folds[0]
    done = await desk.compact(summaries=[Summary(text="The pump was noisy for days.", derived_from=fold.ids)])
    assert done.folded == len(fold.ids)
    assert done.tokens < plan.tokens
    texts = await desk.texts()
    assert "The pump was noisy for days." in texts and "Answer in Italian" in texts
    assert len(texts) == 32 - len(fold.ids)
    summary = (await desk.recall("noisy pump", kinds=["summary"])).items[0]
    lineage = (await desk.history(item_id=summary.id, limit=100)).items
    assert len(lineage) == 1 + len(fold.ids)
    parent = (await desk.history()).items[1]
    await desk.rollback(parent.id)
    assert len(await desk.texts()) == 31
    assert taken.id in [entry.id for entry in (await desk.history()).items]
    assert (await desk.verify()).problems == []


async def test_a_memory_that_fits_is_left_alone(desk: Any) -> None:
    assert (await desk.compact()).note == "Nothing is remembered yet."
    await desk.remember("tea")
    assert (await desk.compact()).note == "It fits already."
    with pytest.raises(InvalidInput, match="derived from nothing"):
        await desk.compact(summaries=[Summary(text="x", derived_from=[])])


async def test_a_dry_run_of_a_compaction_refuses_what_the_call_would_refuse_and_changes_nothing(desk: Any) -> None:
    def try_out(*summaries: Summary, expected_head: str | None = None) -> Any:
        call = desk.call()
        return desk.memory.preview_compact(call, summaries=list(summaries), expected_head=expected_head)

    done = await desk.remember("the pump was noisy", "the pump was noisy again")
    ids = [item.item_id for item in done.items]

    for wrong in (Summary(text="", derived_from=ids), Summary(text="x", derived_from=[])):
        with pytest.raises(InvalidInput):
            await try_out(wrong)
    with pytest.raises(NotFound):
        await try_out(Summary(text="x", derived_from=["ffffffff"]))
    with pytest.raises(Conflict):
        await try_out(Summary(text="x", derived_from=ids), expected_head="0" * 64)
    with pytest.raises(Conflict):
        await try_out(expected_head="0" * 64)
    tried = await try_out(Summary(text="It was noisy.", derived_from=ids))
    assert (tried.folded, tried.snapshot) == (2, None)
    assert await desk.texts() == ["the pump was noisy", "the pump was noisy again"]


async def test_a_summary_is_trusted_no_more_than_what_it_was_made_from(desk: Any) -> None:
    done = await desk.remember(
        Item(text="said", source={"origin": "direct_user"}),  # type: ignore[arg-type]
        Item(text="read on the web", source={"origin": "tool_external"}),  # type: ignore[arg-type]
    )
    made = Item(text="zebras", source={"origin": "direct_user"}, derived_from=[i.item_id for i in done.items])  # type: ignore[arg-type]
    await desk.remember(made)

    assert (await desk.recall("zebras")).items[0].trust == "tool_external"


async def test_what_is_kept_for_a_time_is_not_shown_after_it(desk: Any) -> None:
    await desk.remember(
        Item(text="zebra gone", keep_until="2020-01-01"), Item(text="zebra kept", keep_until="2999-01-01")
    )

    assert await desk.texts() == await desk.recalled("zebra") == ["zebra kept"]


async def test_the_status_says_where_it_stands_and_whether_it_is_sound(desk: Any) -> None:
    assert (await desk.status()).items == 0
    taken = await desk.snapshot("first", "tea")
    await desk.remember("coffee")
    await desk.branch("create", "idea")
    status = await desk.status(verify=True)

    assert (status.branch, status.head, status.newer, status.items) == ("main", taken.id, 1, 2)
    assert (status.branches, status.snapshots, status.versions, status.erased) == (2, 2, 2, 0)
    assert (status.problems, status.journal) == ([], (await desk.verify()).head[1])
    assert (status.advertised, status.reliable, status.basis) == (200_000, 130_000, "settings")
    await desk.recall("tea")
    assert (await desk.status()).indexed == status.events
    await desk.unguard()
    await desk.sql("UPDATE memory_body SET key = 'beer' WHERE key IS NULL")
    assert (await desk.status(verify=True)).problems


async def test_an_erasure_reaches_the_files_that_were_exported(desk: Any) -> None:
    await desk.snapshot("before", "the zebra lives at the zoo", "tea")
    made = [Path((await desk.transfer("export", f"a.{form}", format=form)).path) for form in FORMATS]
    gone = await desk.transfer("export", "gone.jsonl", format="jsonl")
    move(Path(gone.path), "gone.bak")
    write(own := desk.transfers / "own.jsonl", b'{"text": "the zebra lives at the zoo"}')
    receipt = await desk.forget(containing="zebra lives", mode="erase")

    assert (receipt.files, receipt.moved) == (3, [gone.path])
    for path in made:
        assert b"zebra" not in held(path)
        assert b"tea" in held(path)
    assert b"zebra" in held(own)  # a person's own
    other = Principal(subject="ann", namespace="other")
    carried = await desk.transfer("import", "a.native", who=other)
    assert carried.new == 2
    assert (await desk.status(who=other, verify=True)).problems == []
    assert await desk.texts(who=other) == ["tea"]


async def test_an_erasure_reaches_the_copies_of_the_whole_home(tmp_path: Path) -> None:
    """And leaves them copies: they verify, can be restored, and hold everything else."""
    settings = Settings(home=tmp_path / "home", tables={"memory-snapshot": {"embedding": "minilm"}})
    served = service(settings)
    early, late = tmp_path / "early", tmp_path / "late"
    async with running(served, settings) as host, Client(host.server) as client:
        await client.call_tool("memory_remember", {"items": [{"text": SECRET, "key": "home"}, {"text": "tea"}]})
        for form in FORMATS:
            await client.call_tool("memory_transfer", {"action": "export", "path": f"a.{form}", "format": form})
        await anyio.to_thread.run_sync(back_up, settings, [served], early)
        await client.call_tool("memory_remember", {"items": [{"text": SECRET + "a", "key": "home"}]})
        await client.call_tool("memory_snapshot", {"message": "with the xylographer", "items": [{"text": "milk"}]})
        await anyio.to_thread.run_sync(back_up, settings, [served], late)
        before = {copy: names(copy) for copy in (early, late)}
        assert all(len(holding(copy)) >= 4 for copy in before)
        wish = {"containing": "xylographer", "mode": "erase"}
        refused = await client.call_tool("memory_forget", wish)
        token = re.search(r"confirm_token='([^']+)'", refused.content[0].text)  # type: ignore[union-attr]
        assert token is not None
        receipt = (await client.call_tool("memory_forget", {**wish, "confirm_token": token[1]})).structured_content

    assert receipt is not None and not {"copies", "degraded", "moved"} & set(receipt)
    assert receipt["files"] == len(FORMATS) + 2
    assert {name.partition("/")[0] for name in names(tmp_path)} == {"home", "early", "late"}
    for copy, standing in ((early, ["tea"]), (late, ["tea", "milk"])):
        assert holding(copy) == set()
        assert changed_files(copy) == []
        assert not any(
            held(file)[18:20] == b"\2\2" for file in copy.rglob("*.sqlite")
        )  # would be logged beside it
        assert all(name.endswith(".md") for name in before[copy] - names(copy))
        assert names(copy) <= before[copy]
        restore(copy, new := tmp_path / f"from-{copy.name}")
        assert await standing_in(new) == standing


def names(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


async def standing_in(home: Path) -> list[str]:
    """What is found there, once every hash was looked at."""
    settings = Settings(home=home, tables={"memory-snapshot": {"embedding": "none"}})
    async with running(service(settings), settings) as host, Client(host.server) as client:
        status = (await client.call_tool("memory_status", {"verify": True})).structured_content
        found = (await client.call_tool("memory_restore", {"mode": "full"})).structured_content
        for said in ("tea", "milk"):
            recalled = (await client.call_tool("memory_recall", {"query": said})).structured_content
            assert recalled is not None and found is not None
            assert [hit["text"] for hit in recalled["items"]] == ([said] if said in found["text"] else [])
    assert status is not None and status["problems"] == [] and status["erased"] > 0
    return [line.split(": ", 1)[1] for line in found["text"].splitlines() if line.startswith("[")]


async def test_what_an_erasure_cannot_clean_of_the_copies_is_named_and_left_as_it_is(
    desk: Any, tmp_path: Path
) -> None:
    """Where it was changed, and where the database is not in it; what was moved away is known to nobody."""
    done = await desk.remember("zebra", "lion", "tiger")
    ids = [item.item_id for item in done.items]
    back_up(desk.settings, [desk.service], copy := tmp_path / "copy")
    write(copy / "more", b"put in by somebody")
    before = {name: held(copy / name) for name in names(copy)}
    receipt = await desk.forget(ids[0], mode="erase")
    assert receipt.copies == [str(copy.resolve())]
    assert {name: held(copy / name) for name in names(copy)} == before

    (copy / "more").unlink()
    (tmp_path / ".copy.draft").mkdir()  # of a process that was killed
    again = await desk.forget(ids[1], mode="erase")
    inside = desk.database.is_sqlite
    assert (again.files, again.copies) == ((1, None) if inside else (None, [str(copy.resolve())]))
    assert changed_files(copy) == []
    assert not (tmp_path / ".copy.draft").exists()
    move(copy, "away")
    assert (await desk.forget(ids[2], mode="erase")).copies is None


async def test_a_copy_of_another_memory_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    desks = []
    for name in ("one", "two"):
        settings = Settings(home=tmp_path / name, tables={"memory-snapshot": {"embedding": "none"}})
        served = service(settings)
        async with running(served, settings) as host, Client(host.server) as client:
            await client.call_tool("memory_remember", {"items": [{"text": "zebra"}]})
        back_up(settings, [served], tmp_path / f"copy-{name}")
        desks.append(settings)
    ours, theirs = tmp_path / "copy-one", tmp_path / "copy-two"
    made_at = json.loads((ours / "manifest.json").read_text())["made_at"]
    move(ours, "away")
    move(theirs, "copy-one")
    manifest = json.loads((ours / "manifest.json").read_text())
    write(ours / "manifest.json", json.dumps({**manifest, "made_at": made_at}).encode())
    before = {name: held(ours / name) for name in names(ours)}
    memory = service(desks[0]).state["memory"]
    call = Call(id="test", principal=Principal(subject="local"), operation="test")
    receipt = await memory.memory_forget(call, containing="zebra", mode="erase")
    memory.close()

    assert receipt.copies == [str(ours)]
    assert {name: held(ours / name) for name in names(ours)} == before


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # of PostgreSQL, a copy holds nothing
async def test_a_copy_whose_exported_files_are_not_all_found_is_cleaned_and_named(
    desk: Any, tmp_path: Path
) -> None:
    await desk.snapshot("before", "zebra", "tea")
    gone = Path((await desk.transfer("export", "gone.jsonl", format="jsonl")).path)
    move(gone, "gone.bak")
    back_up(desk.settings, [desk.service], copy := tmp_path / "copy")
    receipt = await desk.forget(containing="zebra", mode="erase")

    assert receipt.copies == [str(copy.resolve())]
    assert [name for name in names(copy) if b"zebra" in held(copy / name)] == ["memory-snapshot/transfer/gone.bak"]
    assert changed_files(copy) == []


async def test_copies_that_another_process_is_at_are_named(
    desk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.remember("zebra")
    back_up(desk.settings, [desk.service], copy := tmp_path / "copy")
    monkeypatch.setattr("usrland.keeping._LOCK_SECONDS", 0)
    with FileLock(desk.settings.home / "copies.lock"):
        receipt = await desk.forget(containing="zebra", mode="erase")

    assert receipt.copies == [str(copy.resolve())]
    assert receipt.degraded.startswith("copies by usrland backup may still hold the bytes")


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # of PostgreSQL, a copy holds nothing
async def test_what_was_kept_for_a_time_leaves_the_copies_too(desk: Any, tmp_path: Path) -> None:
    await desk.remember(Item(text="zebra", keep_until="2020-01-01T00:00:00Z"), Item(text="tea"))
    back_up(desk.settings, [desk.service], copy := tmp_path / "copy")
    assert any(b"zebra" in held(copy / name) for name in names(copy))

    async def elsewhere(texts: Any) -> None:
        pass

    (receipt,) = await (await desk.memory.store()).expire(elsewhere)
    assert (receipt.files, receipt.copies) == (1, None)
    assert not any(b"zebra" in held(copy / name) for name in names(copy))
    assert changed_files(copy) == []


async def test_a_file_that_does_not_hold_it_is_left_alone(desk: Any) -> None:
    await desk.snapshot("one", "zebra")
    foreign = Path((await desk.transfer("export", "foreign")).path)
    write(foreign, held(foreign).replace(b'"head":"', b'"head":"00', 1))  # of a snapshot that is not here
    plain = Path((await desk.transfer("export", "plain", format="jsonl")).path)
    write(plain, b"what a person made of it\n")
    receipt = await desk.forget(containing="zebra", mode="erase")

    assert (receipt.files, receipt.moved) == (None, None)
    assert held(plain) == b"what a person made of it\n"
    assert b"zebra" in held(foreign)


def held(path: Path) -> bytes:
    files = [path] if path.is_file() else sorted(path.iterdir())
    return b"".join(file.read_bytes() for file in files)


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def move(path: Path, name: str) -> None:
    path.rename(path.with_name(name))


async def test_what_was_to_be_kept_until_a_moment_is_erased_after_it(desk: Any) -> None:
    """And what was made from it goes with it; a later version of the item stays."""
    past = "2020-01-01T00:00:00Z"
    done = await desk.remember(
        Item(text="the code is 4711", keep_until=past),
        Item(text="meet at noon", key="meeting", keep_until=past),
        Item(text="tea"),
    )
    await desk.remember(Item(text="meet at one", key="meeting"))
    ids = [item.item_id for item in done.items]
    summary = await desk.remember(Item(text="a code was given", kind="summary", derived_from=[ids[0], ids[2]]))
    kept = (await desk.history(item_id=summary.items[0].item_id)).items[0].keep_until
    told: list[str] = []

    async def elsewhere(texts: Any) -> None:
        told.extend(texts)

    store = await desk.memory.store()
    (receipt,) = await store.expire(elsewhere)
    assert (receipt.mode, receipt.versions, receipt.degraded) == ("erase", 3, None)
    assert kept is not None and kept.startswith("2020-01-01")
    assert sorted(told) == ["a code was given", "meet at noon", "the code is 4711"]
    assert await store.expire(elsewhere) == []
    assert await desk.texts() == ["tea", "meet at one"]
    assert [entry.text for entry in (await desk.history(key="meeting")).items] == ["meet at one", None]
    status = await desk.status(verify=True)
    assert (status.problems, status.erased) == ([], 3)


async def test_a_running_server_keeps_nothing_for_longer_than_it_should(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", tables={"memory-snapshot": {"embedding": "none"}})
    async with running(service(settings), settings) as host, Client(host.server) as client:
        item = {"text": SECRET, "keep_until": "2020-01-01"}
        assert not (await client.call_tool("memory_remember", {"items": [item]})).is_error
    assert holding(settings.home) != set()
    async with running(service(settings), settings) as host, Client(host.server) as client:
        status: Any = {}
        with anyio.fail_after(60):
            while status.get("erased") != 1:
                await anyio.sleep(0.05)
                status = (await client.call_tool("memory_status", {"verify": True})).structured_content
    assert status["problems"] == []
    assert holding(settings.home) == set()
