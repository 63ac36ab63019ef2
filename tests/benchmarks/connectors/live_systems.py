"""One scripted task on each of a company's systems, through an MCP client that is answered by the running server.

    python tests/benchmarks/connectors/live_systems.py [SYSTEM...]

Starts the real systems (see `tests/support/company.py`), writes one `connectors.toml` for all of them, reviews
what has to be reviewed with the command line, starts `python -m enterprise_connectors`, and works as a host does:
`sys_find`, `sys_describe`, `sys_call`; questions of the server are answered with yes. What declares an undo is
undone, and that is checked in the system itself. Prints a table; exits with 1 where a step failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

import company
from mcp import Client, StdioServerParameters
from mcp.types import ElicitResult

Json = dict[str, Any]


class Failed(Exception):
    """Raised where an answer is not what it should be."""


@dataclass
class Task:
    """What was done on one system."""

    client: Client
    system: str
    steps: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)

    async def call(self, operation: str, /, **arguments: Any) -> Json:
        """One call through the server; counts as a step when it is answered."""
        name = f"{self.system}_{operation}"
        result = await self.client.call_tool("sys_call", {"name": name, "arguments": arguments})
        if result.is_error:
            raise Failed(f"{name}: {result.content[0].text[:300]}")  # type: ignore[union-attr]
        self.steps.append(operation)
        return dict(result.structured_content or {})

    async def refused(self, operation: str, /, **arguments: Any) -> str:
        """A call that has to be refused."""
        result = await self.client.call_tool(
            "sys_call", {"name": f"{self.system}_{operation}", "arguments": arguments}
        )
        expect(result.is_error, f"{operation} was not refused")
        self.steps.append(f"{operation} refused")
        return str(result.content[0].text)  # type: ignore[union-attr]

    async def preview(self, operation: str, /, **arguments: Any) -> Json:
        result = await self.client.call_tool(
            "sys_call", {"name": f"{self.system}_{operation}", "arguments": arguments, "dry_run": True}
        )
        if result.is_error:
            raise Failed(f"{operation}: {result.content[0].text[:300]}")  # type: ignore[union-attr]
        self.steps.append(f"{operation} dry run")
        return dict(result.structured_content or {})

    async def find(self, request: str, expected: str) -> None:
        """Plain words have to lead to the operation."""
        found = await self.client.call_tool("sys_find", {"request": request, "system": self.system})
        names = [each["name"] for each in dict(found.structured_content or {})["operations"]]
        expect(f"{self.system}_{expected}" in names, f"{request!r} found {names}")
        described = await self.client.call_tool("sys_describe", {"name": f"{self.system}_{expected}"})
        expect(not described.is_error, f"{expected} cannot be described")
        self.steps.append(f"find {expected}")


def expect(holds: Any, why: str) -> None:
    if not holds:
        raise Failed(why)


async def tracker(task: Task) -> None:
    await task.find("create a new ticket", "create_issue")
    project = (await task.call("create_project", body={"project": {"name": "Live", "identifier": "live"}}))["body"]
    id = project["project"]["id"]
    statuses = (await task.call("list_statuses"))["body"]["issue_statuses"]
    trackers = (await task.call("list_trackers"))["body"]["trackers"]
    issue = {
        "project_id": id,
        "subject": "Printer <on> fire & smoke",
        "tracker_id": trackers[0]["id"],
        "due_date": "2026-12-01",
    }
    made = (await task.call("create_issue", body={"issue": issue}))["body"]["issue"]
    expect(made["subject"] == issue["subject"], "the subject is another")
    number = str(made["id"])
    await task.call("update_issue", id=number, body={"issue": {"status_id": statuses[1]["id"], "notes": "On it."}})
    read = (await task.call("get_issue", id=number, include="journals"))["body"]["issue"]
    expect(read["status"]["id"] == statuses[1]["id"] and read["journals"][0]["notes"] == "On it.", "not updated")
    await task.call("update_issue", id=number, body={"issue": {"status_id": made["status"]["id"]}})
    read = (await task.call("get_issue", id=number))["body"]["issue"]
    expect(read["status"]["id"] == made["status"]["id"], "the update was not taken back")
    task.undone.append("update_issue")
    found = (
        await task.call("list_issues", project_id=str(id), subject="~fire", pick=["issues.id", "total_count"])
    )["body"]
    expect(found["total_count"] == 1, f"found {found}")
    upload = (await task.call("upload", filename="note.txt", body={"text": "plain words"}))["body"]["upload"]
    attached = {"uploads": [{"token": upload["token"], "filename": "note.txt", "content_type": "text/plain"}]}
    await task.call("update_issue", id=number, body={"issue": attached})
    read = (await task.call("get_issue", id=number, include="attachments"))["body"]["issue"]
    expect(read["attachments"][0]["filesize"] == len("plain words"), "the upload is not what was sent")
    activities = (await task.call("list_activities"))["body"]["time_entry_activities"]
    spent = {"issue_id": made["id"], "hours": 1.5, "activity_id": activities[0]["id"], "spent_on": "2026-11-25"}
    entry = (await task.call("log_time", body={"time_entry": spent}))["body"]["time_entry"]
    await task.call("delete_time_entry", id=str(entry["id"]))
    expect(not (await task.call("list_time", issue_id=made["id"]))["body"]["time_entries"], "time is still logged")
    task.undone.append("log_time")
    page = {"id": str(id), "title": "Start"}
    await task.call("write_wiki_page", **page, body={"wiki_page": {"text": "h1. One"}})
    first = (await task.call("read_wiki_page", **page))["body"]["wiki_page"]
    await task.call(
        "write_wiki_page", **page, body={"wiki_page": {"text": "h1. Two", "version": first["version"]}}
    )
    stale = await task.refused(
        "write_wiki_page", **page, body={"wiki_page": {"text": "x", "version": first["version"]}}
    )
    expect("conflict" in stale, f"not told as a conflict: {stale}")
    await task.call("write_wiki_page", **page, body={"wiki_page": {"text": first["text"]}})
    expect((await task.call("read_wiki_page", **page))["body"]["wiki_page"]["text"] == "h1. One", "not taken back")
    task.undone.append("write_wiki_page")
    await task.call("search", q="fire")
    await task.call("delete_issue", id=number)
    await task.refused("get_issue", id=number)
    task.undone.append("create_issue")
    await task.call("delete_project", id=str(id))
    expect(not (await task.call("list_projects"))["body"]["projects"], "the project is still there")
    task.undone.append("create_project")


async def wiki(task: Task) -> None:
    await task.find("write a wiki page", "write")
    made = await task.call("write", title="Runbook", text="Step one.\n\nStep two.", revision=0, summary="begin")
    await task.refused("write", title="Runbook", text="x", revision=0)
    page = await task.call("read", title="Runbook")
    expect(page["revision"] == made["revision"] and page["text"].startswith("Step one"), "not what was written")
    changed = await task.call("write", title="Runbook", text="Step 1.\n\nStep two.", revision=page["revision"])
    await task.refused("write", title="Runbook", text="x", revision=page["revision"])
    await task.call("revert", **changed["undo"])
    expect((await task.call("read", title="Runbook"))["text"] == page["text"], "not taken back")
    task.undone.append("write")
    moved = await task.call("move", title="Runbook", to="Runbook 2")
    await task.call("delete", title="Runbook")
    await task.call("move", **moved["undo"])
    expect((await task.call("read", title="Runbook"))["text"] == page["text"], "not moved back")
    task.undone.append("move")
    expect(len((await task.call("history", title="Runbook"))["items"]) >= 3, "no history")
    deleted = await task.call("delete", title="Runbook")
    await task.refused("read", title="Runbook")
    await task.call("undelete", **deleted["undo"])
    expect((await task.call("read", title="Runbook"))["text"] == page["text"], "not brought back")
    task.undone.append("delete")
    await task.call("search", text="Runbook", titles=True)


async def post(task: Task) -> None:
    await task.find("send an e-mail", "send")
    await task.preview("send", to=["ann@example.org"], subject="Hi", text="x")
    sent = await task.call("send", to=["ann@example.org"], subject="Grüße", text="Hello.\n.dot")
    expect(sent["state"] == "sent", f"state {sent}")
    (line,) = (await task.call("search", subject="Grüße"))["items"]
    letter = await task.call("read", id=line["id"])
    expect("Hello." in letter["text"] and ".dot" in letter["text"], f"text {letter['text']!r}")
    marked = await task.call("mark", ids=[line["id"]], mark="flagged")
    await task.call("mark", **marked["undo"])
    task.undone.append("mark")
    moved = await task.call("move", ids=[line["id"]], to="Archive")
    expect((await task.call("search", folder="Archive"))["items"], "not moved")
    await task.call("move", **moved["undo"])
    expect((await task.call("search", flagged=False))["items"], "not moved back")
    expect(not (await task.call("search", flagged=True))["items"], "still flagged")
    task.undone.append("move")
    answer = (await task.call("search"))["items"][0]["id"]
    await task.call("send", to=["ann@example.org"], subject="Re: Grüße", text="Thanks", answers=answer)
    expect(all(each["state"] == "sent" for each in (await task.call("outbox"))["items"]), "not all sent")


async def work(task: Task) -> None:
    queue = (await task.call("status"))["items"][0]["name"]
    await task.find("publish a message", "publish")
    await task.call("publish", queue=queue, text='{"n": 1}')
    expect((await task.call("peek", queue=queue))["items"][0]["text"] == '{"n": 1}', "not seen")
    (taken,) = (await task.call("take", queue=queue))["items"]
    await task.call("give_back", receipts=[taken["receipt"]])
    task.undone.append("take")
    (taken,) = (await task.call("take", queue=queue))["items"]
    await task.call("done", receipts=[taken["receipt"]])
    expect((await task.call("status"))["items"][0]["ready"] == 0, "still there")


async def events(task: Task) -> None:
    stream = (await task.call("streams"))["items"][0]["name"]
    first = await task.call("publish", subject=f"{stream}.a", text="one")
    expect((await task.call("read", stream=stream))["items"][0]["text"] == "one", "not stored")
    await task.call("remove", stream=stream, sequence=first["sequence"])
    expect(not (await task.call("read", stream=stream))["items"], "not removed")
    task.undone.append("publish")
    await task.call("publish", subject=f"{stream}.a", text="two")
    (taken,) = (await task.call("take", stream=stream))["items"]
    await task.call("give_back", receipts=[taken["receipt"]])
    task.undone.append("take")
    (taken,) = (await task.call("take", stream=stream))["items"]
    await task.call("done", receipts=[taken["receipt"]])


async def plant(task: Task) -> None:
    refusal = await task.refused("listen", topic="#")
    topic = refusal.partition("Available: ")[2].partition("#")[0] + "valve"
    await task.call("publish", topic=topic, text="open", retain=True)
    expect((await task.call("listen", topic=topic))["items"][0]["text"] == "open", "not kept")
    await task.preview("clear", topic=topic)
    await task.call("clear", topic=topic)
    expect(not (await task.call("listen", topic=topic))["items"], "not cleared")


async def queue(task: Task) -> None:
    refusal = await task.refused("read", stream="x")
    expect("not available" in refusal, refusal)
    prefix = TABLES["queue"].partition('streams = ["')[2].partition("*")[0]
    added = await task.call("add", stream=f"{prefix}orders", fields={"n": "1"})
    expect((await task.call("read", stream=f"{prefix}orders"))["items"][0]["id"] == added["id"], "not added")
    await task.call("remove", stream=f"{prefix}orders", ids=[added["id"]])
    expect(not (await task.call("read", stream=f"{prefix}orders"))["items"], "not removed")
    task.undone.append("add")


async def archive(task: Task) -> None:
    await task.find("upload an object to a bucket", "put")
    at = {"bucket": "reports", "key": "2026/Q4 é+.txt"}
    await task.call("put", **at, text="one", if_etag="")
    second = await task.call("put", **at, text="two")
    await task.call("restore", **second["undo"])
    expect((await task.call("read", **at))["text"] == "one", "not restored")
    task.undone.append("put")
    expect((await task.call("objects", bucket="reports", prefix="2026/"))["items"], "not listed")
    await task.preview("delete", **at)
    deleted = await task.call("delete", **at)
    await task.refused("read", **at)
    await task.call("restore", **deleted["undo"])
    expect((await task.call("read", **at))["text"] == "one", "not brought back")
    task.undone.append("delete")
    await task.call("versions", **at)


async def staff(task: Task) -> None:
    await task.find("look up a person in the directory", "search")
    (ann,) = (await task.call("search", where=[{"attribute": "cn", "value": "Lee", "match": "contains"}]))["items"]
    changed = await task.call("set_phone", dn=ann["dn"], values=["222"])
    await task.call("set_phone", **changed["undo"])
    expect((await task.call("read", dn=ann["dn"]))["attributes"]["telephoneNumber"] == ["111"], "not taken back")
    task.undone.append("set_phone")
    await task.refused("search", where=[{"attribute": "userPassword", "value": "x"}])


async def shop(task: Task) -> None:
    await task.find("find items", "items")
    made = await task.call("add_item", name='"} evil {')
    expect(
        (await task.call("items", fields=["name"]))["data"] == [{"name": '"} evil {'}], "not added as it was said"
    )
    await task.preview("remove_item", id=made["data"]["id"])
    await task.call("remove_item", id=made["data"]["id"])
    expect((await task.call("items"))["data"] == [], "not removed")
    task.undone.append("add_item")


async def files(task: Task) -> None:
    await task.find("read a text file", "read_text_file")
    folder = json.loads(TABLES["files"].partition("command = ")[2].partition("\n")[0])[-1]
    await task.preview("write_file", path=f"{folder}/a.txt", content="hello")
    await task.call("write_file", path=f"{folder}/a.txt", content="hello")
    expect((await task.call("read_text_file", path=f"{folder}/a.txt"))["text"] == "hello", "not written")
    await task.call("list_directory", path=folder)
    await task.refused("read_text_file", path="/etc/passwd")


async def clock(task: Task) -> None:
    arguments = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
    expect("21:00" in json.dumps(await task.call("convert_time", **arguments)), "another time")
    await task.preview("get_current_time", timezone="UTC")
    await task.call("get_current_time", timezone="UTC")
    await task.refused("convert_time", source_timezone="Nowhere/None", time="12:00", target_timezone="UTC")


SYSTEMS: dict[str, tuple[str, Callable[[Path], Any], Callable[[Task], Awaitable[None]]]] = {
    "tracker": ("Redmine", company.redmine, tracker),
    "wiki": ("MediaWiki", company.mediawiki, wiki),
    "post": ("IMAP (Dovecot) and SMTP", company.mail, post),
    "work": ("RabbitMQ", company.rabbitmq, work),
    "events": ("NATS JetStream", company.nats, events),
    "plant": ("MQTT (Mosquitto)", company.mqtt, plant),
    "queue": ("Redis streams", company.redis, queue),
    "archive": ("S3 (moto)", company.objects, archive),
    "staff": ("LDAP (slapd)", company.directory, staff),
    "shop": ("GraphQL (graphql-core)", company.graphql, shop),
    "files": ("MCP: server-filesystem (npm)", company.foreign_npm, files),
    "clock": ("MCP: mcp-server-time (PyPI)", company.foreign_pypi, clock),
}
TABLES: dict[str, str] = {}


async def yes(context: Any, params: Any) -> ElicitResult:
    return ElicitResult(action="accept", content={"confirm": True})


def review(home: Path) -> None:
    """What the operator does once: look, then accept."""
    environment = {**os.environ, **company.SECRETS, "USRLAND_HOME": str(home)}
    for option in ("--diff", "--accept"):
        command = [sys.executable, "-m", "usrland.cli", "syscalls", option]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)


async def run(home: Path, absent: dict[str, str]) -> int:
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "enterprise_connectors"],
        env={**company.SECRETS, "USRLAND_HOME": str(home), "USRLAND_ENTERPRISE_CONNECTORS_EMBEDDING": "none"},
    )
    failures = 0
    print(f"{'system':30} {'steps':>5}  {'seconds':>7}  undone and checked")
    async with Client(server, elicitation_callback=yes) as client:
        for name, (title, _, steps) in SYSTEMS.items():
            if name not in TABLES:
                if name in absent:
                    print(f"{title:30} absent: {absent[name]}")
                continue
            task, begun = Task(client, name), time.monotonic()
            try:
                await steps(task)
                said = ", ".join(task.undone) or "-"
            except Exception as error:  # the others are tried all the same
                failures += 1
                said = f"FAILED after {task.steps[-1:]}: {error!r}"
            print(f"{title:30} {len(task.steps):>5}  {time.monotonic() - begun:>7.1f}  {said}")
    return failures


def main() -> int:
    wanted = sys.argv[1:] or list(SYSTEMS)
    absent: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="company-")))
        home = work / "home"
        home.mkdir()
        for name in wanted:
            try:
                table = stack.enter_context(SYSTEMS[name][1](work))
            except company.Absent as error:
                absent[name] = str(error)
                continue
            head, line, rest = table.partition("\n")
            TABLES[name] = f"{head}{line}write = true\nallow_private = true\n{rest}"
        (home / "connectors.toml").write_text("\n".join(TABLES.values()), encoding="utf-8")
        review(home)
        return 1 if asyncio.run(run(home, absent)) else 0


if __name__ == "__main__":
    sys.exit(main())
