"""Tokens from an authorization server, and certificates: both ends are real programs on real sockets.

The server below issues signed tokens (RFC 6749, RFC 8693) and the API believes nothing but their signature,
audience and age.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import anyio
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from enterprise_connectors.openapi.auth import EXCHANGE
from usrland.errors import Denied, Unavailable
from usrland.schemas.principal import Principal

Serve = Callable[..., AbstractAsyncContextManager[Any]]

SPEC = {
    "openapi": "3.1.0",
    "paths": {"/me": {"get": {"operationId": "me"}, "post": {"operationId": "touch"}}},
}
AUDIENCE = "https://crm.example.org"
SECRET = "client-secret/with:odd chars"


@dataclass
class Company:
    """An authorization server and an API that trusts it, at one address."""

    url: str = ""
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    asked: list[dict[str, str]] = field(default_factory=list)
    issued: list[str] = field(default_factory=list)
    called: list[tuple[str, str]] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)
    lifetime: float = 3600
    refusal: str = ""
    down: bool = False

    def signed(self, **claims: Any) -> str:
        now = time.time()
        return jwt.encode(
            {"iat": now, "exp": now + 3600, "jti": str(len(self.issued)), **claims}, self.key, algorithm="ES256"
        )

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        self.asked.append(form)
        if self.down:
            return 503, {}
        client = base64.b64encode(b"usrland:client-secret%2Fwith%3Aodd%20chars").decode()
        if authorization != f"Basic {client}":
            return 401, {"error": "invalid_client", "error_description": f"you sent {authorization}"}
        if self.refusal:
            return 400, {"error": self.refusal}
        claims: dict[str, Any] = {"aud": form["audience"], "scope": form.get("scope", "")}
        if form["grant_type"] == EXCHANGE:
            subject = jwt.decode(form["subject_token"], self.key.public_key(), ["ES256"], audience="usrland")
            claims |= {"sub": subject["sub"], "act": {"sub": "usrland"}}
        else:
            claims |= {"sub": "usrland"}
        self.issued.append(self.signed(**claims))
        return 200, {"access_token": self.issued[-1], "token_type": "Bearer", "expires_in": self.lifetime}

    def answer(self, method: str, authorization: str) -> tuple[int, dict[str, Any]]:
        token = authorization.removeprefix("Bearer ")
        if token in self.revoked:
            return 401, {}
        try:
            claims = jwt.decode(token, self.key.public_key(), ["ES256"], audience=AUDIENCE)
        except jwt.PyJWTError:
            return 401, {"said": "no"}
        self.called.append((method, claims["sub"]))
        return 200, {"sub": claims["sub"], "act": claims.get("act"), "echo": authorization}


def _serve(company: Company, tls: ssl.SSLContext | None) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
            authorization = self.headers.get("authorization", "")
            if self.path == "/token":
                form = {name: values[0] for name, values in parse_qs(body).items()}
                status, said = company.token(form, authorization)
            else:
                status, said = company.answer(self.command, authorization)
            content = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the test output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
    company.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    return server


@pytest.fixture
def company() -> Iterator[Company]:
    made = Company()
    server = _serve(made, None)
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def table(company: Company, tmp_path: Path) -> Callable[..., str]:
    (tmp_path / "spec.json").write_text(json.dumps(SPEC), encoding="utf-8")

    def written(kind: str, more: str = "") -> str:
        return (
            f'[crm]\nkind = "openapi"\nspec = "{tmp_path / "spec.json"}"\nbase_url = "{company.url}"\n'
            f"allow_private = true\nwrite = true\n{more}"
            f'[crm.auth]\nkind = "{kind}"\ntoken_url = "{company.url}/token"\nclient_id = "usrland"\n'
            f'secret = "env:SECRET"\naudience = "{AUDIENCE}"\nscope = "deals:read"\n'
        )

    return written


async def test_one_token_serves_every_call_and_is_fetched_once(
    serve: Serve, table: Callable[..., str], company: Company
) -> None:
    answers: list[dict[str, Any]] = []
    async with serve(table("client_credentials"), SECRET=SECRET) as run:

        async def ask() -> None:
            answers.append((await run("crm_me"))["body"])

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(ask)
        await ask()

    assert [answer["sub"] for answer in answers] == ["usrland"] * 6
    assert company.asked == [{"grant_type": "client_credentials", "scope": "deals:read", "audience": AUDIENCE}]


async def test_a_token_never_comes_out_even_where_the_system_repeats_it(
    serve: Serve, table: Callable[..., str], company: Company, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serve(table("client_credentials"), SECRET=SECRET) as run:
        answer = await run("crm_me")

    assert answer["body"]["echo"] == "Bearer [redacted]"
    assert company.issued[0] not in caplog.text
    assert SECRET not in caplog.text


async def test_a_token_near_its_end_is_replaced_before_it_is_used(
    serve: Serve, table: Callable[..., str], company: Company
) -> None:
    company.lifetime = 0
    async with serve(table("client_credentials"), SECRET=SECRET) as run:
        await run("crm_me")
        company.lifetime = 3600
        await run("crm_me")
        await run("crm_me")

    assert len(company.asked) == 2


async def test_a_token_that_was_taken_back_is_renewed_once_and_the_call_made_again(
    serve: Serve, table: Callable[..., str], company: Company
) -> None:
    async with serve(table("client_credentials"), SECRET=SECRET) as run:
        await run("crm_me")
        company.revoked |= set(company.issued)
        assert (await run("crm_touch"))["status"] == 200
        company.key = ec.generate_private_key(ec.SECP256R1())
        company.revoked |= set(company.issued)
        company.answer = lambda *_: (401, {})  # type: ignore[method-assign]
        with pytest.raises(Denied, match="401"):
            await run("crm_me")

    assert company.called == [("GET", "usrland"), ("POST", "usrland")]
    assert len(company.asked) == 3


async def test_a_refusal_names_its_code_and_nothing_that_was_sent(
    serve: Serve, table: Callable[..., str], company: Company
) -> None:
    async with serve(table("client_credentials"), SECRET="wrong-one") as run:
        with pytest.raises(Denied, match="'invalid_client'") as caught:
            await run("crm_me")
        assert "Basic" not in str(caught.value)
    async with serve(table("client_credentials"), SECRET=SECRET) as run:
        company.down = True
        with pytest.raises(Unavailable, match="cannot answer now"):
            await run("crm_touch", idempotency_key="k")
        company.down = False
        assert (await run("crm_touch", idempotency_key="k"))["status"] == 200


async def test_every_caller_comes_in_their_own_name_and_their_own_token_goes_no_further(
    serve: Serve, table: Callable[..., str], company: Company
) -> None:
    seen: list[str] = []
    keep = company.answer

    def answer(method: str, authorization: str) -> tuple[int, dict[str, Any]]:
        seen.append(authorization)
        return keep(method, authorization)

    company.answer = answer  # type: ignore[method-assign]
    inbound = {name: company.signed(sub=name, aud="usrland") for name in ("ann", "bob")}
    async with serve(table("token_exchange"), SECRET=SECRET) as run:

        async def call(name: str, *scopes: str) -> Any:
            caller = Principal(subject=name, scopes=frozenset(scopes), source="oauth", token=inbound[name])
            return (await run.host.path.run("crm_me", {}, principal=caller)).structured["body"]

        names = [(await call(name, "crm:read"))["sub"] for name in ("ann", "bob", "ann", "bob")]
        assert (await call("ann", "crm:read", "crm:write"))["act"] == {"sub": "usrland"}

    assert names == ["ann", "bob", "ann", "bob"]
    assert [form["subject_token"] for form in company.asked] == [inbound["ann"], inbound["bob"], inbound["ann"]]
    assert not any(token in authorization for token in inbound.values() for authorization in seen)


async def test_nobody_is_acted_for_who_came_without_a_token(
    serve: Serve, table: Callable[..., str], company: Company
) -> None:
    async with serve(table("token_exchange"), SECRET=SECRET) as run:
        with pytest.raises(Denied, match="without an access token"):
            await run("crm_me")

    assert company.asked == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("client_id", "user_id"), "user_id"),
        (('secret = "env:SECRET"\n', ""), "secret is missing"),
        (("http://127.0.0.1", "http://login.example.org"), "token_url: it is https"),
    ],
)
async def test_half_an_arrangement_is_a_problem_and_no_connection(
    serve: Serve, table: Callable[..., str], change: tuple[str, str], problem: str
) -> None:
    async with serve(table("client_credentials").replace(*change), SECRET=SECRET) as run:
        assert problem in (await run("sys_find", request="me"))["note"]


# -- certificates


@dataclass
class Papers:
    folder: Path
    authority: ec.EllipticCurvePrivateKey
    name: x509.Name

    def issue(self, who: str, *addresses: str) -> Path:
        """A certificate and its key in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(each)) for each in addresses]
        file = self.folder / f"{who}.pem"
        file.write_bytes(_certificate(who, key, self, names or [x509.DNSName(who)]) + _pem(key))
        return file


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _certificate(
    who: str, key: ec.EllipticCurvePrivateKey, papers: Papers, names: list[x509.GeneralName] | None
) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    authority = x509.SubjectKeyIdentifier.from_public_key(papers.authority.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, who)]))
        .issuer_name(papers.name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=names is None, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if names is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(papers.authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    made = Papers(
        tmp_path,
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]),
    )
    (tmp_path / "authority.pem").write_bytes(_certificate("authority", made.authority, made, None))
    return made


async def test_a_system_that_wants_a_certificate_is_shown_ours_and_shows_its_own(
    serve: Serve, papers: Papers, tmp_path: Path, company: Company
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "authority.pem")
    context.load_cert_chain(papers.issue("system", "127.0.0.1"))
    context.verify_mode = ssl.CERT_REQUIRED
    guarded = Company(key=company.key)
    server = _serve(guarded, context)
    (tmp_path / "spec.json").write_text(json.dumps(SPEC), encoding="utf-8")
    base = (
        f'[crm]\nkind = "openapi"\nspec = "{tmp_path / "spec.json"}"\nbase_url = "{guarded.url}"\n'
        'allow_private = true\nauth = {kind = "bearer", secret = "env:TOKEN"}\n'
    )
    token = company.signed(sub="us", aud=AUDIENCE)
    ours, theirs = papers.issue("us"), tmp_path / "authority.pem"
    try:
        for tls, answered in (
            (f'tls = {{certificate = "{ours}", authority = "{theirs}"}}', True),
            (f'tls = {{authority = "{theirs}"}}', False),  # they do not let us in
            (f'tls = {{certificate = "{ours}"}}', False),  # we do not believe them
        ):
            async with serve(base.replace("[crm]\n", f"[crm]\n{tls}\n"), TOKEN=token) as run:
                if answered:
                    assert [(await run("crm_me"))["body"]["sub"] for _ in range(2)] == ["us", "us"]
                else:
                    with pytest.raises(Unavailable):
                        await run("crm_me")
    finally:
        server.shutdown()
        server.server_close()

    assert guarded.called == [("GET", "us")] * 2
