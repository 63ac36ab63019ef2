"""Every operation of every server needs each of its scopes, in both eras, and whoever lacks one is told which."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import pytest
from hostile import BETA, SERVERS, world
from mcp import Client

from usrland import Operation, Principal
from usrland.host import running
from usrland.settings import Settings


@pytest.mark.parametrize("server", SERVERS)
async def test_each_operation_opens_with_all_of_its_scopes_and_not_with_fewer(
    tmp_path: Path, server: str, era: str
) -> None:
    async with world(tmp_path) as made:
        service = made.services[server]
        before = made.state()
        everything = frozenset(scope for operation in service.operations for scope in operation.scopes)
        for held in _subsets(everything):
            who = Principal(subject="ann", tenant="beta", scopes=held, source="test")
            async with (
                running(service, Settings.load(made.home, {}), principal=who) as host,
                Client(host.server, mode=era) as client,
            ):
                listed = {tool.name for tool in (await client.list_tools()).tools}
                assert listed == {each.name for each in _visible(service.operations) if each.scopes <= held}
                for operation in _visible(service.operations):
                    missing = operation.scopes - held
                    if not missing:
                        continue
                    answer = await client.call_tool(operation.name, {})
                    assert answer.is_error
                    assert answer.structured_content["error"]["missing_scopes"] == sorted(missing), operation.name
        assert made.state() == before
        assert BETA.tenant == "beta"


def _visible(operations: Sequence[Operation]) -> list[Operation]:
    return [operation for operation in operations if operation.visible]


def _subsets(scopes: frozenset[str]) -> list[frozenset[str]]:
    """Every subset where there are few; else nothing, each alone, and all but one."""
    if len(scopes) <= 4:
        return [frozenset(held) for size in range(len(scopes) + 1) for held in combinations(sorted(scopes), size)]
    return [frozenset(), *(frozenset({one}) for one in scopes), *(scopes - {one} for one in scopes)]
