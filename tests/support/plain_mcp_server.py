"""An MCP server that shares no code with us: the protocol of 2025-06-18 by hand, over standard input and output.

What it offers is read from the JSON file named on the command line each time it is asked, so that a test can
change it under a running client. Calls are appended to the file beside it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    offered, calls = Path(sys.argv[1]), Path(sys.argv[1] + ".calls")
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        try:
            reply["result"] = answer(message["method"], message.get("params") or {}, offered, calls)
        except KeyError:
            reply["error"] = {"code": -32601, "message": f"no method {message['method']}"}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


def answer(method: str, params: dict[str, Any], offered: Path, calls: Path) -> dict[str, Any]:
    if method == "initialize":
        return {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "plain", "version": "1"},
        }
    if method == "tools/list":
        return {"tools": json.loads(offered.read_text(encoding="utf-8"))}
    if method == "tools/call":
        with calls.open("a", encoding="utf-8") as file:
            file.write(json.dumps(params) + "\n")
        return TOOLS[params["name"]](params.get("arguments", {}))
    raise KeyError(method)


def text(*texts: str, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": each} for each in texts], **more}


TOOLS: dict[str, Any] = {
    "readNote": lambda given: text(f"note {given['id']}: buy milk"),
    "drop-note": lambda given: text("gone", structuredContent={"dropped": given["id"]}),
    "draw": lambda given: {"content": [{"type": "image", "data": "aGVsbG8=", "mimeType": "image/png"}]},
    "fail": lambda given: text("there is no such note", isError=True),
    "die": lambda given: sys.exit(1),
}


if __name__ == "__main__":
    main()
