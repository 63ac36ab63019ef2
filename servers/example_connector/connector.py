"""What a kernel can do with the task list: find, add, remove.

Each operation is an async method with annotated parameters; name, schema and help are read from it, so its
docstring is product text: a model chooses by it. What cannot be read from code is stated in `operations`:
the effect and the scope that a caller must hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from example_connector.store import Task, TaskStore
from usrland import Call, Connector, Operation, Page, Preview

if TYPE_CHECKING:
    import httpx

__all__ = ["ExampleConfig", "ExampleConnector"]

PAGE_ITEMS = 200
"""Read at once; the call path cuts what it sends to the caller's token budget."""

TaskId = Annotated[int, Field(ge=1, le=2**53, description="Number of the task, as `task_find` shows it.")]


class ExampleConfig(BaseModel):
    """One table of `connectors.toml`. A password would stand here as `env:NAME` or `file:/path`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path = Field(description="Where the tasks are; made at the first use.")


class ExampleConnector(Connector[ExampleConfig]):
    """The task list of a team. Every caller sees the tasks of its own tenant and namespace, and no others."""

    name = "example"
    config_type = ExampleConfig

    def __init__(self, config: ExampleConfig, http: httpx.AsyncClient) -> None:
        super().__init__(config, http)  # a system on the network is reached through `self.http` and nothing else
        self._store = TaskStore(config.file)

    def operations(self) -> Sequence[Operation]:
        return [
            Operation(call=self.task_find, effect="read", scopes=frozenset({"example:read"})),
            Operation(
                call=self.task_add,
                effect="write",
                scopes=frozenset({"example:write"}),
                undo="task_remove",
            ),
            Operation(
                call=self.task_remove,
                preview=self.would_remove,
                effect="destroy",
                scopes=frozenset({"example:write"}),
            ),
        ]

    async def check(self) -> None:
        """Open the file once, so that a wrong path is reported by `usrland doctor` and not by a user."""
        await self._store.check()

    async def task_find(
        self,
        call: Call,
        text: Annotated[str, Field(description="Part of the title or of the owner's name.")] = "",
    ) -> Page[Task]:
        """Find tasks, newest first; without a text, all of them. Not for the contents of documents."""
        tasks, total = await self._store.find(call.principal, text, skip=call.offset, limit=PAGE_ITEMS)
        return Page(
            items=tasks,
            total=total,
            more=call.offset + len(tasks) < total,
            note=None if total else "No task fits.",
        )

    async def task_add(
        self,
        call: Call,
        title: Annotated[str, Field(min_length=1, max_length=200, description="What is to be done.")],
        owner: Annotated[str, Field(max_length=100, description="Who does it.")] = "",
    ) -> Task:
        """Add one task and answer it with its number. Look with `task_find` first whether it is there already."""
        return await self._store.add(call.principal, title, owner)

    async def task_remove(self, call: Call, task: TaskId) -> Task:
        """Remove one task for good and answer what it was."""
        return await self._store.remove(call.principal, task)

    async def would_remove(self, call: Call, task: TaskId) -> Preview:
        """The dry run of `task_remove`, and the question that the user is asked before it."""
        found = await self._store.get(call.principal, task)
        return Preview(would=f"Remove task {found.task}, {found.title!r}, for good.", affected=1)
