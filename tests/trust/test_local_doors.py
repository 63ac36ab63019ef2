"""A port of loopback can be reached by every program of the machine: only its owner's come in."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import httpx
import pytest
from doors import bearer, opened
from processes import serving

from usrland.errors import InvalidInput
from usrland.transport import bind

MODERN = {
    "accept": "application/json, text/event-stream",
    "mcp-protocol-version": "2026-07-28",
    "mcp-method": "tools/list",
}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}


async def test_who_has_the_token_of_this_start_comes_in_and_nobody_else(tmp_path: Path) -> None:
    with serving(tmp_path, "toy:service") as served:
        assert served.token_file is not None
        assert stat.S_IMODE(served.token_file.stat().st_mode) == 0o600
        assert stat.S_IMODE(served.token_file.parent.stat().st_mode) == 0o700
        for door in ("mcp", "sse"):
            async with opened(served.urls[f"toy/{door}"], served.token) as client:
                assert (await client.call_tool("add", {"left": 1})).structured_content == {"value": 3}
        strangers = httpx.AsyncClient()
        for sent in ({}, bearer(served.token + "x"), bearer(served.token[:-1]), {"authorization": "Bearer"}):
            for method, path in (("POST", "/mcp"), ("GET", "/sse"), ("POST", "/messages/?session_id=0")):
                answer = await strangers.request(method, served.url + path, headers={**MODERN, **sent}, json=LIST)
                assert answer.status_code == 401, (method, path, sent)
        in_the_address = f"{served.url}/mcp?access_token={served.token}"
        assert (await strangers.post(in_the_address, json=LIST)).status_code == 401
        await strangers.aclose()
        first = served.token
    with serving(tmp_path, "toy:service") as again:
        assert again.token != first


def test_the_token_is_gone_when_the_server_has_ended(tmp_path: Path) -> None:
    with serving(tmp_path, "toy:service") as served:
        file = served.token_file
        assert file is not None
        served.process.terminate()
        served.process.wait(10)

        assert not file.exists()


def test_a_socket_file_is_its_owners_alone_and_needs_no_token(tmp_path: Path) -> None:
    path = tmp_path / "usrland.sock"
    with serving(tmp_path / "home", "toy:service", host=f"unix:{path}") as served:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert served.token_file is None
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost") as client:
            assert "add" in client.post("/mcp", headers=MODERN, json=LIST).text
            assert client.post("/mcp", headers={**MODERN, "host": "evil.example"}, json=LIST).status_code == 421
        with pytest.raises(InvalidInput, match="cannot listen"):
            bind(f"unix:{path}", 0)


def test_a_socket_file_whose_server_died_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "usrland.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    with bind(f"unix:{path}", 0) as listener:
        assert listener.getsockname() == str(path)


def test_only_an_operator_who_says_so_opens_loopback_to_all(tmp_path: Path) -> None:
    with serving(tmp_path, "toy:service", USRLAND_SERVER_OPEN_LOOPBACK="true") as served:
        assert served.token_file is None
        assert "add" in httpx.post(f"{served.url}/mcp", headers=MODERN, json=LIST).text
        assert "every program on this machine may call" in "".join(served.said)
