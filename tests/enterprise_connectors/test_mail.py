"""Mail, against a real IMAP server and a real SMTP server that these tests start."""

from __future__ import annotations

import email
import imaplib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from usrland.errors import Conflict, ConsentNeeded, Denied, InvalidInput, NotFound

Serve = Callable[..., AbstractAsyncContextManager[Any]]

PASSWORD = "post-word-1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def imap() -> Iterator[int]:
    """An IMAP server (pymap) in a process of its own."""
    pytest.importorskip("pymap")
    port = free_port()
    # its passwords are not hashed: that would take most of the time
    code = (
        "import sys, pymap.config; from pysasl.hashing import Cleartext; "
        "pymap.config.BuiltinHash = Cleartext; from pymap.main import main; sys.exit(main())"
    )
    arguments = ["--no-tls", "--host", "127.0.0.1", "--port", str(port), "dict", "--demo-user", "ann"]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, *arguments, "--demo-password", PASSWORD],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=0.1).close()
                break
            except OSError:
                assert process.poll() is None
                process_wait(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def process_wait(seconds: float) -> None:
    import time

    time.sleep(seconds)  # for a foreign process to listen; nothing tells when


def deliver(port: int, content: str, folder: str = "INBOX") -> None:
    client = imaplib.IMAP4("127.0.0.1", port)
    client.login("ann", PASSWORD)
    if folder != "INBOX":
        client.create(folder)
    client.append(folder, "", "", content.replace("\n", "\r\n").encode())
    client.logout()


@dataclass
class Post:
    """A mail server that keeps what it accepts; `before_confirming` may break the connection instead."""

    port: int
    letters: list[Any] = field(default_factory=list)
    drop: bool = False
    refuse: dict[str, str] = field(default_factory=dict)
    came: anyio.Event = field(default_factory=anyio.Event)


@asynccontextmanager
async def listening(post: Post) -> AsyncIterator[Post]:
    smtp = pytest.importorskip("aiosmtpd.smtp")

    class Handler:
        async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
            if address not in post.refuse:
                envelope.rcpt_tos.append(address)
            return post.refuse.get(address, "250 OK")

        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            post.letters.append(envelope)
            post.came.set()
            if post.drop:
                server.transport.abort()
            return "250 kept"

    import asyncio

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: smtp.SMTP(Handler(), hostname="localhost"), "127.0.0.1", post.port)
    try:
        yield post
    finally:
        server.close()
        await server.wait_closed()


def table(imap: int | None = None, smtp: int | None = None, **keys: str) -> str:
    more = "".join(f"{key} = {value}\n" for key, value in keys.items())
    box = f'imap = "imap://127.0.0.1:{imap}"\nusername = "ann"\npassword = "env:PASSWORD"\n' if imap else ""
    out = f'smtp = "smtp://127.0.0.1:{smtp}"\nsender = "Ann Lee <ann@example.org>"\n' if smtp else ""
    return f'[post]\nkind = "mail"\nplain = true\nwrite = true\n{box}{out}{more}'


LETTER = """From: Bob <bob@example.org>
To: ann@example.org
Subject: {subject}
Date: Mon, 02 Nov 2026 10:00:00 +0000
Message-ID: <{subject}@example.org>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/html; charset=utf-8

<p>The <b>price</b> is 5.</p><script>alert(1)</script>
--b
Content-Type: text/plain; name=list.txt
Content-Disposition: attachment; filename="../list.txt"

one two
--b--
"""


async def test_mail_is_found_read_moved_and_moved_back(serve: Serve, imap: int) -> None:
    for subject in ("offer", "invoice"):
        deliver(imap, LETTER.format(subject=subject))
    deliver(imap, LETTER.format(subject="old"), folder='"&AMQ-rchiv &- Co"')  # as the protocol writes it
    async with serve(table(imap), PASSWORD=PASSWORD) as run:
        folders = {each["name"] for each in (await run("post_folders"))["items"]}
        found = (await run("post_search", subject="offer", sender="bob", since="2020-01-01"))["items"]
        (id,) = [each["id"] for each in found]
        letter = await run("post_read", id=id)
        attached = await run("post_attachment", id=id, number=1)
        marked = await run("post_mark", ids=[id], mark="seen")
        preview = await run("post_move", ids=[id], to="Ärchiv & Co", dry_run=True)
        moved = await run("post_move", ids=[id], to="Ärchiv & Co")
        gone = (await run("post_search", subject="offer"))["items"]
        there = (await run("post_search", folder="Ärchiv & Co", subject="offer"))["items"]
        with pytest.raises(NotFound, match="moved"):
            await run("post_read", id=id)
        await run("post_move", **moved["undo"])
        back = (await run("post_search", subject="offer"))["items"]
        quoted = (await run("post_search", text='no" OR ALL "'))["items"]
        with pytest.raises(Conflict, match="made anew"):
            await run("post_read", id=id.replace("INBOX/", "INBOX/1"))
        with pytest.raises(InvalidInput, match="not one of ours"):
            await run("post_read", id="1")

    assert "Ärchiv & Co" in folders
    assert letter["text"] == "The price is 5." and letter["attachments"][0]["filename"] == "list.txt"
    assert attached["handle"].startswith("file_") and attached["bytes"] == 7
    assert marked["changed"] == 1 and marked["undo"]["remove"] is True
    assert preview["affected"] == moved["moved"] == 1 and "offer" in preview["examples"][0]
    assert gone == [] and there[0]["marks"] == ["seen"] and back[0]["marks"] == ["seen"]
    assert quoted == []


async def test_only_the_folders_and_recipients_of_the_configuration_are_there(serve: Serve, imap: int) -> None:
    async with serve(table(imap, folders='["INBOX"]'), PASSWORD=PASSWORD) as run:
        assert [each["name"] for each in (await run("post_folders"))["items"]] == ["INBOX"]
        with pytest.raises(Denied, match="not available"):
            await run("post_search", folder="Sent")
    async with serve(table(smtp=1, recipients='["*@example.org"]')) as run:
        with pytest.raises(Denied, match="may not be written to"):
            await run("post_send", to=["eve@evil.test"], subject="x", text="y", dry_run=True)
        with pytest.raises(InvalidInput):
            await run("post_send", to=["a@example.org\r\nBcc: eve@evil.test"], subject="x", text="y", dry_run=True)
        with pytest.raises(InvalidInput):
            await run("post_send", to=["a@example.org"], subject="x\r\nBcc: eve@evil.test", text="y", dry_run=True)
    async with serve(table(imap), PASSWORD="wrong-word-1") as run:
        with pytest.raises(Denied, match="credentials") as refused:
            await run("post_folders")

    assert "wrong-word-1" not in str(refused.value)


async def test_a_message_is_sent_once_for_one_key_and_after_consent_even_where_the_memory_of_it_is_lost(
    serve: Serve, tmp_path: Path
) -> None:
    arguments = {"to": ["bob@example.org"], "cc": ["cyd@example.org"], "subject": "Hé", "text": "One\n.two"}
    async with listening(Post(free_port())) as post, serve(table(smtp=post.port)) as run:
        with pytest.raises(ConsentNeeded) as asked:
            await run("post_send", **arguments)
        assert post.letters == []
        sent = await run("post_send", **arguments, confirm_token=asked.value.token, idempotency_key="k")
        again = await run("post_send", **arguments, idempotency_key="k", confirm_token=await token(run, arguments))
        listed = await run("post_outbox")

    def forget() -> None:
        for file in (tmp_path / "home" / "enterprise-connectors").glob("calls.sqlite*"):
            file.unlink()

    forget()
    async with listening(post), serve(table(smtp=post.port, ask="false")) as run:
        forgotten = await run("post_send", **arguments, idempotency_key="k")
    forget()
    async with serve(table(smtp=post.port, ask="false")) as run:
        with pytest.raises(InvalidInput, match="another message"):
            await run("post_send", **{**arguments, "text": "Two"}, idempotency_key="k")

    (envelope,) = post.letters
    message = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert sent["id"] == forgotten["id"]
    assert sent == again and sent["state"] == "sent" == listed["items"][0]["state"]
    assert envelope.rcpt_tos == ["bob@example.org", "cyd@example.org"]
    assert message["Subject"] == "Hé" and message.get_content() == "One\r\n.two\r\n"


async def token(run: Any, arguments: dict[str, Any]) -> str:
    with pytest.raises(ConsentNeeded) as asked:
        await run("post_send", **arguments)
    return asked.value.token


async def test_a_message_waits_for_a_mail_server_that_is_down_and_goes_when_it_is_back(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enterprise_connectors.mail.outbox.FIRST_PAUSE_SECONDS", 0)
    monkeypatch.setattr("enterprise_connectors.mail.connector.LOOK_SECONDS", 0.05)
    post = Post(free_port())
    async with serve(table(smtp=post.port, ask="false")) as run:
        stored = await run("post_send", to=["bob@example.org"], subject="later", text="x")
    async with (
        listening(post),
        serve(table(smtp=post.port, ask="false")) as run,
    ):  # a process that knows only the disk
        with anyio.fail_after(60):
            await post.came.wait()
        state = ""
        while state != "sent":  # it is written down once the server has answered
            state = (await run("post_outbox"))["items"][0]["state"]

    assert stored["state"] == "waiting" and "cannot be reached" in stored["note"]
    assert len(post.letters) == 1


async def test_a_message_whose_confirmation_is_lost_is_in_doubt_and_never_sent_again_by_itself(
    serve: Serve,
) -> None:
    async with listening(Post(free_port(), drop=True)) as post, serve(table(smtp=post.port, ask="false")) as run:
        doubtful = await run("post_send", to=["bob@example.org"], subject="s", text="x", idempotency_key="k")
        again = await run("post_send", to=["bob@example.org"], subject="s", text="x", idempotency_key="k")
        due = len(post.letters)
        post.drop = False
        sent = await run("post_send_again", id=doubtful["id"])
        with pytest.raises(InvalidInput, match="nothing to send again"):
            await run("post_send_again", id=doubtful["id"])

    ids = {email.message_from_bytes(each.content)["Message-ID"] for each in post.letters}
    assert doubtful["state"] == again["state"] == "in doubt" and due == 1
    assert sent["state"] == "sent" and len(post.letters) == 2 and len(ids) == 1


async def test_what_a_mail_server_refuses_is_told_and_only_the_others_have_it(serve: Serve) -> None:
    post = Post(free_port(), refuse={"no@example.org": "550 no such user", "later@example.org": "450 busy"})
    async with listening(post), serve(table(smtp=post.port, ask="false")) as run:
        refused = await run("post_send", to=["no@example.org"], subject="s", text="x")
        some = await run("post_send", to=["bob@example.org", "no@example.org"], subject="s", text="x")
        later = await run("post_send", to=["bob@example.org", "later@example.org"], subject="s", text="x")

    assert refused["state"] == "refused" and "no such user" in refused["note"]
    assert some["state"] == "sent" and "not to no@example.org" in some["note"]
    assert later["state"] == "waiting" and later["recipients"] == ["later@example.org"]


async def test_letters_that_a_killed_process_left_behind_are_found_out(tmp_path: Path) -> None:
    from enterprise_connectors.mail.outbox import Delivery, Outbox, Parcel

    now = [1_000_000.0]
    outbox = Outbox(tmp_path, clock=lambda: now[0])

    def parcel(id: str) -> Parcel:
        return Parcel(id=id, sender="a@x", recipients=("b@x",), subject=id, content=b"x", digest=id)

    class Killed(BaseException):
        pass

    def dies_before(letter: Parcel, brink: Callable[[], None]) -> Delivery:
        raise Killed

    def dies_after(letter: Parcel, brink: Callable[[], None]) -> Delivery:
        brink()
        raise Killed

    for id, dies in (("before", dies_before), ("after", dies_after)):
        outbox.put(parcel(id), "ann")
        with pytest.raises(Killed):
            outbox.deliver(id, dies)
    held = {each.id: each.state for each in outbox.listed("ann")}
    now[0] += 10_000
    due = outbox.due()
    states = {each.id: each.state for each in outbox.listed("ann")}
    outbox.close()

    assert held == {"before": "claimed", "after": "handed over"}
    assert due == ["before"] and states == {"before": "waiting", "after": "in doubt"}


async def test_a_new_letter_is_left_to_whoever_stored_it_for_a_moment(tmp_path: Path) -> None:
    from enterprise_connectors.mail.outbox import Outbox, Parcel

    now = [1_000_000.0]
    outbox = Outbox(tmp_path, clock=lambda: now[0])
    outbox.put(Parcel(id="new", sender="a@x", recipients=("b@x",), subject="", content=b"x", digest="d"), "ann")
    at_once = outbox.due()
    now[0] += 10
    later = outbox.due()
    outbox.close()

    assert at_once == [] and later == ["new"]
