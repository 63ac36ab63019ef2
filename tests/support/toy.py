"""A small server with one operation of every kind, for tests of the library. Launched as `toy:service`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import anyio
from pydantic import Field

from usrland import (
    Answer,
    Call,
    InvalidInput,
    NotFound,
    Operation,
    Page,
    Preview,
    Resource,
    Service,
    Unavailable,
)
from usrland.settings import Settings

READ = frozenset({"toy:read"})
WRITE = frozenset({"toy:write"})
CANARY = "hunter2-canary-secret"


class Number(Answer):
    value: int


class Line(Answer):
    number: int
    text: str


class Text(Answer):
    text: str


@dataclass
class Toy:
    """Keeps its notes in one JSON file, so that effects can be seen from outside."""

    file: Path
    started: anyio.Event = field(default_factory=anyio.Event)
    stopped: bool = False
    tries: int = 0

    def notes(self) -> dict[str, str]:
        return dict(json.loads(self.file.read_text())) if self.file.exists() else {}

    async def add(self, left: int, right: int = 2) -> Number:
        """Add two whole numbers."""
        return Number(value=left + right)

    async def lines(
        self, call: Call, count: Annotated[int | None, Field(description="How many.")] = None
    ) -> Page[Line]:
        """List numbered lines."""
        end = 300 if count is None else count
        items = [Line(number=n, text=f"line {n} " + "abc " * (n % 17)) for n in range(call.offset, end)]
        return Page[Line](items=items, total=end)

    async def put(self, name: str, text: str) -> Number:
        """Keep a note."""
        notes = self.notes() | {name: text}
        notes["writes"] = str(int(notes.get("writes", "0")) + 1)
        self.file.write_text(json.dumps(notes))
        return Number(value=len(notes))

    async def would_drop(self, name: str) -> Preview:
        if name not in self.notes():
            raise NotFound(f"there is no note {name!r}.")
        return Preview(would=f"forget {name!r}", affected=1)

    async def drop(self, name: str) -> Number:
        """Forget a note for good."""
        notes = self.notes()
        notes.pop(name)
        self.file.write_text(json.dumps(notes))
        return Number(value=len(notes))

    async def wait(self, call: Call, seconds: float = 60.0) -> Number:
        """Take long."""
        await call.progress(1, 2, "waiting")
        self.started.set()
        try:
            await anyio.sleep(seconds)
        finally:
            self.stopped = True
        return Number(value=1)

    async def slow_put(self, name: str, text: str, seconds: float = 60.0) -> Number:
        """Keep a note, late."""
        self.started.set()
        await anyio.sleep(seconds)
        return await self.put(name, text)

    async def crash(self) -> Number:
        """Fail in a way nobody foresaw."""
        raise RuntimeError(f"connection string with {CANARY} inside")

    async def reject(self) -> Number:
        """Fail in a way that was foreseen."""
        raise InvalidInput(f"the token {CANARY} is not good.", fix="Use another.")

    async def long(self, characters: int = 60_000) -> Text:
        """Answer with a long text."""
        return Text(text='"é" and\n' * (characters // 8))

    async def flaky(self) -> Number:
        """Reach a system that answers at the third try."""
        self.tries += 1
        if self.tries < 3:
            raise Unavailable("no answer.", retry_after_seconds=0.001)
        return Number(value=self.tries)

    async def pass_on(self, name: str, arguments: dict[str, Any] | None = None) -> Number:
        """Call one of the other operations by name."""
        raise AssertionError("a delegate's own function is never run")

    def operations(self) -> list[Operation]:
        plain = [
            Operation(call=self.add, effect="read", scopes=READ),
            Operation(call=self.lines, effect="read", scopes=READ, max_tokens=1_000),
            Operation(call=self.put, effect="write", scopes=WRITE, undo="drop"),
            Operation(call=self.drop, effect="destroy", scopes=WRITE, preview=self.would_drop),
            Operation(call=self.wait, effect="read", scopes=READ, timeout_seconds=30),
            Operation(call=self.slow_put, effect="write", scopes=WRITE, timeout_seconds=0.2),
            Operation(call=self.crash, effect="read", scopes=READ),
            Operation(call=self.reject, effect="read", scopes=READ),
            Operation(call=self.long, effect="read", scopes=READ),
            Operation(call=self.flaky, effect="read", scopes=READ, open_world=True),
        ]
        hidden = Operation(call=self.put, name="hidden.put", effect="write", scopes=WRITE, visible=False)

        def meant(arguments: Mapping[str, Any]) -> tuple[Operation, Mapping[str, Any]]:
            for operation in (*plain, hidden):
                if operation.name == arguments["name"]:
                    return operation, arguments.get("arguments") or {}
            raise NotFound(f"there is no {arguments['name']!r}.")

        passing = Operation(call=self.pass_on, effect="destroy", scopes=READ, delegate=meant)
        return [*plain, hidden, passing]


def service(settings: Settings) -> Service:
    toy = Toy(settings.data("toy") / "notes.json")
    return Service(
        name="toy",
        title="Toy",
        description="One operation of every kind.",
        instructions="For tests.",
        operations=toy.operations(),
        resources=[
            Resource(uri="toy://sum", name="sum", description="1 + 2", operation="add", arguments={"left": 1}),
            Resource(uri="toy://long", name="long", description="A text", operation="long", show="text"),
        ],
        state={"toy": toy},
    )
