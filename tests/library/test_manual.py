"""The pages of operations as resources, for whoever may call them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import toy
from mcp import Client, MCPError
from mcp.types import ResourceTemplateReference

from usrland.host import running
from usrland.schemas.principal import Principal
from usrland.settings import Settings

TEMPLATE = "usrland://man/{name}"


async def test_every_server_has_the_pages_of_its_operations(
    tmp_path: Path, someone: Callable[..., Principal], connect: Any
) -> None:
    settings = Settings(home=tmp_path)
    async with running(toy.service(settings), settings) as host, connect(host) as client:
        templates = [each.uri_template for each in (await client.list_resource_templates()).resource_templates]
        page = (await client.read_resource("usrland://man/drop")).contents[0].text
        hidden = (await client.read_resource("usrland://man/hidden.put")).contents[0].text
        tools = [tool.name for tool in (await client.list_tools()).tools]
        reference = ResourceTemplateReference(type="ref/resource", uri=TEMPLATE)
        suggested = await client.complete(reference, {"name": "name", "value": "l"})
        with pytest.raises(MCPError, match="Did you mean 'drop'"):
            await client.read_resource("usrland://man/dropp")

    assert TEMPLATE in templates
    assert page.startswith("# drop: Drop (toy)") and "Forget a note for good." in page
    assert "- name (string, required)" in page and "- consent: a person is asked first" in page
    assert "toy:write" in hidden
    assert "man" not in tools
    assert suggested.completion.values == ["lines", "long"]


async def test_nobody_finds_the_page_of_what_they_may_not_call(
    tmp_path: Path, someone: Callable[..., Principal]
) -> None:
    settings = Settings(home=tmp_path)
    reader = someone("toy:read")
    async with running(toy.service(settings), settings, principal=reader) as host, Client(host.server) as client:
        assert "Add two" in (await client.read_resource("usrland://man/add")).contents[0].text  # type: ignore[union-attr]
        with pytest.raises(MCPError, match="no page 'put'"):
            await client.read_resource("usrland://man/put")
