"""Traces and metrics arrive at a collector with the standard attributes, and nothing that a caller said."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import toy
from doors import opened
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from processes import serving


@contextmanager
def collector() -> Iterator[tuple[str, dict[str, list[bytes]]]]:
    got: dict[str, list[bytes]] = {"/v1/traces": [], "/v1/metrics": []}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            got[self.path].append(body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", got
        server.shutdown()


async def test_calls_are_traced_and_measured_and_nothing_of_them_is_told(tmp_path: Path) -> None:
    secret = "the merger is called Bluebird"
    with (
        collector() as (endpoint, got),
        serving(tmp_path, "toy:service", USRLAND_TELEMETRY_ENDPOINT=endpoint) as served,
    ):
        async with opened(served.urls["toy/mcp"], served.token) as client:
            await client.call_tool("put", {"name": "a", "text": secret})
            await client.call_tool("reject", {})
        served.process.terminate()
        served.process.wait(20)

    spans = {
        span.name: {each.key: each.value.string_value for each in span.attributes}
        for body in got["/v1/traces"]
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }
    assert spans["tools/call put"]["gen_ai.tool.name"] == "put"
    assert spans["tools/call put"]["mcp.protocol.version"]
    assert spans["tools/call reject"]["error.type"] == "tool_error"
    counts = {
        (attributes["gen_ai.tool.name"], attributes.get("error.type", "")): point.count
        for body in got["/v1/metrics"]
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "mcp.server.operation.duration" and metric.unit == "s"
        for point in metric.histogram.data_points
        for attributes in [{each.key: each.value.string_value for each in point.attributes}]
    }
    assert counts == {("put", ""): 1, ("reject", "invalid_input"): 1}
    sent = b"".join(body for bodies in got.values() for body in bodies)
    assert b"Bluebird" not in sent and toy.CANARY.encode() not in sent and b"usrland_start_" not in sent
