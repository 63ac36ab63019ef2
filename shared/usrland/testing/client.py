"""The real host and a real client of it, in memory, and what the suite reads from an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest
from mcp import Client
from mcp.types import CallToolResult

from usrland.connector import Operation, Service
from usrland.host import Host, running
from usrland.schemas.principal import Principal
from usrland.settings import FILE_NAME, Settings
from usrland.testing.arguments import fitting
from usrland.testing.watch import Watch

__all__ = [
    "CANARY",
    "EVERYBODY",
    "NOBODY",
    "Connected",
    "Json",
    "Served",
    "alike",
    "assert_clean",
    "error_of",
    "text_of",
]

EVERYBODY = Principal(subject="contract", scopes=frozenset({"*"}), source="test")
NOBODY = Principal(subject="stranger", scopes=frozenset({"nothing:at-all"}), source="test")
CANARY = "canary-7f3b9c1e5d"
"""Passed where it does not belong: it must not come back."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Connected:
    """A client, and the host it is connected to."""

    client: Client
    host: Host

    async def tools(self) -> list[Json]:
        listing = await self.client.list_tools()
        return [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listing.tools]

    async def call(self, name: str, arguments: Mapping[str, Any]) -> CallToolResult:
        return await self.client.call_tool(name, dict(arguments))

    async def answers(self, calls: Sequence[tuple[str, Json]]) -> list[str]:
        """What each call says, failures too; nothing where it says itself that it will say more later."""
        results = [await self.call(name, arguments) for name, arguments in calls]
        return ["" if (each.structured_content or {}).get("degraded") else text_of(each) for each in results]


class Served:
    """How the tests reach the author's server."""

    service: Callable[[Settings], Service]
    """The function that the entry point names, as `staticmethod(service)`."""
    usrland_toml: ClassVar[str] = ""
    """The settings file, where the server needs it to say something. Each `env:NAME` in it gets a secret."""
    samples: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Calls that may really be made, in this order: an operation's name and its arguments."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        """A home of its own for each test, and an environment of secrets and nothing else."""
        return self.settings_in(tmp_path)

    def settings_in(self, folder: Path) -> Settings:
        home = folder / "home"
        home.mkdir(mode=0o700)
        if self.usrland_toml:
            (home / FILE_NAME).write_text(self.usrland_toml, encoding="utf-8")
        return Settings.load(home, environment=self.environment())

    def environment(self) -> dict[str, str]:
        """A secret for each reference in the settings."""
        words = self.usrland_toml.replace('"', " ").replace("'", " ").split()
        return {word[4:]: f"{CANARY}-{word[4:]}" for word in words if word.startswith("env:")}

    @asynccontextmanager
    async def connected(
        self,
        settings: Settings,
        *,
        principal: Principal = EVERYBODY,
        mode: Any = "auto",
        extra: Sequence[Operation] = (),
        watch: Watch | None = None,
    ) -> AsyncIterator[Connected]:
        """A client of the real host, in memory. `extra` operations are served beside the author's."""
        service = type(self).service(settings)
        own = [watch.over(each) for each in service.operations] if watch else service.operations
        service = replace(service, operations=[*own, *extra])
        failure: Exception | None = None
        with anyio.fail_after(60):
            async with (
                running(service, settings, principal=principal) as host,
                Client(host.server, mode=mode) as client,
            ):
                try:
                    yield Connected(client, host)
                except Exception as error:  # raised below: here a task group would wrap it, and hide the assertion
                    failure = error
        if failure is not None:
            raise failure

    def operations(self, settings: Settings) -> dict[str, Operation]:
        """The author's, by name."""
        return {each.name: each for each in type(self).service(settings).operations}

    def reads(
        self, operations: Mapping[str, Operation], *, volatile: Sequence[str] = ()
    ) -> list[tuple[str, Json]]:
        """The samples that change nothing."""
        return [
            (name, dict(arguments))
            for name, arguments in self.samples.items()
            if operations[name].effect == "read" and operations[name].delegate is None and name not in volatile
        ]

    async def make(self, connected: Connected, times: int = 1) -> None:
        """Make every sample, so that there is something to read."""
        for _ in range(times):
            for name, arguments in self.samples.items():
                result = await connected.call(name, arguments)
                assert not result.is_error, f"{name}: {text_of(result)}"

    def arguments_for(self, tool: Json) -> Json:
        """The sample's arguments, or some that fit."""
        return dict(self.samples.get(tool["name"], fitting(tool["inputSchema"])))


def alike(before: Sequence[str], after: Sequence[str]) -> bool:
    """Whether the same was answered, as far as both answers were complete."""
    return len(before) == len(after) and all(
        one == other or not one or not other for one, other in zip(before, after, strict=True)
    )


def text_of(result: CallToolResult) -> str:
    return "".join(getattr(block, "text", "") for block in result.content)


def error_of(result: CallToolResult) -> Json:
    """The error of a refused call, which must be one: code, fact and way out, and nothing that is not theirs."""
    assert result.is_error, text_of(result)
    assert_clean(result)
    error: Json = (result.structured_content or {})["error"]
    assert error["code"] and error["message"] and error.get("fix"), error
    assert error["code"] in text_of(result) and error["message"] in text_of(result)
    return error


def assert_clean(result: CallToolResult, *private: str) -> None:
    """No trace, no secret, and none of the `private` texts."""
    said = result.model_dump_json()
    for leak in ("Traceback", 'File \\"', CANARY, *private):
        assert leak not in said, said
