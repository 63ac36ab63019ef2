"""Connectors of other distributions, found by their entry points alone."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from usrland.errors import InvalidInput

Serve = Callable[..., AbstractAsyncContextManager[Any]]

MODULE = '''
import anyio
from usrland import Answer, Call, Connector, Operation, Preview, Unavailable
from pydantic import BaseModel

closed = []


class Config(BaseModel):
    city: str
    mood: str = "fair"


class Said(Answer):
    text: str


class Weather(Connector[Config]):
    name = "weather"
    config_type = Config

    def __init__(self, config, http):
        super().__init__(config, http)
        if config.mood == "broken":
            raise RuntimeError("a bug of the author")

    def operations(self):
        if self.config.mood == "silent":
            raise RuntimeError("another bug")
        if self.config.mood == "down":
            raise Unavailable("the forecast is down.")
        read, manage = frozenset({"sys:read"}), frozenset({"sys:manage"})
        return [
            Operation(call=self.today, effect="read", scopes=read, name="day.today"),
            Operation(call=self.rain, effect="write", scopes=manage, undo="shine"),
            Operation(call=self.today, effect="read", scopes=read, name="x" * 56),
        ]

    async def check(self):
        if self.config.mood == "odd":
            raise RuntimeError("a bug in a check")

    async def aclose(self):
        await anyio.sleep(0)
        closed.append(self.config.mood)
        if self.config.mood == "odd":
            raise RuntimeError("a bug in closing")

    async def today(self) -> Said:
        """Say what the weather is."""
        return Said(text=f"{self.config.mood} in {self.config.city}")

    async def rain(self, call: Call) -> Said:
        """Make it rain."""
        return Said(text=f"rain by {call.operation}")
'''


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution with a connector of the kind `weather`, on the path."""
    site = tmp_path / "site"
    metadata = site / "weather-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: weather\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(
        "[usrland.connectors]\nweather = usrland_weather_for_tests:Weather\n", encoding="utf-8"
    )
    (site / "usrland_weather_for_tests.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(site)


def weather(name: str = "sky", **keys: str) -> str:
    return f'[{name}]\nkind = "weather"\ncity = "Rome"\n' + "".join(
        f"{key} = {value}\n" for key, value in keys.items()
    )


@pytest.mark.usefixtures("installed")
async def test_a_connector_of_somebody_else_is_served_under_its_systems_name(serve: Serve) -> None:
    async with serve(weather(write="true")) as run:
        assert await run("sys_call", name="sky_day_today", arguments={}) == {"text": "fair in Rome"}
        assert await run("sys_call", name="sky_rain", arguments={}) == {"text": "rain by sky_rain"}
        contract = await run("sys_describe", name="sky_rain")
        rain = run.host.service.state["catalogue"].entry("sky_rain").operation

    assert contract["scopes"] == ["sky:manage", "sky:write"]
    assert (rain.undo, rain.open_world) == ("sky_shine", True)


@pytest.mark.usefixtures("installed")
async def test_a_name_that_grows_too_long_is_cut_marked_and_not_listed(serve: Serve) -> None:
    async with serve(weather()) as run:
        found = await run("sys_find", request="what is the weather")
        listed = run.host.path.listed(run.host.principal)

    names = sorted(operation["name"] for operation in found["operations"])
    assert names[0] == "sky_day_today"
    assert re.fullmatch(r"sky_x{45}_[0-9a-f]{6}", names[1])
    assert len(names[1]) == 56
    assert all(operation.name.startswith("sys_") for operation in listed)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("mood", "said"),
    [("broken", "failed to start"), ("silent", "its log tells why"), ("down", "the forecast is down")],
)
async def test_a_connector_that_breaks_costs_no_other(serve: Serve, mood: str, said: str) -> None:
    async with serve(weather() + weather("storm", mood=f'"{mood}"')) as run:
        found = await run("sys_find", request="weather")
        assert await run("sys_call", name="sky_day_today", arguments={}) == {"text": "fair in Rome"}

    assert said in found["note"]
    assert "bug" not in found["note"]


@pytest.mark.usefixtures("installed")
async def test_a_connector_that_breaks_when_checked_or_closed_costs_no_other(serve: Serve) -> None:
    async with serve(weather("storm", mood='"odd"') + weather()) as run:
        await run("sys_find", request="weather")
        problems = await run.host.service.state["catalogue"].check()

    assert sys.modules["usrland_weather_for_tests"].closed[-2:] == ["odd", "fair"]
    assert problems["storm"] == "its connector failed; the log tells why."
    assert "log tells" not in problems.get("sky", "")


async def test_a_kind_that_is_not_installed_is_named_with_those_that_are(serve: Serve) -> None:
    async with serve(weather()) as run:
        found = await run("sys_find", request="weather")
        with pytest.raises(InvalidInput):
            await run("sky_day_today")

    assert "there is no connector 'weather'" in found["note"]
