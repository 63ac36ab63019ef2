"""What every test may ask for."""

from __future__ import annotations

import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import toy
from mcp import Client

from usrland import Principal, redact
from usrland.embedding import Embedder, embedder
from usrland.host import Host, running
from usrland.settings import Settings


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def secrets_of_one_test() -> Iterator[None]:
    """What one test declares to be a secret is an ordinary word in the next."""
    before = set(redact._secrets)
    yield
    redact._secrets.intersection_update(before)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A fresh usrland home, and nothing from this machine's environment."""
    return Settings.load(tmp_path / "home", {})


@pytest.fixture
async def host(settings: Settings) -> AsyncIterator[Host]:
    """The toy server, running."""
    async with running(toy.service(settings), settings) as host:
        yield host


@pytest.fixture(params=["auto", "legacy"])
def era(request: pytest.FixtureRequest) -> str:
    """The protocol of 2026-07-28, and the one with a handshake."""
    return str(request.param)


@pytest.fixture(scope="session")
def minilm() -> Embedder:
    model = embedder("minilm")
    assert model is not None
    model.load()
    return model


Connect = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
def connect(era: str) -> Connect:
    """Open a real client on a host, in this test's era."""

    @asynccontextmanager
    async def open_client(host: Host, **options: Any) -> AsyncIterator[Client]:
        async with Client(host.server, mode=era, **options) as client:
            yield client

    return open_client


@pytest.fixture
def someone() -> Callable[..., Principal]:
    """Make a principal with these scopes."""

    def make(*scopes: str, subject: str = "someone") -> Principal:
        return Principal(subject=subject, scopes=frozenset(scopes), source="test")

    return make


POSTGRESQL = "postgresql://root@127.0.0.1:5432/test"


@pytest.fixture
def postgresql() -> Iterator[Callable[[], str]]:
    """Make the URL of an empty schema on the PostgreSQL of this machine; it is dropped afterwards."""
    try:
        socket.create_connection(("127.0.0.1", 5432), timeout=2).close()
    except OSError:
        pytest.skip("PostgreSQL is not running here")
    import psycopg

    made: list[str] = []

    def make() -> str:
        schema = f"usrland_{secrets.token_hex(6)}"
        with psycopg.connect(POSTGRESQL, autocommit=True) as connection:
            connection.execute(f'CREATE SCHEMA "{schema}"'.encode())
        made.append(schema)
        return f"{POSTGRESQL}?options=-csearch_path%3D{schema}"

    yield make
    with psycopg.connect(POSTGRESQL, autocommit=True) as connection:
        for schema in made:
            connection.execute(f'DROP SCHEMA "{schema}" CASCADE'.encode())
