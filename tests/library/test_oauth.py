"""Access tokens of an authorization server: who is let in, and everything that keeps one out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import toy
from issuer import Issuer, Signer, issuer
from wrong_tokens import ED, ES, HERE, PS, RS, WEAK, WRONG

from usrland.errors import InvalidInput
from usrland.identity import OAuth, TokenFile, Verifier
from usrland.identity.keys import COOLDOWN_SECONDS, MAX_AGE_SECONDS, KeySet
from usrland.settings import Settings
from usrland.transport import application, bind

MODERN = {"mcp-protocol-version": "2026-07-28", "accept": "application/json, text/event-stream"}
DOORS = ("/mcp", "/sse")


@dataclass
class World:
    issuer: Issuer
    home: Path
    clock: float = 1_000.0

    def verifier(self, **config: Any) -> Verifier:
        keys = KeySet(self.issuer.url, clock=lambda: self.clock)
        return Verifier(OAuth(issuer=self.issuer.url, **config), keys)

    @asynccontextmanager
    async def served(self, **config: Any) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
        """The toy behind this issuer: a client in the same process, and the server's address."""
        settings = Settings(home=self.home, tables={"oauth": {"issuer": self.issuer.url, **config}})
        with bind("127.0.0.1", 0) as listener:
            base = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with (
                application([toy.service(settings)], settings, listener) as app,
                httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base) as client,
            ):
                yield client, base


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with issuer() as made:
        made.keys = [signer.jwk() for signer in (ES, RS, PS, ED)] + [WEAK.jwk()]
        yield World(made, tmp_path)


def post(name: str = "add") -> dict[str, Any]:
    """A call of the modern era, as a request to send."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    arguments = {"left": 1} if name == "add" else {"name": "a", "text": "b"}
    params = {"name": name, "arguments": arguments, "_meta": meta}
    return {
        "json": {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params},
        "headers": {**MODERN, "mcp-method": "tools/call", "mcp-name": name},
    }


@pytest.mark.parametrize("what", WRONG)
async def test_a_token_with_anything_wrong_is_nobodys(world: World, what: str) -> None:
    verifier = world.verifier()

    assert await verifier.principal(WRONG[what](world.issuer), audience=[HERE]) is None
    assert await verifier.principal(world.issuer.token(ES, HERE), audience=[HERE]) is not None


@pytest.mark.parametrize("signer", [ES, RS, PS, ED], ids=lambda signer: signer.kid)
async def test_a_good_token_says_who_acts_for_whom_and_what_they_may(world: World, signer: Signer) -> None:
    token = world.issuer.token(
        signer, ["https://else", HERE], scope="toy:read toy:write *", org="acme", part="emea"
    )

    principal = await world.verifier(tenant_claim="org", namespace_claim="part").principal(token, audience=[HERE])

    assert principal is not None
    assert principal.subject == f"alice@{world.issuer.url.removeprefix('http://')}"
    assert (principal.client, principal.tenant, principal.namespace) == ("desktop", "acme", "emea")
    assert principal.scopes == {"toy:read", "toy:write"}, "no issuer hands out everything"
    assert principal.source == "oauth"


async def test_a_tenant_that_the_token_should_name_is_not_guessed(world: World) -> None:
    verifier = world.verifier(tenant_claim="org")

    assert await verifier.principal(world.issuer.token(ES, HERE), audience=[HERE]) is None
    assert await verifier.principal(world.issuer.token(ES, HERE, org=7), audience=[HERE]) is None


async def test_unknown_keys_do_not_make_us_ask_the_issuer_again_and_again(world: World) -> None:
    verifier = world.verifier()
    for number in range(200):
        token = world.issuer.token(ES, HERE, header={"kid": f"k{number}"})
        assert await verifier.principal(token, audience=[HERE]) is None

    assert world.issuer.fetches == 1
    assert await verifier.principal(world.issuer.token(ES, HERE), audience=[HERE]) is not None


async def test_keys_are_rotated_and_forgotten(world: World) -> None:
    verifier, new = world.verifier(), Signer.make("new")
    old_token, new_token = world.issuer.token(ES, HERE), world.issuer.token(new, HERE)

    async def accepted(token: str) -> bool:
        return await verifier.principal(token, audience=[HERE]) is not None

    assert await accepted(old_token)
    world.issuer.keys = [new.jwk(), ES.jwk()]
    assert not await accepted(new_token), "it was asked a moment ago"
    world.clock += COOLDOWN_SECONDS + 1
    assert await accepted(new_token)
    assert await accepted(old_token)
    world.issuer.keys = [new.jwk()]
    world.clock += MAX_AGE_SECONDS
    assert not await accepted(old_token)
    assert await accepted(new_token)


async def test_an_issuer_that_is_silent_is_believed_for_ten_minutes(world: World) -> None:
    verifier = world.verifier()
    token = world.issuer.token(ES, HERE)
    assert await verifier.principal(token, audience=[HERE]) is not None
    world.issuer.status = 500

    world.clock += MAX_AGE_SECONDS - 1
    assert await verifier.principal(token, audience=[HERE]) is not None
    world.clock += COOLDOWN_SECONDS + 2
    assert await verifier.principal(token, audience=[HERE]) is None
    world.issuer.status = 200
    world.clock += COOLDOWN_SECONDS + 1
    assert await verifier.principal(token, audience=[HERE]) is not None


@pytest.mark.parametrize(
    "jwk",
    [
        {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"},
        ES.jwk(use="enc"),
        ES.jwk(alg="ES384"),
        ES.jwk(key_ops=["sign"]),
        ES.jwk(d="c2VjcmV0"),
        ES.jwk(x="AAAA"),
        ES.jwk(crv="P-192"),
        "not a key",
    ],
    ids=[
        "symmetric",
        "to encrypt",
        "another algorithm",
        "to sign",
        "private",
        "off its curve",
        "an old curve",
        "no key",
    ],
)
async def test_a_key_that_cannot_be_meant_for_tokens_is_left_out(world: World, jwk: Any) -> None:
    world.issuer.keys = [{**jwk, "kid": "ES256"} if isinstance(jwk, dict) else jwk, RS.jwk()]
    verifier = world.verifier()

    assert await verifier.principal(world.issuer.token(ES, HERE), audience=[HERE]) is None
    assert await verifier.principal(world.issuer.token(RS, HERE), audience=[HERE]) is not None


@pytest.mark.parametrize(
    "url", ["http://login.example.com", "ftp://login.example.com", "login", "file:///etc/passwd"]
)
def test_an_issuer_that_others_could_speak_for_is_refused(tmp_path: Path, url: str) -> None:
    settings = Settings(home=tmp_path, tables={"oauth": {"issuer": url}})

    with pytest.raises(InvalidInput, match="must be an https address"):
        settings.section("oauth", OAuth)


# -- at the doors of a server


@pytest.mark.parametrize("door", DOORS)
async def test_every_door_refuses_what_is_wrong_and_says_where_to_get_a_token(world: World, door: str) -> None:
    async with world.served() as (client, base):
        where = f'resource_metadata="{base}/.well-known/oauth-protected-resource/mcp"'
        for what, make in WRONG.items():
            token = make(world.issuer)
            if not token.isprintable():
                continue  # no client can send it
            headers = {"authorization": f"Bearer {token}"}
            response = await client.request("POST" if door == "/mcp" else "GET", door, headers=headers)
            assert response.status_code == 401, what
            assert 'error="invalid_token"' in response.headers["www-authenticate"], what
            assert where in response.headers["www-authenticate"], what
        unasked = await client.get(door)
        assert unasked.status_code == 401
        assert "error=" not in unasked.headers["www-authenticate"]
        token = world.issuer.token(ES, f"{base}/mcp")
        assert (await client.get(f"{door}?access_token={token}")).status_code == 401
        twice = [("authorization", f"Bearer {token}")] * 2
        assert (await client.get(door, headers=twice)).status_code == 400


async def test_the_metadata_names_the_server_and_its_issuer(world: World) -> None:
    async with world.served() as (client, base):
        response = await client.get("/.well-known/oauth-protected-resource/mcp")

    assert response.json() == {
        "resource": f"{base}/mcp",
        "resource_name": "Toy",
        "authorization_servers": [world.issuer.url],
        "scopes_supported": ["toy:read"],
        "bearer_methods_supported": ["header"],
    }


async def test_a_token_opens_what_its_scopes_name_and_the_challenge_names_the_rest(world: World) -> None:
    async with world.served() as (client, base):
        client.headers["authorization"] = f"Bearer {world.issuer.token(ES, f'{base}/mcp')}"
        added = await client.post("/mcp", **post("add"))
        refused = await client.post("/mcp", **post("put"))

    assert added.json()["result"]["structuredContent"] == {"value": 3}
    assert refused.status_code == 403
    assert 'error="insufficient_scope", scope="toy:write"' in refused.headers["www-authenticate"]


async def test_tokens_that_were_handed_out_here_go_on_working_beside_an_issuer(world: World) -> None:
    token = TokenFile.of(world.home).add("ci", ["toy:read"])
    async with world.served() as (client, _):
        client.headers["authorization"] = f"Bearer {token}"
        assert (await client.post("/mcp", **post("add"))).status_code == 200


async def test_who_called_for_whom_is_on_record_and_the_token_is_not(world: World) -> None:
    async with world.served() as (client, base):
        token = world.issuer.token(ES, f"{base}/mcp")
        client.headers["authorization"] = f"Bearer {token}"
        await client.post("/mcp", **post("add"))

    from usrland.ledger import Ledger

    settings = Settings(home=world.home)
    ledger = Ledger.open(Ledger.url(settings, "toy"), chain="toy", key=settings.key("calls"))
    (entry,) = [each for each in await ledger.audit.last(10) if each["operation"] == "add"]
    ledger.audit.database.close()
    assert (entry["source"], entry["client"]) == ("oauth", "desktop")
    assert entry["principal"].startswith("alice@127.0.0.1:")
    kept = b"".join(file.read_bytes() for file in world.home.rglob("*") if file.is_file())
    assert token.encode() not in kept


async def test_a_stream_is_written_to_by_who_opened_it_and_by_nobody_else(world: World) -> None:
    import anyio
    import uvicorn

    settings = Settings(home=world.home, tables={"oauth": {"issuer": world.issuer.url}})
    with bind("127.0.0.1", 0) as listener:
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with (
            application([toy.service(settings)], settings, listener) as app,
            anyio.create_task_group() as tasks,
        ):
            server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
            tasks.start_soon(server.serve, [listener])

            def bearer(subject: str) -> dict[str, str]:
                return {"authorization": f"Bearer {world.issuer.token(ES, f'{base}/sse', sub=subject)}"}

            async with (
                httpx.AsyncClient(base_url=base) as client,
                client.stream("GET", "/sse", headers=bearer("alice")) as stream,
            ):
                lines = stream.aiter_lines()
                while not (line := await anext(lines)).startswith("data:"):
                    pass
                messages = line.removeprefix("data:").strip()
                ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
                assert (await client.post(messages, json=ping, headers=bearer("mallory"))).status_code == 404
                assert (await client.post(messages, json=ping, headers=bearer("alice"))).status_code == 202
            server.should_exit = True
