"""Put beside a server's own packages: notes which protocol version each request was made in.

A host starts our server with almost no environment and keeps its standard error to itself, so the note goes into
a file of the Python that runs the server: `heard.txt` in its prefix.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import usrland.host

HEARD = "heard.txt"
_make = usrland.host._server


async def _note(context: Any, call_next: Any) -> Any:
    with (Path(sys.prefix) / HEARD).open("a", encoding="utf-8") as file:
        file.write(f"{context.protocol_version} {context.method}\n")
    return await call_next(context)


def _listening(host: usrland.host.Host) -> Any:
    server = _make(host)
    server.middleware.append(_note)
    return server


usrland.host._server = _listening
