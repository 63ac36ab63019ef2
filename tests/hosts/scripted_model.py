"""A model endpoint on loopback that plays a script: it asks for one tool after the other, then stops.

It speaks as much of four providers' protocols as the hosts under test use. It is no model and decides nothing:
what is proven with it is that a host's tools, arguments and answers arrive, both ways. It keeps what the host
told it, which is all that the host's model would have seen.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Script", "Step", "playing"]

Json = dict[str, Any]

WAIT = "WaitForMcpServers"
ASIDE = "_aside"
"""Ends the id of a call that is no step."""


@dataclass(frozen=True)
class Step:
    """One tool call, by the name the server gives it; hosts put their own before it."""

    tool: str
    arguments: Mapping[str, Any]
    expected: str
    """A text that the answer must hold."""


@dataclass
class Script:
    """The steps, and what came of them."""

    steps: Sequence[Step]
    answers: list[str] = field(default_factory=list)
    """What the host reported of each step, in its own wrapping."""
    offered: list[str] = field(default_factory=list)
    """The tools it told the model of, by the names it gave them."""
    requests: list[Json] = field(default_factory=list)
    url: str = ""

    def next(self, tools: Sequence[str], answers: Sequence[str]) -> tuple[str, Step] | None:
        """The call that is due after so many answers, by the name the host knows."""
        if not any(tool.endswith(self.steps[0].tool) for tool in tools):
            # a host that begins before its servers are there offers a tool to wait for them; all else is a side
            # request: a title for the session, a check
            return (WAIT, Step(WAIT, {}, "")) if WAIT in tools else None
        self.offered = list(tools)
        self.answers = list(answers)
        if len(answers) >= len(self.steps):
            return None
        step = self.steps[len(answers)]
        name = next((tool for tool in tools if tool.endswith(step.tool)), None)
        return (name, step) if name else None


@contextmanager
def playing(script: Script) -> Iterator[Script]:
    """Serve the script until the context is left."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply([json.dumps({"data": [{"id": "scripted", "object": "model"}], "models": []})], False)

        do_HEAD = do_GET

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
            script.requests.append({"path": self.path, "body": body})
            path = self.path.partition("?")[0]
            if path.endswith("/messages"):
                self._reply(list(_anthropic(script, body)), bool(body.get("stream")))
            elif path.endswith("/chat/completions"):
                self._reply(list(_chat(script, body)), bool(body.get("stream")))
            elif path.endswith("/responses"):
                self._reply(list(_responses(script, body)), True)
            elif "enerateContent" in path:
                self._reply(list(_gemini(script, body)), "streamGenerateContent" in path)
            else:
                self._reply([json.dumps({"input_tokens": 1, "totalTokens": 1})], False)

        def _reply(self, lines: list[str], stream: bool) -> None:
            content = "".join(lines).encode()
            self.send_response(200)
            self.send_header("content-type", "text/event-stream" if stream else "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        script.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield script
        finally:
            server.shutdown()


def _text(value: Any) -> str:
    """The text of a content, whatever its wrapping."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(_text(each) for each in value)
    if isinstance(value, dict):
        return value["text"] if isinstance(value.get("text"), str) else json.dumps(value, ensure_ascii=False)
    return ""


def _event(value: Json, name: str = "") -> str:
    return (f"event: {name}\n" if name else "") + f"data: {json.dumps(value)}\n\n"


def _anthropic(script: Script, body: Json) -> Iterator[str]:
    answers = [
        _text(block.get("content"))
        for message in body.get("messages", [])
        if isinstance(message.get("content"), list)
        for block in message["content"]
        if block.get("type") == "tool_result" and not str(block.get("tool_use_id")).endswith(WAIT)
    ]
    due = script.next([tool.get("name", "") for tool in body.get("tools", [])], answers)
    if due:
        call = {"type": "tool_use", "id": f"toolu_{len(script.requests)}{due[0]}", "name": due[0], "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(due[1].arguments)}
        whole = {**call, "input": due[1].arguments}
    else:
        call, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": "done"}
        whole = {"type": "text", "text": "done"}
    stop = {"stop_reason": "tool_use" if due else "end_turn", "stop_sequence": None}
    message = {
        "id": f"msg_{len(script.requests)}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", "scripted"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    if not body.get("stream"):
        yield json.dumps({**message, "content": [whole], **stop})
        return
    yield _event({"type": "message_start", "message": message}, "message_start")
    yield _event({"type": "content_block_start", "index": 0, "content_block": call}, "content_block_start")
    yield _event({"type": "content_block_delta", "index": 0, "delta": delta}, "content_block_delta")
    yield _event({"type": "content_block_stop", "index": 0}, "content_block_stop")
    yield _event({"type": "message_delta", "delta": stop, "usage": {"output_tokens": 1}}, "message_delta")
    yield _event({"type": "message_stop"}, "message_stop")


def _chat(script: Script, body: Json) -> Iterator[str]:
    told = body.get("messages", [])
    answers = [
        _text(message.get("content"))
        for message in told
        if message.get("role") == "tool" and not str(message.get("tool_call_id")).endswith(ASIDE)
    ]
    tools = [tool["function"]["name"] for tool in body.get("tools") or []]
    # a host may keep tools back: it names them, shows one when asked, and passes its call on
    hidden = re.findall(r"mcp__[\w-]+__\w+", json.dumps(told)) if "tool_call" in tools else []
    due = script.next(list(dict.fromkeys(tools + hidden)), answers)
    message: Json = {"role": "assistant", "content": None if due else "done"}
    if due:
        name, arguments, mark = due[0], due[1].arguments, ""
        if name not in tools and f"select:{name}" not in json.dumps(told):
            name, arguments, mark = "tool_search", {"query": f"select:{name}"}, ASIDE
        elif name not in tools:
            name, arguments = "tool_call", {"name": name, "arguments": arguments}
        function = {"name": name, "arguments": json.dumps(arguments)}
        call = {"index": 0, "id": f"call_{len(told)}{mark}", "type": "function", "function": function}
        message["tool_calls"] = [call]
    finish = "tool_calls" if due else "stop"
    base = {"id": f"chat_{len(script.requests)}", "created": 1, "model": body.get("model", "scripted")}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    if not body.get("stream"):
        choice = {"index": 0, "message": message, "finish_reason": finish}
        yield json.dumps({**base, "object": "chat.completion", "choices": [choice], "usage": usage})
        return
    base["object"] = "chat.completion.chunk"
    yield _event({**base, "choices": [{"index": 0, "delta": message, "finish_reason": None}]})
    yield _event({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}], "usage": usage})
    yield "data: [DONE]\n\n"


def _responses(script: Script, body: Json) -> Iterator[str]:
    answers = [
        _text(item.get("output")) for item in body.get("input", []) if item.get("type") == "function_call_output"
    ]
    tools: dict[str, str] = {}  # a namespace groups the tools of one server
    for tool in body.get("tools", []):
        for inner in tool.get("tools", []) if tool.get("type") == "namespace" else [tool]:
            tools[inner.get("name", "")] = tool.get("name", "") if tool.get("type") == "namespace" else ""
    due = script.next(list(tools), answers)
    response: Json = {
        "id": f"resp_{len(script.requests)}",
        "object": "response",
        "status": "in_progress",
        "output": [],
    }
    yield _event({"type": "response.created", "response": response}, "response.created")
    if due:
        item: Json = {
            "type": "function_call",
            "id": f"fc_{len(answers)}",
            "call_id": f"call_{len(answers)}",
            "name": due[0],
            "arguments": json.dumps(due[1].arguments),
        }
        if tools[due[0]]:
            item["namespace"] = tools[due[0]]
    else:
        content = [{"type": "output_text", "text": "done", "annotations": []}]
        item = {"type": "message", "id": "msg_1", "role": "assistant", "content": content}
    done = {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield _event(done, "response.output_item.done")
    usage = {
        "input_tokens": 1,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 1,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 2,
    }
    completed = {**response, "status": "completed", "output": [item], "usage": usage}
    yield _event({"type": "response.completed", "response": completed}, "response.completed")


def _gemini(script: Script, body: Json) -> Iterator[str]:
    answers = [
        _text(part["functionResponse"].get("response"))
        for content in body.get("contents", [])
        for part in content.get("parts", [])
        if "functionResponse" in part
    ]
    tools = [each["name"] for tool in body.get("tools", []) for each in tool.get("functionDeclarations", [])]
    due = script.next(tools, answers)
    asked_json = (body.get("generationConfig") or {}).get("responseMimeType") == "application/json"
    part: Json = {"text": "{}" if asked_json else "done"}
    if due:
        part = {"functionCall": {"name": due[0], "args": due[1].arguments}}
    answer = {
        "candidates": [{"index": 0, "content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2},
    }
    streamed = bool(body.get("_stream", True)) and script.requests[-1]["path"].find("streamGenerateContent") >= 0
    yield _event(answer) if streamed else json.dumps(answer)
