from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest

from usrland.errors import Denied, InvalidInput, Timeout, Unavailable
from usrland.http import client, refusal


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_a_public_address_is_open(address: str) -> None:
    assert refusal(address, allow_private=False) is None


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "172.16.0.1",
        "100.64.0.1",
        "::1",
        "fd00::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:0a00:0001::1",
    ],
)
def test_a_private_address_is_open_only_where_allowed(address: str) -> None:
    assert refusal(address, allow_private=False) == "a private or loopback address"
    assert refusal(address, allow_private=True) is None


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.1.1",
        "fe80::1%eth0",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "fd00:ec2::254",
        "100.100.100.200",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
    ],
)
def test_metadata_and_addresses_of_no_one_machine_are_never_open(address: str) -> None:
    assert refusal(address, allow_private=True) is not None


@pytest.mark.parametrize("url", ["http://localhost/", "http://127.0.0.1/", "http://[::1]/", "http://0x7f.1/"])
async def test_every_spelling_of_loopback_is_refused(url: str) -> None:
    async with client() as http:
        with pytest.raises(Denied, match="not contacted"):
            await http.get(url)


async def test_the_connection_goes_to_a_checked_address_and_says_the_name(tickets: Any) -> None:
    tickets.answer("/", {"ok": True})
    port = tickets.url.rpartition(":")[2]
    async with client(allow_private=True) as http:
        response = await http.get(f"http://localhost:{port}/")

    assert response.json() == {"ok": True}
    assert tickets.seen[0].headers["host"] == f"localhost:{port}"
    assert tickets.seen[0].headers["accept-encoding"] == "identity"


async def test_a_name_that_resolves_to_a_private_address_too_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def two(*_: Any, **__: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("8.8.8.8", "10.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    async with client() as http:
        with pytest.raises(Denied):
            await http.get("http://example.com/")


async def test_a_name_that_changes_its_mind_after_the_check_gains_nothing(
    tickets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["127.0.0.1", "192.0.2.1"])
    asked: list[str] = []

    def turning(host: Any, port: Any, *_: Any, **__: Any) -> Any:
        asked.append(str(host))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    tickets.answer("/", {"ok": True})
    port = tickets.url.rpartition(":")[2]
    monkeypatch.setattr(socket, "getaddrinfo", turning)
    async with client(allow_private=True) as http:
        assert (await http.get(f"http://turning.example:{port}/")).json() == {"ok": True}

    assert len(asked) == 1


async def test_a_redirect_is_an_answer_and_is_not_followed(tickets: Any) -> None:
    tickets.answer("/", b"", status=302, location="http://169.254.169.254/")
    async with client(allow_private=True) as http:
        assert (await http.get(tickets.url)).status_code == 302


async def test_proxies_of_the_environment_are_not_used(tickets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    tickets.answer("/", {})
    async with client(allow_private=True) as http:
        assert (await http.get(tickets.url)).status_code == 200


async def test_an_answer_over_the_limit_is_refused(tickets: Any) -> None:
    tickets.answer("/", b"x" * 2_000)
    async with client(allow_private=True, max_answer_bytes=1_000) as http:
        with pytest.raises(InvalidInput, match="larger than 1000 bytes"):
            await http.get(tickets.url)
        with pytest.raises(InvalidInput, match="took effect"):
            await http.post(tickets.url)


async def test_an_answer_compressed_against_our_wish_is_refused(tickets: Any) -> None:
    tickets.answer("/", b"x", content_encoding="gzip")
    async with client(allow_private=True) as http:
        with pytest.raises(Unavailable, match="compressed"):
            await http.get(tickets.url)


async def test_nobody_listening_is_unavailable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with client(allow_private=True) as http:
        with pytest.raises(Unavailable, match="cannot be connected"):
            await http.get(f"http://127.0.0.1:{port}/")


async def test_a_name_that_does_not_resolve_is_unavailable() -> None:
    async with client() as http:
        with pytest.raises(Unavailable, match="resolved"):
            await http.get("http://no-such-host.invalid/")


@pytest.fixture
def stuck() -> Iterator[tuple[str, threading.Event]]:
    """A server that begins an answer and then says nothing until it is let go."""
    release = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun")
            release.wait(10)

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/", release
    release.set()
    thread.join()
    listener.close()


async def test_an_answer_that_does_not_end_in_time_is_a_timeout(stuck: tuple[str, threading.Event]) -> None:
    async with client(allow_private=True, total_seconds=0.3) as http:
        with pytest.raises(Timeout, match="in time"):
            await http.get(stuck[0])


async def test_a_write_that_got_no_answer_may_have_taken_effect(stuck: tuple[str, threading.Event]) -> None:
    async with client(allow_private=True, total_seconds=0.3) as http:
        with pytest.raises(Timeout, match="may have taken effect"):
            await http.post(stuck[0])


async def test_a_connection_that_breaks_is_unavailable(stuck: tuple[str, threading.Event]) -> None:
    stuck[1].set()
    async with client(allow_private=True) as http:
        with pytest.raises(Unavailable, match="broke"):
            await http.get(stuck[0])


def test_a_client_never_follows_by_itself() -> None:
    made = client()

    assert isinstance(made, httpx.AsyncClient)
    assert made.follow_redirects is False


@pytest.fixture
def scripted() -> Iterator[tuple[str, list[bytes], list[int]]]:
    """Answers each request on a connection with the next script; what it got, on which connection."""
    scripts: list[bytes] = []
    connections: list[int] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        number = 0
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            number += 1
            with connection:
                while scripts and connection.recv(65_536):
                    connections.append(number)
                    script = scripts.pop(0)
                    connection.sendall(script.removesuffix(b"HANG UP"))
                    if script.endswith(b"HANG UP"):
                        break

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/", scripts, connections
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def test_a_connection_is_kept_and_one_that_was_closed_meanwhile_is_replaced(
    scripted: tuple[str, list[bytes], list[int]],
) -> None:
    url, scripts, connections = scripted
    scripts += [OK, OK + b"HANG UP", OK]
    async with client(allow_private=True) as http:
        answers = [await http.get(url), await http.get(url)]
        while not _can_be_read(http):
            await anyio.lowlevel.checkpoint()
        answers.append(await http.get(url))

    assert [answer.text for answer in answers] == ["ok"] * 3
    assert connections == [1, 1, 2]


def _can_be_read(http: Any) -> bool:
    """Whether the server's goodbye has arrived on the connection that waits."""
    [[waiting]] = http._egress._exchange._idle.values()
    return not waiting.usable()


async def test_answers_are_read_in_every_form_http_gives_them(
    scripted: tuple[str, list[bytes], list[int]],
) -> None:
    url, scripts, _ = scripted
    scripts += [
        b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nuntil the endHANG UP",
    ]
    async with client(allow_private=True) as http:
        answers = [await http.get(url) for _ in range(4)]

    assert [(answer.status_code, answer.text) for answer in answers] == [
        (200, "ok"),
        (200, "abcde"),
        (204, ""),
        (200, "until the end"),
    ]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"SSH-2.0-OpenSSH\r\n\r\nHANG UP",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshortHANG UP",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\nHANG UP",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20 + OK,
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\nHANG UP",
    ],
    ids=["no HTTP", "cut short", "another protocol", "go on for ever", "an endless header"],
)
async def test_what_is_no_answer_is_a_broken_connection(
    scripted: tuple[str, list[bytes], list[int]], nonsense: bytes
) -> None:
    url, scripts, _ = scripted
    scripts += [nonsense]
    async with client(allow_private=True) as http:
        with pytest.raises(Unavailable, match="broke"):
            await http.get(url)


async def test_an_answer_that_was_not_read_to_its_end_takes_its_connection_with_it(
    scripted: tuple[str, list[bytes], list[int]],
) -> None:
    url, scripts, connections = scripted
    scripts += [b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nbegun", OK]
    async with client(allow_private=True) as http:
        async with http.stream("GET", url) as response:
            assert response.status_code == 200
        assert (await http.get(url)).text == "ok"

    assert connections == [1, 2]


async def test_a_client_keeps_the_cookies_of_its_system_and_proves_itself_where_it_is_told_to(
    tickets: Any,
) -> None:
    tickets.answer("/", {}, set_cookie="session=1; Path=/")
    async with client(allow_private=True) as http:
        await http.get(tickets.url)
        response = await http.get(tickets.url, auth=("ann", "secret"))

    assert tickets.seen[1].headers["cookie"] == "session=1"
    assert tickets.seen[1].headers["authorization"].startswith("Basic ")
    assert response.elapsed.total_seconds() > 0 and response.history == []
