"""The contract suite can fail: each of its tests, against a server that breaks what it promises."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from usrland import Answer, Call, Operation, Page, Service
from usrland.probe import Launch
from usrland.settings import Settings
from usrland.testing import ServerContract

PURITY = "test_a_host_gets_the_tools_and_nothing_else_on_standard_output"
QUIET = "test_it_says_nothing_where_nothing_is_wrong"
END = "test_it_ends_when_its_input_ends"
READ = frozenset({"test:read"})


class Line(Answer):
    text: str


async def line_find(call: Call) -> Page[Line]:
    """Find lines."""
    lines = [Line(text=f"line {number} " + "word " * 20) for number in range(20)]
    return Page(items=lines[call.offset :], total=len(lines))


async def line_repeat() -> Page[Line]:
    """Find lines, the same ones whatever was read already."""
    return Page(items=[Line(text=f"line {number} " + "word " * 20) for number in range(20)])


async def line_hide() -> Line:
    """Find\u200b a line."""
    return Line(text="")


async def line_break() -> Line:
    """Find a line, or fail."""
    raise RuntimeError("on purpose")


def reading(*calls: Callable[..., Any], **changes: Any) -> list[Operation]:
    return [Operation(call=call, effect="read", scopes=READ, **changes) for call in calls]


def contract(*operations: Operation, title: str = "Test", **attributes: Any) -> ServerContract:
    """A contract for a server of these operations."""

    def service(settings: Settings) -> Service:
        return Service(
            name="test", title=title, description="A test.", instructions="Test it.", operations=operations
        )

    attributes.setdefault("service", staticmethod(service))
    made: ServerContract = type("Contract", (ServerContract,), attributes)()
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.load(tmp_path, environment={})


async def broken(test: Callable[..., Any], *arguments: Any) -> str:
    """Run a test of the suite, which must fail; what it said."""
    with pytest.raises(AssertionError) as failure:
        result = test(*arguments)
        if inspect.isawaitable(result):
            await result
    return str(failure.value)


async def test_a_tool_that_hosts_cannot_take_fails(settings: Settings) -> None:
    suite = contract(*reading(line_hide))

    assert "U+200B" in await broken(suite.test_every_tool_can_be_used_by_every_host, settings, "auto")


async def test_too_many_tools_and_too_many_tokens_fail(settings: Settings) -> None:
    many = [reading(line_find, name=f"line_find_{number}")[0] for number in range(14)]
    wordy = reading(line_find, description="word " * 3000)

    await broken(contract(*many).test_the_listing_fits_into_a_conversation, settings)
    await broken(contract(*wordy).test_the_listing_fits_into_a_conversation, settings)
    await broken(contract().test_the_listing_fits_into_a_conversation, settings)


async def test_a_listing_that_changes_fails(settings: Settings) -> None:
    calls = iter(range(9))

    def service(settings: Settings) -> Service:
        changing = reading(line_find, description=f"Find lines, version {next(calls)}.")
        return Service(name="test", title="Test", description="A test.", instructions="x", operations=changing)

    suite = contract(service=staticmethod(service))
    await broken(suite.test_the_listing_is_the_same_each_time_and_in_both_eras, settings)


async def test_a_server_without_a_title_fails(settings: Settings) -> None:
    await broken(contract(title="").test_what_the_server_says_of_itself_can_be_read_alone, settings)


async def test_pages_join_and_pages_that_do_not_fail(settings: Settings) -> None:
    name = "test_a_long_answer_is_cut_to_its_budget_and_its_pages_join"
    joining = contract(*reading(line_find), samples={"line_find": {}})
    repeating = contract(*reading(line_repeat), samples={"line_repeat": {}})

    await getattr(joining, name)(settings)
    await broken(getattr(repeating, name), settings)


async def test_a_sample_of_another_server_fails(settings: Settings) -> None:
    suite = contract(*reading(line_find), samples={"line_fund": {}})

    assert "line_fund" in await broken(suite.test_the_samples_are_calls_of_this_server, settings)


async def test_a_sample_that_cannot_be_called_fails(settings: Settings) -> None:
    suite = contract(*reading(line_break), samples={"line_break": {}})

    said = await broken(suite.test_text_and_structure_of_an_answer_say_the_same, settings, "auto")
    assert "line_break failed inside" in said


@pytest.mark.parametrize(
    ("code", "name", "said"),
    [
        ("raise SystemExit('gone')", PURITY, "gone"),
        (
            "print('hello', flush=True); import example_connector.__main__ as m; m.main()",
            PURITY,
            "hello",
        ),
        (
            "import atexit, os; atexit.register(os._exit, 3); import example_connector.__main__ as m; m.main()",
            END,
            "",
        ),
        (
            "import sys; print('careful', file=sys.stderr); import example_connector.__main__ as m; m.main()",
            QUIET,
            "careful",
        ),
    ],
)
async def test_a_process_that_misbehaves_fails(settings: Settings, code: str, name: str, said: str) -> None:
    environment = {"USRLAND_HOME": str(settings.home), "PYTHONPATH": ":".join(sys.path)}
    launch = Launch(command=sys.executable, arguments=("-c", code), environment=environment)
    suite = contract(launch=lambda self, settings: launch)
    lives = {"2025-06-18": suite.start(settings, "2025-06-18")}

    assert said in await broken(getattr(suite, name), lives, *(["2025-06-18"] if name == PURITY else []))


def test_the_settings_file_that_a_server_needs_is_there(tmp_path: Path) -> None:
    class Configured(ServerContract):
        usrland_toml = "[test]\nkey = 1\n"

    fixture = inspect.unwrap(Configured.settings)
    assert fixture(Configured(), tmp_path).tables == {"test": {"key": 1}}


async def test_a_start_that_takes_too_long_fails(settings: Settings) -> None:
    suite = contract(module="example_connector", cold_start_cpu_seconds=0.01)
    lives = {"2025-06-18": suite.start(settings, "2025-06-18")}

    await broken(suite.test_it_starts_before_a_host_gives_up, lives)


async def test_a_service_whose_module_cannot_be_run_is_told_what_to_set(settings: Settings) -> None:
    assert "set `module`" in await broken(contract().launch, settings)


def test_without_pytest_the_error_names_the_extra() -> None:
    import subprocess

    code = "import sys; sys.modules['pytest'] = None; import usrland.testing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert "pip install 'usrland[testing]'" in done.stderr
