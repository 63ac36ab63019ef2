from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from memory_snapshot.hygiene import without_secrets
from memory_snapshot.said import Said
from memory_snapshot.server import service
from memory_snapshot.wire import Item
from usrland import InvalidInput, Principal, QuotaExceeded
from usrland.host import running
from usrland.settings import Settings

TOKEN = "ghp_" + "a1B2" * 9
SECRETS = [
    TOKEN,
    "AKIA" + "ABCDEFGHIJKLMNOP",
    "sk-ant-" + "x" * 40,
    "xoxb-" + "1" * 24,
    "AIza" + "b" * 35,
    "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
    "eyJ" + "a" * 20 + ".eyJ" + "b" * 20 + "." + "c" * 20,
    "postgresql://bob:" + "hunter22" + "@db.example.org/x",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_what_looks_like_a_credential_is_refused_or_blanked_out(secret: str) -> None:
    said = Said(text=f"the key is {secret} ok")
    with pytest.raises(InvalidInput, match="nothing was stored") as refused:
        without_secrets(said, "refuse", "items[0]")
    clean = without_secrets(said, "redact", "items[0]").text

    assert secret not in str(refused.value)
    assert "[redacted]" in clean and secret not in clean and clean.startswith("the key is ")
    assert without_secrets(said, "keep", "items[0]") is said


@pytest.mark.parametrize(
    "text",
    [
        "the password is in the vault under db/main",
        "see https://example.org/a:b@c and mail bob@example.org",
        "skip-level meetings are on Fridays; task-force-of-the-north-eastern-region met",
        "commit 3eb6f2c585f5e1699204e3c3bdf7adc5c28cb376",
    ],
)
def test_ordinary_texts_go_through(text: str) -> None:
    assert without_secrets(Said(text=text), "refuse", "items[0]").text == text


async def test_a_secret_in_a_tag_or_key_is_found_too_and_nothing_is_stored(desk: Any) -> None:
    for item in (Item(text="x", key=TOKEN), Item(text="x", tags=[TOKEN]), Item(text="x", source={"uri": TOKEN})):  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="GitHub token"):
            await desk.remember("tea", item)
    assert (await desk.status()).items == 0


async def test_an_operator_can_have_it_blanked_out(sit: Callable[..., Any]) -> None:
    desk = sit(secrets="redact")
    await desk.remember(f"the token is {TOKEN}")

    assert await desk.texts() == ["the token is [redacted]"]
    assert (await desk.verify()).problems == []


@pytest.mark.parametrize("policy", ["refuse", "redact"])
async def test_a_secret_that_was_sent_is_in_no_file_afterwards(tmp_path: Path, policy: str) -> None:
    settings = Settings(
        home=tmp_path / "home", tables={"memory-snapshot": {"embedding": "none", "secrets": policy}}
    )
    async with running(service(settings), settings) as host, Client(host.server) as client:
        result = await client.call_tool("memory_remember", {"items": [{"text": f"the token is {TOKEN}"}]})
        await client.call_tool("memory_status", {})

    assert result.is_error == (policy == "refuse")
    held = [file for file in settings.home.rglob("*") if file.is_file() and TOKEN.encode() in file.read_bytes()]
    assert held == []


async def test_a_secret_in_a_message_or_a_branch_name_is_refused_and_counted(desk: Any) -> None:
    await desk.remember("tea")
    then = await desk.snapshot("then")
    for refused in (
        desk.snapshot(f"used {TOKEN}"),
        desk.branch("create", TOKEN),
        desk.rollback(then.id, reason=f"because of {TOKEN}"),
    ):
        with pytest.raises(InvalidInput, match="GitHub token"):
            await refused

    assert (await desk.history()).total == 1
    assert (await desk.status()).rot.secrets == 3


async def test_a_message_is_blanked_out_where_the_operator_wants_that(sit: Callable[..., Any]) -> None:
    desk = sit(secrets="redact")
    await desk.snapshot(f"used {TOKEN}", "tea")

    assert (await desk.history()).items[0].text == "used [redacted]"


async def test_what_differs_in_its_looks_alone_is_there_already(desk: Any) -> None:
    first = await desk.remember("The release is planned for Friday.")
    again = await desk.remember("the release  is planned for friday", Item(text="C++ is used", key="language"))

    assert (again.items[0].item_id, again.items[0].why) == (first.items[0].item_id, "duplicate")
    assert (again.duplicates, (await desk.status()).rot.duplicates) == (1, 1)


async def test_what_says_almost_the_same_is_stored_and_named(desk: Any, sit: Callable[..., Any]) -> None:
    first = await desk.remember("The release of version two is planned for Friday", "Tea is hot")
    other = sit()  # a process that has to read what was said before
    done = await other.remember("The release of version two is planned for Monday", "Tea is cold")

    assert [item.new for item in done.items] == [True, True]
    assert [item.similar for item in done.items] == [[first.items[0].item_id], None]
    assert (await other.status()).rot.similar == 2
    corrected = await other.remember(
        Item(text="The release of version two is planned for Tuesday", supersedes=done.items[0].similar)
    )
    assert corrected.items[0].similar == [done.items[0].item_id]
    await other.forget(done.items[0].item_id)
    assert (await other.status()).rot.similar == 0


async def test_what_was_just_returned_is_no_new_memory(desk: Any, sit: Callable[..., Any]) -> None:
    said = "Bob drinks tea. He takes it black, without sugar."
    item_id = (await desk.remember(said, "Rome is warm")).items[0].item_id
    assert (await desk.remember("He takes it black, without sugar!")).items[0].new
    pack = (await desk.restore()).text
    await desk.recall("tea")
    other = sit()
    for text in ("Bob drinks tea.", f"- [{item_id}] fact: {said}", pack):
        done = (await desk.remember(text)).items[0]
        assert (done.new, done.why) == (False, "echo"), text
    for text in ("He takes it black, without milk.", "Bob drinks tea. He likes it.", "Bob drinks tea in Rome"):
        assert (await desk.remember(text)).items[0].new, text

    assert (await other.remember("Bob drinks tea")).echoes == 1  # whichever process returned it
    assert (await other.status()).rot.echoes == 4
    for meant in (
        Item(text="Bob drinks tea", kind="transcript", speaker="Bob"),
        Item(text="Bob drinks tea", key="drink"),
    ):
        assert (await desk.remember(meant)).items[0].new


async def test_what_was_superseded_a_moment_ago_can_be_said_again(desk: Any) -> None:
    await desk.remember("Bob drinks tea", Item(text="Bob drinks milk", key="drink"))
    await desk.restore()
    done = await desk.remember("Rome is warm", Item(text="Bob drinks tea", key="drink"), "Bob drinks milk")

    assert [item.why for item in done.items] == [None, None, None]
    assert sorted(await desk.texts()) == ["Bob drinks milk", "Bob drinks tea", "Rome is warm"]


async def test_what_nobody_was_given_is_counted(desk: Any, sit: Callable[..., Any]) -> None:
    await desk.remember("tea", "coffee", "milk")
    assert (await desk.status()).rot.never_returned == 3
    await desk.recall("coffee")
    await desk.memory.settle()

    assert (await sit().status()).rot.never_returned == 2


async def test_a_space_holds_no_more_than_it_may(sit: Callable[..., Any]) -> None:
    desk = sit(quota_items=3, quota_tokens=60)
    await desk.remember("one", "two", "three")
    with pytest.raises(QuotaExceeded, match="3 items"):
        await desk.remember("four")
    await desk.forget(containing="three")
    await desk.remember("four", who=Principal(subject="ann", namespace="other"))
    for number in range(20):
        try:
            await desk.remember(Item(text=f"word {number} of many that make it long", key="long"))
        except QuotaExceeded as error:
            assert "60 tokens" in str(error)
            break
    else:
        raise AssertionError("nothing was refused")
    await desk.forget(containing="that make it long", mode="erase")

    await desk.remember(Item(text="word one of many that make it long", key="long"))
    assert (await desk.status()).quota.startswith("3 of 3 items, ")


async def test_an_erased_text_is_neither_known_as_said_nor_as_returned(desk: Any) -> None:
    await desk.remember("The release of version two is planned for Friday")
    await desk.restore()
    await desk.forget(containing="Friday", mode="erase")
    done = await desk.remember("The release of version two is planned for Friday!")

    assert (done.items[0].new, done.items[0].similar) == (True, None)
    assert await desk.ask("SELECT count(*) FROM memory_returned") == [0]


async def test_what_is_made_of_one_template_is_compared_as_far_as_is_quick(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every text has the words of every other: looking at all pairs would take the square of them."""
    await desk.remember(
        *(f"backup {number} of the main database finished without any error" for number in range(9))
    )
    whole = (await desk.status()).rot.similar
    monkeypatch.setattr("memory_snapshot.similar.COMPARISONS", 20)
    some = (await desk.status()).rot.similar
    monkeypatch.setattr("memory_snapshot.similar.NEWEST", 2)
    done = await desk.remember("backup 10 of the main database finished without any error")

    assert whole == 9
    assert some == 2
    assert len(done.items[0].similar) == 2
