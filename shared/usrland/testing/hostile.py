"""Arguments that somebody hostile would send, and secrets that must not come out."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from mcp.types import CallToolResult

from usrland.redact import redact
from usrland.settings import Settings
from usrland.testing.arguments import fitting
from usrland.testing.client import CANARY, Connected, Json, Served, alike, assert_clean, error_of, text_of
from usrland.testing.effects import FORESEEN

__all__ = ["HostileContract"]

NONSENSE = "qzxvwk"
ODD = (
    "'",
    '"',
    "`",
    "\\",
    "%",
    "(",
    "[",
    "*",
    "--",
    ";",
    "$",
    "{{7*7}}",
    "'; DROP TABLE x; --",
    "$(id)",
    "|| id",
    "\n",
    "\0",
    "\u202e",
    "\ud83d",
    "\U0001f4a5",
    "../",
    "a" * 10_000,
)
"""Each is nothing special where values stay values, and an error or worse where they become code."""
WIDENS = (
    "' OR '1'='1",
    "' OR 1=1 OR '",
    "') OR ('1'='1",
    "') OR 1=1 OR ('",
    '" OR "1"="1',
    '" OR 1=1 OR "',
    "' OR 1=1 --",
    "%",
    "*",
    ".*",
)
"""Where one becomes code, more is found than without it."""
PATHS = re.compile(r"(?:^|_)(?:path|file|filename|folder|directory|dir|uri|url|template|document)(?:s|$)")


@pytest.mark.anyio
class HostileContract(Served):
    """Part of `ServerContract`."""

    async def test_odd_texts_are_values_and_nothing_else(self, settings: Settings) -> None:
        async with self.connected(settings) as server:
            await self.make(server)
            reads = self.reads(self.operations(settings), volatile=getattr(self, "volatile", ()))
            before = await server.answers(reads)
            async for tool, base in self._harmless(server):
                usual = _code(await server.call(tool["name"], base))
                for name in _texts(tool):
                    for odd in ODD:
                        result = await server.call(tool["name"], {**base, name: odd})
                        assert_clean(result, str(settings.home))
                        code = _code(result)
                        assert code in FORESEEN or not result.is_error, f"{tool['name']}({name}={odd!r}): {code}"
                        assert code != "unavailable" or usual == code, (
                            f"{tool['name']}({name}={odd!r}) breaks what it works with: {text_of(result)}"
                        )
            assert alike(await server.answers(reads), before), "a text that was only read has changed something"

    async def test_a_text_that_is_code_elsewhere_finds_no_more(self, settings: Settings) -> None:
        async with self.connected(settings) as server:
            await self.make(server)
            async for tool, base in self._harmless(server):
                for name in _texts(tool):
                    nothing = await server.call(tool["name"], {**base, name: NONSENSE})
                    if _found(nothing) != 0:
                        continue
                    for widening in WIDENS:
                        result = await server.call(tool["name"], {**base, name: NONSENSE + widening})
                        assert not _found(result), (
                            f"{tool['name']}({name}={NONSENSE + widening!r}) {text_of(result)}"
                        )

    async def test_a_path_leads_nowhere_outside(self, settings: Settings, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        secret, target = outside / "secret.txt", outside / "written.txt"
        secret.write_text(CANARY, encoding="utf-8")
        async with self.connected(settings) as server:
            await self.make(server)
            for tool in await server.tools():
                harmless = self._is_harmless(tool)
                if not harmless and tool["name"] not in self.samples:
                    continue
                base = {**self.arguments_for(tool), **({"dry_run": True} if harmless == "dry run" else {})}
                for name in filter(PATHS.search, _texts(tool)):
                    for path in [*_ways_to(secret), *_ways_to(target)]:
                        result = await server.call(tool["name"], {**base, name: path})
                        assert CANARY not in result.model_dump_json(), f"{tool['name']}({name}={path!r})"
                        assert result.is_error is False or _code(result) in FORESEEN, text_of(result)
                        assert secret.is_file() and secret.read_text(encoding="utf-8") == CANARY, tool["name"]
                        assert not target.exists(), f"{tool['name']}({name}={path!r}) wrote there"

    async def test_an_error_names_nothing_of_the_machine(self, settings: Settings) -> None:
        async with self.connected(settings) as server:
            async for tool, base in self._harmless(server):
                for arguments in (fitting(tool["inputSchema"]), base):
                    result = await server.call(tool["name"], arguments)
                    if result.is_error:
                        assert error_of(result)["code"] in FORESEEN, f"{tool['name']}: {text_of(result)}"
                        assert_clean(result, str(settings.home))

    async def test_no_secret_comes_out(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        for name, value in {**self.environment(), "CONTRACT_SECRET": CANARY}.items():
            monkeypatch.setenv(name, value)
        with caplog.at_level(logging.DEBUG):
            async with self.connected(settings) as server:
                results = [
                    await server.call(tool["name"], arguments)
                    for tool in await server.tools()
                    for arguments in (fitting(tool["inputSchema"]), self.samples.get(tool["name"], {}))
                ]
                results += await self._failing(server)
        said = [result.model_dump_json() for result in results]
        said += [redact(record.getMessage() + (record.exc_text or "")) for record in caplog.records]
        kept = [path.read_bytes() for path in settings.home.rglob("*") if path.is_file() and path != settings.file]
        for shape in _shapes_of(CANARY):
            assert not any(shape in text for text in said), "a secret is in an answer, an error or the log"
            assert not any(shape.encode() in content for content in kept), "a secret was written down"

    async def test_a_call_prints_nothing(self, settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
        async with self.connected(settings) as server:
            capfd.readouterr()
            await self.make(server)
            await self._failing(server)
            printed = capfd.readouterr().out
        assert not printed, f"it prints, where the protocol is spoken: {printed[:200]!r}"

    async def _failing(self, server: Connected) -> list[CallToolResult]:
        """Harmless calls that are likely to fail."""
        return [
            await server.call(tool["name"], {**base, name: odd})
            async for tool, base in self._harmless(server)
            for name in _texts(tool)
            for odd in ("'", "\\", "a" * 10_000)
        ]

    async def _harmless(self, server: Connected) -> Any:
        """The tools that may be called with anything, and arguments to begin with."""
        for tool in await server.tools():
            match self._is_harmless(tool):
                case "read":
                    yield tool, self.arguments_for(tool)
                case "dry run":
                    yield tool, {**self.arguments_for(tool), "dry_run": True}
                case _:
                    pass

    def _is_harmless(self, tool: Json) -> str:
        if tool["annotations"]["readOnlyHint"]:
            return "read"
        return "dry run" if "dry_run" in tool["inputSchema"]["properties"] else ""


def _texts(tool: Json) -> list[str]:
    """The arguments of a tool that take any text."""
    return [
        name
        for name, schema in tool["inputSchema"]["properties"].items()
        if schema.get("type") == "string" and "enum" not in schema and name not in ("cursor", "confirm_token")
    ]


def _code(result: CallToolResult) -> str:
    return str(error_of(result)["code"]) if result.is_error else ""


def _found(result: CallToolResult) -> int | None:
    """How many items came back; `None` where the answer is no list."""
    answer: Mapping[str, Any] = result.structured_content or {}
    items = answer.get("items")
    return len(items) if isinstance(items, list) and not result.is_error else None


def _ways_to(path: Path) -> Iterator[str]:
    """The same file, written in the ways that slip past a careless check."""
    plain = str(path)
    up = "../" * 24
    yield from (plain, path.as_uri(), f"{up}{plain.lstrip('/')}", f"./{up}{plain.lstrip('/')}")
    yield from (f"a/{up}{plain.lstrip('/')}", f"{up}{plain.lstrip('/')}\0.txt", f"..%2f{plain.lstrip('/')}")
    for depth in range(1, 6):  # from a folder below the home
        yield f"{'../' * depth}outside/{path.name}"


def _shapes_of(secret: str) -> list[str]:
    """A secret, and what it looks like in usual wrappings."""
    encoded = base64.b64encode(secret.encode()).decode().rstrip("=")[:-1]
    return [secret, encoded, secret.encode().hex(), secret[::-1]]
