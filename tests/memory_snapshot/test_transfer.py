from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memory_snapshot.wire import Item, Source
from usrland import InvalidInput, NotFound, Principal, UsrlandError

OTHER = Principal(subject="ann", namespace="other")
THIRD = Principal(subject="ann", namespace="third")


async def rich(desk: Any) -> None:
    """Corrections, a merge, a rollback, an erasure, a summary."""
    first = await desk.snapshot("first", Item(text="Paris", key="home"), "tea", "a secret")
    await desk.branch("create", "idea")
    await desk.snapshot("aside", Item(text="Oslo", key="work"), branch="idea")
    await desk.remember(
        Item(text="Rome", key="home", tags=["city"], speaker="Bob", source=Source(uri="x://y", span="1")),
        Item(text="be brief", kind="instruction", valid_from="2020-01-01"),
    )
    await desk.merge("idea")
    await desk.rollback(first.id, key="home")
    await desk.forget(containing="secret", mode="erase")
    ids = [entry.item_id for entry in (await desk.history(key="work")).items]
    await desk.remember(Item(text="north", kind="summary", derived_from=ids[:1]))


async def test_a_memory_carried_there_and_back_is_the_same_to_the_byte(desk: Any) -> None:
    await rich(desk)
    done = await desk.transfer("export", "one.jsonl")
    there = await desk.transfer("import", "one.jsonl", who=OTHER)
    again = await desk.transfer("export", "two.jsonl", who=OTHER)
    await desk.transfer("import", "two.jsonl", who=THIRD)
    await desk.transfer("export", "three.jsonl", who=THIRD)
    contents = {(desk.transfers / f"{name}.jsonl").read_bytes() for name in ("one", "two", "three")}

    assert len(contents) == 1
    assert (done.sha256, done.items) == (again.sha256, there.items)
    assert there.branch == "main"
    for who in (OTHER, THIRD):
        assert (await desk.verify(who)).problems == []
        assert await desk.texts(who=who) == await desk.texts()
    first, *_ = (await desk.history(who=OTHER)).items
    assert (first.id, first.text) == ((await desk.history()).items[0].id, "before an export")
    assert b"secret" not in contents.pop()


async def test_what_a_source_that_is_gone_had_superseded_is_carried_too(desk: Any) -> None:
    await desk.remember(Item(text="Paris", key="home"))
    done = await desk.remember(Item(text="Rome", key="home"))
    await desk.remember(Item(text="an Italian", kind="summary", derived_from=[done.items[0].item_id]))
    await desk.forget(containing="Rome", mode="retract")
    await desk.snapshot("before an export")
    await desk.transfer("export", "one.jsonl")
    await desk.transfer("import", "one.jsonl", who=OTHER)

    assert (await desk.verify(OTHER)).problems == []
    (made,) = (await desk.recall("Italian", who=OTHER)).items
    entries = (await desk.history(who=OTHER, item_id=made.id)).items
    assert [entry.text for entry in entries] == ["an Italian", "Rome", "Paris"]
    assert entries[1].supersedes == [entries[2].id]


async def test_an_import_twice_changes_nothing(desk: Any) -> None:
    await rich(desk)
    await desk.transfer("export", "one.jsonl")
    await desk.transfer("import", "one.jsonl", who=OTHER)
    before = await desk.status(OTHER)
    again = await desk.transfer("import", "one.jsonl", who=OTHER)

    assert again.note == "All of it is here already."
    assert await desk.status(OTHER) == before


async def test_a_dry_run_of_an_export_refuses_what_the_call_would_refuse_and_writes_nothing(desk: Any) -> None:
    await desk.remember("tea", "milk")

    for name, more in (("", {}), ("../out", {}), ("x", {"ref": "absent"}), ("x", {"expected_head": "0" * 64})):
        with pytest.raises(UsrlandError):
            await desk.memory.preview_transfer("export", name, desk.call(), **more)
    dry = await desk.memory.preview_transfer("export", "x", desk.call())
    assert (dry.items, dry.note) == (2, "Nothing was written.")
    assert not (desk.transfers / "x").exists()
    assert (await desk.status()).snapshots == 0


async def test_where_something_is_remembered_a_file_comes_in_as_a_branch(sit: Callable[..., Any]) -> None:
    desk = sit()
    await rich(desk)
    await desk.transfer("export", "one.jsonl")
    await desk.remember("milk", who=OTHER)
    dry = await desk.memory.preview_transfer("import", "one.jsonl", desk.call(OTHER))
    assert dry.note == "Nothing was written." and (await desk.status(OTHER)).branches == 1
    done = await desk.transfer("import", "one.jsonl", who=OTHER)

    assert done.branch is not None and done.branch.startswith("import/")
    assert await desk.texts(who=OTHER) == ["milk"]
    assert await desk.texts(done.branch, who=OTHER) == await desk.texts()
    assert await sit().texts(done.branch, who=OTHER) == await desk.texts()
    await desk.merge(done.branch, who=OTHER)
    assert sorted(await desk.texts(who=OTHER)) == sorted([*await desk.texts(), "milk"])
    assert (await desk.verify(OTHER)).problems == []


async def test_a_file_with_any_line_changed_is_refused_and_nothing_of_it_stored(desk: Any) -> None:
    await rich(desk)
    await desk.transfer("export", "one.jsonl")
    lines = (desk.transfers / "one.jsonl").read_text(encoding="utf-8").splitlines()
    for place, line in enumerate(lines):
        for changed in ([], [line.replace("a", "b", 1)], [line, line]):
            damaged = "\n".join([*lines[:place], *changed, *lines[place + 1 :]]) + "\n"
            (desk.transfers / "two.jsonl").write_text(damaged, encoding="utf-8")
            with pytest.raises(InvalidInput):
                await desk.transfer("import", "two.jsonl", who=OTHER)
    assert (await desk.status(OTHER)).events == 0


def resealed(lines: list[str]) -> str:
    from memory_snapshot.canonical import canonical, digest

    whole = "".join(f"{line}\n" for line in lines)
    return whole + canonical({"is": "end", "sha256": digest(whole)}) + "\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"text":"Rome"', '"text":"Oslo"'),
        ('"kind":"instruction"', '"kind":"fact"'),
        ('"reason":"merge"', '"reason":"manual"'),
        ('"trust":"model_inference"', '"trust":"direct_user"'),
        ('"text":"first"', '"text":"last"'),
        ('"drop":["', '"drop":["00'),
    ],
)
async def test_a_forged_file_is_found_out_even_with_a_new_seal(desk: Any, old: str, new: str) -> None:
    await rich(desk)
    await desk.transfer("export", "one.jsonl")
    text = (desk.transfers / "one.jsonl").read_text(encoding="utf-8")
    assert old in text
    forged = resealed(text.replace(old, new, 1).splitlines()[:-1])
    (desk.transfers / "two.jsonl").write_text(forged, encoding="utf-8")
    with pytest.raises(InvalidInput, match="damaged"):
        await desk.transfer("import", "two.jsonl", who=OTHER)


@pytest.mark.parametrize("format", ["jsonl", "markdown"])
async def test_plain_formats_carry_what_stands(desk: Any, format: Any) -> None:
    await desk.remember(
        Item(text="Paris", key="home", tags=["a", "b: c"], speaker="Bob", pin=True, valid_from="2020-01-01"),
        Item(text='two\nlines "quoted"', kind="task", source=Source(origin="direct_user", uri="x://y")),
    )
    await desk.transfer("export", "notes", format=format)
    done = await desk.transfer("import", "notes", who=OTHER)

    assert (done.items, done.new) == (2, 2)
    assert (await desk.transfer("import", "notes", who=OTHER)).new == 0
    for query in ("Paris", "quoted"):
        (here,), (there,) = (await desk.recall(query)).items, (await desk.recall(query, who=OTHER)).items
        assert here.model_dump(exclude={"id", "recorded_at"}) == there.model_dump(exclude={"id", "recorded_at"})


FOREIGN: dict[str, tuple[Any, list[str]]] = {
    "memory.jsonl": (
        [
            {"type": "entity", "name": "Bob", "entityType": "person", "observations": ["likes tea", "is tall"]},
            {"type": "relation", "from": "Bob", "to": "Acme", "relationType": "works at"},
        ],
        ["Bob: likes tea", "Bob: is tall", "Bob works at Acme"],
    ),
    "mem0.json": (
        {"results": [{"id": "1", "memory": "Likes tea", "user_id": "bob", "created_at": "2025-01-02T03:04:05Z"}]},
        ["bob: Likes tea"],
    ),
    "claude.json": (
        [
            {
                "uuid": "u",
                "name": "Tea",
                "chat_messages": [
                    {"sender": "human", "text": "Which tea?", "created_at": "2025-01-01T00:00:00Z"},
                    {"sender": "assistant", "text": "", "content": [{"type": "text", "text": "Assam."}]},
                ],
            }
        ],
        ["human: Which tea?", "assistant: Assam."],
    ),
    "chatgpt.json": (
        [
            {
                "title": "Tea",
                "conversation_id": "c",
                "mapping": {
                    "b": {
                        "message": {
                            "author": {"role": "assistant"},
                            "create_time": 2,
                            "content": {"parts": ["Assam."]},
                        }
                    },
                    "a": {
                        "message": {"author": {"role": "user"}, "create_time": 1, "content": {"parts": ["Which?"]}}
                    },
                    "s": {
                        "message": {"author": {"role": "system"}, "create_time": 0, "content": {"parts": ["no"]}}
                    },
                    "r": {"message": None},
                },
            }
        ],
        ["user: Which?", "assistant: Assam."],
    ),
    "claude-code.jsonl": (
        [
            {"type": "summary", "summary": "Tea was made"},
            {"type": "user", "sessionId": "s", "uuid": "1", "message": {"role": "user", "content": "Make tea"}},
            {
                "type": "assistant",
                "sessionId": "s",
                "uuid": "2",
                "message": {"content": [{"type": "text", "text": "Done."}, {"type": "tool_use", "name": "x"}]},
            },
            {"type": "user", "sessionId": "s", "uuid": "3", "message": {"role": "user", "content": "Make tea"}},
        ],
        ["Tea was made", "user: Make tea", "assistant: Done.", "user: Make tea"],
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
async def test_what_other_systems_wrote_is_recognised(sit: Callable[..., Any], name: str) -> None:
    desk = sit()
    content, expected = FOREIGN[name]
    desk.transfers.mkdir(parents=True)
    text = json.dumps(content) if name.endswith(".json") else "\n".join(map(json.dumps, content))
    (desk.transfers / name).write_text(text, encoding="utf-8")
    done = await desk.transfer("import", name)

    assert done.new == len(expected)
    said = (await desk.restore(mode="full")).text
    assert [line for line in expected if line not in said] == []
    assert (await desk.transfer("import", name)).new == 0
    assert {hit.trust for hit in (await desk.recall("tea")).items} <= {"import"}


@pytest.mark.parametrize("name", ["../outside.jsonl", "/etc/passwd", "", "a/../../b", "."])
async def test_no_name_leads_out_of_the_transfer_folder(desk: Any, name: str) -> None:
    await desk.remember("tea")
    for action in ("export", "import"):
        with pytest.raises(InvalidInput):
            await desk.transfer(action, name)


async def test_a_link_does_not_lead_out_either(desk: Any, tmp_path: Path) -> None:
    desk.transfers.mkdir(parents=True)
    (desk.transfers / "link").symlink_to(tmp_path)
    with pytest.raises(InvalidInput):
        await desk.transfer("import", "link/x")


@pytest.mark.parametrize("content", ["not json", "[1]", '{"what": 1}', "\xff\xfe"])
async def test_what_is_of_no_known_format_is_refused(desk: Any, content: str) -> None:
    desk.transfers.mkdir(parents=True)
    (desk.transfers / "x").write_bytes(content.encode("latin-1"))
    with pytest.raises(InvalidInput):
        await desk.transfer("import", "x")
    with pytest.raises(NotFound):
        await desk.transfer("import", "y")


LONG = "a long word " * 4_000
ODD: dict[str, tuple[str, list[str], int]] = {
    "a graph as read_graph returns it": (
        json.dumps({
            "entities": [
                {"name": "Bob", "entityType": "person", "observations": ["likes tea", "", {"content": "is tall"}]},
                {"name": "Acme", "entityType": "company", "observations": []},
                {"name": "Eve", "observations": None},
            ],
            "relations": [{"from": "Bob", "to": "Acme", "relationType": "works at"}],
        }),
        ["Bob: likes tea", "Bob: is tall", "Acme is of type company", "Bob works at Acme"],
        4,
    ),
    "blank lines, a byte order mark and a long observation": (
        "\ufeff\n" + json.dumps({"type": "entity", "name": "B", "entityType": "", "observations": [LONG]}) + "\n",
        ["B: a long word"],
        3,
    ),
    "mem0 with nulls, empty memories and twenty categories": (
        json.dumps([
            {"id": 1, "memory": "Likes tea", "user_id": None, "agent_id": "a" * 300, "categories": None},
            {"id": 2, "memory": "  ", "created_at": "yesterday"},
            {"id": 3, "memory": None},
            {"id": 4, "memory": "Likes \ud83d milk \u0000", "categories": [f"c{n}" for n in range(20)],
             "created_at": "2025-01-02T03:04:05.123456-07:00", "expiration_date": "2999-12-31"},
        ]),
        ["Likes tea", "Likes \ufffd milk"],
        2,
    ),
    "claude with tools, attachments and an untitled conversation": (
        json.dumps([
            {"uuid": "u", "name": "", "chat_messages": []},
            {"uuid": "v", "name": None, "chat_messages": [
                {"sender": "human", "text": "See this", "content": None, "created_at": None,
                 "attachments": [{"file_name": "a.txt", "extracted_content": "forty two"}]},
                {"sender": "assistant", "text": "", "content": [
                    {"type": "thinking", "thinking": "hm", "text": "secret thought"},
                    {"type": "tool_use", "name": "x", "input": {}}, {"type": "tool_result", "text": "noise"},
                    {"type": "text", "text": "It says forty two."}]},
                None,
            ]},
            {"conversations_memory": "Bob likes tea", "project_memories": {"p": "The pump is old"}},
        ]),
        ["[a.txt]", "forty two", "assistant: It says forty two.", "Bob likes tea", "The pump is old"],
        4,
    ),
    "chatgpt with answers asked for anew, pictures and hidden turns": (
        json.dumps([{
            "title": None, "current_node": "d", "mapping": {
                "root": {"parent": None, "message": None},
                "a": {"parent": "root", "message": {"author": {"role": "user"}, "create_time": None, "content": {
                    "content_type": "multimodal_text", "parts": [{"asset_pointer": "x"}, "What is this?"]}}},
                "b": {"parent": "a", "message": {"author": {"role": "assistant"}, "create_time": 5,
                                                 "content": {"parts": ["A wrong answer"]}}},
                "c": {"parent": "a", "message": {"author": {"role": "user"}, "create_time": 1e18, "metadata": {
                    "is_visually_hidden_from_conversation": True}, "content": {"parts": ["hidden"]}}},
                "d": {"parent": "c", "message": {"author": {"role": "assistant"}, "create_time": True,
                                                 "content": {"content_type": "code", "text": "print(1)"}}},
                "e": {"parent": "gone", "message": "odd"},
            }}]),
        ["user: What is this?", "assistant: print(1)"],
        2,
    ),
    "claude code as it is being written": (
        "\n".join(map(json.dumps, [
            {"type": "file-history-snapshot", "messageId": "m", "snapshot": {}},
            {"type": "user", "sessionId": "s", "uuid": "1", "isMeta": True, "message": {"content": "meta"}},
            {"type": "user", "sessionId": "s", "uuid": "2", "timestamp": "2026-01-01T00:00:00.000Z",
             "message": {"role": "user", "content": [{"type": "tool_result", "content": "noise"}]}},
            {"type": "user", "sessionId": "s", "uuid": "3", "isCompactSummary": True,
             "message": {"role": "user", "content": "We fixed the pump"}},
            {"type": "assistant", "sessionId": "s", "uuid": "4", "isSidechain": True,
             "message": {"content": [{"type": "text", "text": "a helper"}]}},
            {"type": "assistant", "sessionId": "s", "uuid": "5", "timestamp": "not a time",
             "message": {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Done."}]}},
        ])) + '\n{"type": "user", "sess',
        ["We fixed the pump", "assistant: Done."],
        2,
    ),
    "a rollout of codex": (
        "\n".join(map(json.dumps, [
            {"timestamp": "2026-01-01T00:00:00Z", "type": "session_meta", "payload": {"id": "r1"}},
            {"type": "response_item", "payload": {"type": "message", "role": "developer", "content": []}},
            {"type": "response_item", "payload": {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "<environment_context>\n</environment_context>"}]}},
            {"timestamp": "2026-01-01T00:00:01Z", "type": "response_item", "payload": {
                "type": "message", "role": "user", "content": [{"type": "input_text", "text": "Fix the pump"}]}},
            {"type": "event_msg", "payload": {"type": "user_message", "message": "Fix the pump"}},
            {"type": "response_item", "payload": {"type": "function_call", "name": "shell"}},
            {"type": "response_item", "payload": {"type": "message", "role": "assistant", "content": [
                {"type": "output_text", "text": "Fixed."}]}},
        ])),
        ["user: Fix the pump", "assistant: Fixed."],
        2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
async def test_files_of_others_are_taken_as_they_are_found(sit: Callable[..., Any], name: str) -> None:
    desk = sit()
    content, expected, count = ODD[name]
    desk.transfers.mkdir(parents=True)
    (desk.transfers / "file").write_text(content, encoding="utf-8")
    dry = await desk.memory.preview_transfer("import", "file", desk.call())
    assert (dry.items, (await desk.status()).events) == (count, 0)
    done = await desk.transfer("import", "file")
    text = (await desk.restore(mode="full", budget_tokens=20_000)).text

    assert (done.items, done.new) == (count, count)
    assert [line for line in expected if line not in text] == []
    for noise in (
        "secret thought",
        "noise",
        "A wrong answer",
        "hidden",
        "a helper",
        "meta",
        "environment_context",
    ):
        assert noise not in text
    assert (await desk.transfer("import", "file")).new == 0
    assert (await desk.verify()).problems == []


async def test_notes_of_others_are_taken_as_they_are_found(sit: Callable[..., Any], tmp_path: Path) -> None:
    desk = sit()
    folder = desk.transfers / "vault"
    (folder / ".obsidian").mkdir(parents=True)
    (folder / "deep").mkdir()
    for name, text in {
        "plain.md": "Just a text.\n",
        "empty.md": "---\ntags: [a]\n---\n",
        "yaml.md": "---\r\ntitle: 'A: b'\r\nkind: note\r\ntags:\r\n  - '#pumps'\r\n  - two words\r\n"
        "valid_from: 2026-05-08\r\npin: yes\r\n---\r\nThe pump is old.\r\n",
        "deep/rule.md": "\ufeff---\ntype: memory\nkind: instruction\nkey: rule\n---\n---\nKeep the line above.",
        "long.md": "# Title\n\n" + "A paragraph of some length.\n\n" * 1_500,
        ".obsidian/app.md": "not a note",
    }.items():
        (folder / name).write_bytes(text.encode())
    (tmp_path / "outside.md").write_text("outside", encoding="utf-8")
    (folder / "link.md").symlink_to(tmp_path / "outside.md")
    done = await desk.transfer("import", "vault")
    items = {entry.text: entry for entry in (await desk.recall("pump")).items}
    text = (await desk.restore(mode="full", budget_tokens=20_000)).text

    assert (done.items, done.new) == (6, 6)  # the long one in three
    assert "outside" not in text and "not a note" not in text
    assert (items["The pump is old."].kind, items["The pump is old."].tags) == ("fact", ["pumps", "two words"])
    assert items["The pump is old."].valid_from == "2026-05-08T00:00:00.000000Z"
    assert "instruction rule" in text and "Keep the line above." in text
    (folder / "broken.md").write_text("---\nkind: [\n---\nx", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"broken\.md.*no YAML"):
        await desk.transfer("import", "vault")
    (folder / "broken.md").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="no UTF-8"):
        await desk.transfer("import", "vault")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"type": "relation", "from": "Bob"}', "x:1: it has no 'relationType'"),
        ('{"type": "entity", "observations": ["a"]}', "x:1: it has no 'name'"),
        ('{"text": "a"}\n{"text": \n{"text": "b"}\n', "x:2 is no JSON"),
        ('{"text": "a", "colour": "red"}', "colour"),
        ("[" * 100_000, "x:1 is no JSON"),
        ("3", "neither an object nor a list"),
    ],
)
async def test_what_is_broken_is_refused_by_its_place(sit: Callable[..., Any], content: str, said: str) -> None:
    desk = sit()
    desk.transfers.mkdir(parents=True)
    (desk.transfers / "x").write_text(content, encoding="utf-8")
    with pytest.raises(InvalidInput, match=said):
        await desk.transfer("import", "x")
    assert (await desk.status()).events == 0
