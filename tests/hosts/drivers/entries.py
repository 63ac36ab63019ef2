"""The servers of an `mcpServers` file, with the variables of the environment filled in."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any


def entries(file: str) -> dict[str, dict[str, Any]]:
    text = re.sub(r"\$\{(\w+)\}", lambda found: os.environ[found[1]], Path(file).read_text(encoding="utf-8"))
    servers: dict[str, dict[str, Any]] = json.loads(text)["mcpServers"]
    return servers
