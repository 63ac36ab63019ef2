"""From a command line to a running server.

Every server's `__main__` calls `launch` with the place of its `service` function as text, so that standard
output is safe before one line of the server is imported.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import anyio

import usrland
from usrland import heap
from usrland.errors import UsrlandError
from usrland.redact import SecretFilter
from usrland.settings import DEFAULT_PORT, ServerTable, Settings
from usrland.telemetry import exported
from usrland.transport import bind, serve_http, serve_stdio, take_wire
from usrland.visible import visible_text

if TYPE_CHECKING:
    from usrland.connector import Service

__all__ = ["find_service", "launch", "start"]


def launch(service: str, argv: Sequence[str] | None = None) -> None:
    """Run the server whose `service` function stands at `package.module:function`. Does not return."""
    options = _parser(service).parse_args(argv)
    sys.exit(start([service], options.transport, options.host, options.port, options.home))


def start(services: Sequence[str], transport: str, host: str, port: int, home: Path | None = None) -> int:
    """Serve; the exit code is 2 where it could not start."""
    wire = take_wire() if transport == "stdio" else None
    heap.share()
    try:
        settings = Settings.load(home)
        _configure_logging(settings)
        made = [find_service(service)(settings) for service in services]
        gc.freeze()  # what is loaded now stays; a collection need not walk it again
        with exported(settings, made[0].name if len(made) == 1 else "usrland"):
            if wire is not None:
                anyio.run(serve_stdio, made[0], settings, wire)
            else:
                with bind(host, port) as listener:
                    anyio.run(partial(serve_http, made, settings, listener, sse_only=transport == "sse"))
    except UsrlandError as error:
        print(f"usrland: {error}", file=sys.stderr)  # noqa: T201 - the reason why nothing starts
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def find_service(place: str) -> Callable[[Settings], Service]:
    """The `service` function at `package.module:function`."""
    module, _, name = place.partition(":")
    return cast("Callable[[Settings], Service]", getattr(importlib.import_module(module), name))


def _parser(service: str) -> argparse.ArgumentParser:
    program = service.partition(".")[0].replace("_", "-")
    parser = argparse.ArgumentParser(prog=program, description=f"The {program} MCP server.")
    parser.add_argument("--transport", choices=["stdio", "http", "sse"], default="stdio", help="default: stdio")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind for http and sse")
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help=f"default: {DEFAULT_PORT}; 0 takes a free one"
    )
    parser.add_argument("--home", type=Path, help="the usrland home (default: $USRLAND_HOME or ~/.usrland)")
    parser.add_argument("--version", action="version", version=usrland.__version__)
    return parser


class _OneLineEach(logging.Formatter):
    """What is logged may hold what a caller sent: it stays on its line and changes no terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = visible_text(record.message).replace("\r", "\\r").replace("\n", "\\n")
        return super().formatMessage(record)


def _configure_logging(settings: Settings) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(SecretFilter())
    handler.setFormatter(_OneLineEach("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    level = settings.section("server", ServerTable).log.upper()
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # it logs session ids, which are credentials of the older era
    logging.getLogger("mcp.server.streamable_http_manager").setLevel(logging.WARNING)
