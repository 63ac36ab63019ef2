"""A real authorization server, the SDK's own clients, and our servers: who gets in, and where it stops."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import httpx2
import jwt
import pytest
from authorization_server import Missing, authorization_server
from issuer import Signer, issuer
from mcp import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.auth.extensions.identity_assertion import IdentityAssertionOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from processes import Served, serving
from pydantic import AnyUrl
from wrong_tokens import ED, ES, PS, RS, WEAK, WRONG

SERVERS = (
    "filesystem_retrieval.server:service",
    "enterprise_connectors.server:service",
    "memory_snapshot.server:service",
)
NAMES = ("filesystem-retrieval", "enterprise-connectors", "memory-snapshot")
SCOPES = ["memory:read", "memory:write", "fs:read", "sys:find", "sys:call"]
REDIRECT = "http://127.0.0.1/callback"
IDP = Signer.make("idp")
IDP_ISSUER = "https://idp.example.org"


@dataclass
class Kept:
    """Where a client keeps its tokens."""

    client: OAuthClientInformationFull | None = None
    tokens: OAuthToken | None = None
    seen: list[OAuthToken] = field(default_factory=list)

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens
        self.seen.append(tokens)

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


@dataclass(frozen=True)
class World:
    issuer: str
    served: Served
    home: Path

    def url(self, name: str = "memory-snapshot") -> str:
        return self.served.urls[f"{name}/mcp"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """All three servers behind one port, and an authorization server that they trust."""
    home = tmp_path_factory.mktemp("home")
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    resources = [f"http://127.0.0.1:{port}/{name}/{door}" for name in NAMES for door in ("mcp", "sse")]
    idp = {"issuer": IDP_ISSUER, "jwks": {"keys": [IDP.jwk()]}}
    try:
        with authorization_server(scopes=SCOPES, resources=resources, redirect=REDIRECT, idp=idp) as url:
            (home / "usrland.toml").write_text(
                f'[oauth]\nissuer = "{url}"\n[filesystem-retrieval]\nembedding = "none"\n'
                '[memory-snapshot]\nembedding = "none"\n'
            )
            with serving(home, *SERVERS, port=port) as served:
                yield World(url, served, home)
    except Missing as reason:
        pytest.skip(str(reason))


@asynccontextmanager
async def client(url: str, auth: httpx2.Auth, mode: str = "auto") -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(auth=auth, timeout=30) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as made,
    ):
        yield made


REMEMBER = {"items": [{"text": "The ferry leaves at seven."}]}


def person(world: World, kept: Kept, scope: str) -> OAuthClientProvider:
    """What a desktop host does, with a browser that agrees to everything."""
    came: list[str] = []

    async def open_browser(url: str) -> None:
        async with httpx.AsyncClient(follow_redirects=False) as browser:
            while not url.startswith(REDIRECT):
                answer = await browser.get(url)
                assert answer.status_code in (302, 303), answer.text
                url = str(httpx.URL(url).join(answer.headers["location"]))
        came.append(url)

    async def callback() -> AuthorizationCodeResult:
        query = {name: values[0] for name, values in parse_qs(urlsplit(came[-1]).query).items()}
        assert "code" in query, query
        return AuthorizationCodeResult(code=query["code"], state=query["state"], iss=query["iss"])

    kept.client = OAuthClientInformationFull(
        client_id="desktop",
        redirect_uris=[AnyUrl(REDIRECT)],
        token_endpoint_auth_method="none",
        grant_types=["authorization_code"],
        issuer=world.issuer,
    )
    metadata = OAuthClientMetadata(
        redirect_uris=[AnyUrl(REDIRECT)], token_endpoint_auth_method="none", scope=scope, application_type="native"
    )
    return OAuthClientProvider(world.url(), metadata, kept, open_browser, callback)


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_a_person_signs_in_and_agrees_to_more_when_more_is_needed(world: World, era: str) -> None:
    kept = Kept()
    async with client(world.url(), person(world, kept, "memory:read"), era) as host:
        assert not (await host.call_tool("memory_status", {})).is_error
        first = kept.seen[-1]
        remembered = await host.call_tool("memory_remember", REMEMBER)

    assert set(str(first.scope).split()) == {"memory:read"}
    claims = jwt.decode(first.access_token, options={"verify_signature": False})
    assert (claims["aud"], claims["sub"], claims["client_id"]) == (world.url(), "ada", "desktop")
    if era == "auto":  # it names the tool in its headers: the standard challenge, and a second consent
        assert not remembered.is_error
        assert {"memory:read", "memory:write"} <= set(str(kept.seen[-1].scope).split())
    else:
        assert remembered.structured_content["error"]["missing_scopes"] == ["memory:write"]


async def test_a_machine_gets_its_own_token_and_steps_up(world: World) -> None:
    kept = Kept()
    robot = ClientCredentialsOAuthProvider(
        world.url(), kept, "robot", "robot-secret-of-the-tests", scope="memory:read", issuer=world.issuer
    )
    async with client(world.url(), robot) as host:
        assert not (await host.call_tool("memory_status", {})).is_error
        assert not (await host.call_tool("memory_remember", REMEMBER)).is_error

    assert [set(str(each.scope).split()) for each in kept.seen] == [
        {"memory:read"},
        {"memory:read", "memory:write"},
    ]


async def test_a_company_decides_by_its_identity_provider(world: World) -> None:
    """Enterprise-managed authorization: an ID-JAG of the company's provider for an access token (SEP-990)."""
    asked: list[tuple[str, str]] = []

    async def assertion(audience: str, resource: str) -> str:
        asked.append((audience, resource))
        now = int(time.time())
        claims = {
            "iss": IDP_ISSUER, "sub": "grace", "aud": audience, "resource": resource, "client_id": "enterprise",
            "jti": f"j{time.time_ns()}", "iat": now, "exp": now + 60, "scope": "memory:read",
        }  # fmt: skip
        return jwt.encode(claims, IDP.private, "ES256", headers={"typ": "oauth-id-jag+jwt", "kid": "idp"})

    kept = Kept()
    managed = IdentityAssertionOAuthProvider(
        world.url(), kept, "enterprise", "enterprise-secret-of-the-tests", world.issuer, assertion, "memory:read"
    )
    async with client(world.url(), managed) as host:
        assert not (await host.call_tool("memory_status", {})).is_error

    assert asked == [(world.issuer, world.url())]
    assert kept.tokens is not None
    assert jwt.decode(kept.tokens.access_token, options={"verify_signature": False})["sub"] == "grace"


async def test_a_token_for_one_server_opens_no_other_and_no_other_door(world: World) -> None:
    kept = Kept()
    robot = ClientCredentialsOAuthProvider(
        world.url(), kept, "robot", "robot-secret-of-the-tests", scope=" ".join(SCOPES), issuer=world.issuer
    )
    async with client(world.url(), robot) as host:
        assert not (await host.call_tool("memory_status", {})).is_error
    assert kept.tokens is not None
    headers = {"authorization": f"Bearer {kept.tokens.access_token}"}

    async with httpx.AsyncClient(headers=headers, timeout=30) as http:
        statuses = {
            door: (await http.request("POST" if door.endswith("/mcp") else "GET", url)).status_code
            for door, url in world.served.urls.items()
            if not door.startswith("memory-snapshot")
        }
    assert statuses == dict.fromkeys(statuses, 401) and len(statuses) == 4


async def test_the_log_names_who_called_and_for_whom_and_holds_no_token(world: World) -> None:
    kept = Kept()
    robot = ClientCredentialsOAuthProvider(
        world.url(), kept, "robot", "robot-secret-of-the-tests", scope="memory:read", issuer=world.issuer
    )
    async with client(world.url(), robot) as host:
        await host.call_tool("memory_status", {})
    assert kept.tokens is not None
    held = b"".join(file.read_bytes() for file in world.home.rglob("*") if file.is_file())

    assert kept.tokens.access_token.encode() not in held
    assert f'"principal":"robot@{urlsplit(world.issuer).netloc}"'.encode() in held
    assert kept.tokens.access_token not in "".join(world.served.said)


# -- everything wrong, at every mount


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("door", ["mcp", "sse"])
def test_no_wrong_token_opens_any_mount(matrix: tuple[Any, Served], name: str, door: str) -> None:
    made, served = matrix
    url = served.urls[f"{name}/{door}"]
    method = "POST" if door == "mcp" else "GET"
    with httpx.Client(timeout=30) as http:
        for what, make in WRONG.items():
            token = make(made)
            if token and token.isprintable():  # no client can send the others
                answer = http.request(method, url, headers={"authorization": f"Bearer {token}"})
                assert answer.status_code == 401, what
                assert f"/.well-known/oauth-protected-resource/{name}/mcp" in answer.headers["www-authenticate"]
        good = made.token(ES, url, scope=" ".join(SCOPES))
        for other in {"bearer": good + "x", "basic": good}.items():
            assert http.request(method, url, headers={"authorization": " ".join(other)}).status_code == 401
        assert http.request(method, f"{url}?access_token={good}").status_code == 401
        assert http.request(method, url, headers=[("authorization", f"Bearer {good}")] * 2).status_code == 400
        with http.stream(method, url, headers={"authorization": f"Bearer {good}"}) as answer:
            assert answer.status_code not in (401, 403)


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Served]]:
    """All three servers, and an issuer whose tokens can be made wrong."""
    home = tmp_path_factory.mktemp("matrix")
    with issuer() as made:
        made.keys = [signer.jwk() for signer in (ES, RS, PS, ED)] + [WEAK.jwk()]
        (home / "usrland.toml").write_text(f'[oauth]\nissuer = "{made.url}"\n')
        with serving(home, *SERVERS) as served:
            yield made, served
