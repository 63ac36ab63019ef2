"""The template's own behaviour. What every connector must do is in `test_contract.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from example_connector.connector import ExampleConfig, ExampleConnector
from usrland import Call, NotFound, Principal, Unavailable
from usrland.outgoing import outgoing


@pytest.fixture
def connector(tmp_path: Path) -> ExampleConnector:
    return ExampleConnector(ExampleConfig(file=tmp_path / "tasks.sqlite"), outgoing())


def call(tenant: str = "acme", offset: int = 0) -> Call:
    principal = Principal(subject="t", tenant=tenant, scopes=frozenset({"*"}))
    return Call(id="t", principal=principal, operation="task", offset=offset)


async def test_an_added_task_is_found_by_its_title_and_by_its_owner(connector: ExampleConnector) -> None:
    added = await connector.task_add(call(), "Write the offer", owner="Ada")
    await connector.task_add(call(), "Water the plants")

    by_title = await connector.task_find(call(), "OFFER")
    by_owner = await connector.task_find(call(), "ada")

    assert by_title.items == by_owner.items == [added]
    assert (by_title.total, by_title.more) == (1, False)


async def test_signs_that_sql_knows_are_only_text(connector: ExampleConnector) -> None:
    await connector.task_add(call(), "100% sure? it's '; DROP TABLE task; --")
    await connector.task_add(call(), "another")

    page = await connector.task_find(call(), "100% sure? it's '")

    assert [task.title for task in page.items] == ["100% sure? it's '; DROP TABLE task; --"]


async def test_reading_on_begins_where_the_last_page_ended(connector: ExampleConnector) -> None:
    for number in range(3):
        await connector.task_add(call(), f"task {number}")

    page = await connector.task_find(call(offset=2))

    assert [task.title for task in page.items] == ["task 0"]
    assert (page.total, page.more) == (3, False)


async def test_nothing_found_is_said(connector: ExampleConnector) -> None:
    assert (await connector.task_find(call(), "nothing like it")).note == "No task fits."


async def test_the_dry_run_of_a_removal_removes_nothing(connector: ExampleConnector) -> None:
    added = await connector.task_add(call(), "Write the offer")

    preview = await connector.would_remove(call(), added.task)

    assert preview.would == "Remove task 1, 'Write the offer', for good."
    assert (await connector.task_find(call())).items == [added]


async def test_a_removed_task_is_gone_and_its_number_is_not_given_again(connector: ExampleConnector) -> None:
    added = await connector.task_add(call(), "Write the offer")

    assert await connector.task_remove(call(), added.task) == added

    with pytest.raises(NotFound):
        await connector.task_remove(call(), added.task)
    assert (await connector.task_add(call(), "again")).task == added.task + 1


async def test_another_tenant_neither_finds_nor_removes(connector: ExampleConnector) -> None:
    added = await connector.task_add(call(), "ours")

    assert (await connector.task_find(call("other"))).items == []
    for refused in (connector.task_remove, connector.would_remove):
        with pytest.raises(NotFound):
            await refused(call("other"), added.task)


async def test_a_file_that_cannot_be_opened_is_reported_by_the_check(tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("no folder", encoding="utf-8")
    connector = ExampleConnector(ExampleConfig(file=tmp_path / "occupied" / "tasks.sqlite"), outgoing())

    with pytest.raises(Unavailable, match="task file cannot be used"):
        await connector.check()
