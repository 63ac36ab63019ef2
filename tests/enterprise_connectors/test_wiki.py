"""MediaWiki, where Debian's package is installed: a wiki of our own on a free port. Redmine by its description."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import company
import pytest

from usrland.errors import Conflict, ConsentNeeded, Denied, InvalidInput, NotFound

Serve = Callable[..., AbstractAsyncContextManager[Any]]


@pytest.fixture(scope="module")
def wiki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    try:
        with company.mediawiki(tmp_path_factory.mktemp("wiki")) as table:
            yield f"{table}write = true\nallow_private = true\n"
    except company.Absent:
        pytest.skip("MediaWiki is not installed here")


async def test_pages_are_written_only_over_what_was_read_and_everything_is_taken_back(
    serve: Serve, wiki: str
) -> None:
    async with serve(wiki, **company.SECRETS) as run:

        async def call(operation: str, **arguments: Any) -> dict[str, Any]:
            return dict(await run("sys_call", name=f"wiki_{operation}", arguments=arguments))

        made = await call("write", title="Runbook", text="One & <two>", revision=0)
        with pytest.raises(Conflict, match="there already"):
            await call("write", title="Runbook", text="x", revision=0)
        changed = await call("write", title="Runbook", text="Three", revision=made["revision"])
        with pytest.raises(Conflict, match="changed since"):
            await call("write", title="Runbook", text="x", revision=made["revision"])
        preview = await run(
            "sys_call",
            name="wiki_write",
            arguments={"title": "Runbook", "text": "y", "revision": changed["revision"]},
            dry_run=True,
        )
        await call("revert", **changed["undo"])
        page = await call("read", title="Runbook")
        earlier = await call("read", title="Runbook", revision=changed["revision"])
        moved = await call("move", title="Runbook", to="Book")
        with pytest.raises(Conflict, match="already"):
            await call("move", title="Main Page", to="Book")
        with pytest.raises(ConsentNeeded) as asked:
            await call("delete", title="Book")
        arguments = {"title": "Book"}
        deleted = await run("sys_call", name="wiki_delete", arguments=arguments, confirm_token=asked.value.token)
        with pytest.raises(NotFound):
            await call("read", title="Book")
        await call("undelete", **deleted["undo"])
        back = await call("read", **{"title": moved["undo"]["title"]})
        history = await call("history", title="Book")
        with pytest.raises(InvalidInput):
            await call("read", title="Main Page", revision=page["revision"])

    assert page["text"] == back["text"] == "One & <two>" and earlier["text"] == "Three"
    assert "replace its 5 characters" in preview["would"]
    assert [each["bytes"] for each in history["items"]][-3:] == [11, 5, 11]


async def test_a_wiki_refuses_a_wrong_password_and_other_namespaces(serve: Serve, wiki: str) -> None:
    async with serve(wiki, WIKI_PASSWORD="wrong-word-1") as run:
        with pytest.raises(Denied, match="credentials") as refused:
            await run("sys_call", name="wiki_read", arguments={"title": "Main Page"})
    async with serve(f"{wiki}namespaces = [4]\n", **company.SECRETS) as run:
        with pytest.raises(Denied, match="namespace"):
            await run("sys_call", name="wiki_read", arguments={"title": "Main Page"})

    assert "wrong-word-1" not in str(refused.value)


async def test_redmine_is_described_whole_and_asked_with_its_key(serve: Serve, tickets: Any) -> None:
    tickets.answer("/issues/7.json", {"issue": {"id": 7, "subject": "x"}})
    tickets.answer("/projects/live/wiki/Start%20here.json", b"", status=204)
    table = f'[tracker]\nkind = "redmine"\nurl = "{tickets.url}"\nsecret = "env:K"\nwrite = true\n'
    table += "allow_private = true\n"
    async with serve(table, K="redmine-key-1") as run:
        entries = run.host.service.state["catalogue"].entries()
        found = await run("sys_find", request="create a ticket")
        read = await run("sys_call", name="tracker_get_issue", arguments={"id": "7"})
        page = {"id": "live", "title": "Start here", "body": {"wiki_page": {"text": "h1. Hi"}}}
        await run("sys_call", name="tracker_write_wiki_page", arguments=page)
        problems = run.host.service.state["catalogue"].problems

    assert not problems and len(entries) == 24
    assert entries["tracker_create_issue"].operation.undo == "tracker_delete_issue"
    assert entries["tracker_delete_issue"].operation.effect == "destroy"
    assert "tracker_create_issue" in [each["name"] for each in found["operations"]]
    assert read["body"]["issue"]["id"] == 7
    assert all(each.headers["x-redmine-api-key"] == "redmine-key-1" for each in tickets.seen)
