"""Traces and metrics for OpenTelemetry, where the operator names a collector: the extra `otel`.

The protocol's SDK makes a span for every message it takes, with the standard attributes of MCP and GenAI; here it
is said where spans and metrics go, and each call is measured. Nothing that a caller sent or was answered is in
them: names, outcomes and times.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from usrland.errors import Unavailable
from usrland.settings import Settings

__all__ = ["TelemetryTable", "exported", "measured"]


class TelemetryTable(BaseModel):
    """The `[telemetry]` table."""

    model_config = ConfigDict(extra="forbid")

    endpoint: str = Field(default="", description="An OTLP collector over HTTP: http://127.0.0.1:4318.")
    every_seconds: float = Field(default=10.0, gt=0, description="How often metrics are sent.")


@contextmanager
def exported(settings: Settings, service: str) -> Iterator[None]:
    """While this is open, spans and metrics go to the collector; on leaving, the last of them."""
    table = settings.section("telemetry", TelemetryTable)
    if not table.endpoint:
        yield
        return
    providers = _providers(table, service)
    try:
        yield
    finally:
        for provider in providers:
            provider.shutdown()


def _providers(table: TelemetryTable, service: str) -> list[Any]:
    try:
        from opentelemetry import metrics, trace
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise Unavailable("telemetry needs: pip install 'usrland[otel]'.") from error

    resource = Resource.create({"service.name": service})
    base = table.endpoint.rstrip("/")
    traces = TracerProvider(resource=resource)
    traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{base}/v1/traces")))
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(endpoint=f"{base}/v1/metrics"), export_interval_millis=table.every_seconds * 1000
    )
    meters = MeterProvider(resource=resource, metric_readers=[reader])
    trace.set_tracer_provider(traces)
    metrics.set_meter_provider(meters)
    return [traces, meters]


@cache
def _duration() -> Any:
    from opentelemetry import metrics

    return metrics.get_meter("usrland").create_histogram(
        "mcp.server.operation.duration", unit="s", description="How long calls take."
    )


@contextmanager
def measured(operation: str) -> Iterator[dict[str, str]]:
    """Measure a call; what is put into the yielded values goes along (`error.type`)."""
    facts = {"mcp.method.name": "tools/call", "gen_ai.tool.name": operation}
    begun = time.perf_counter()
    try:
        yield facts
    finally:
        _duration().record(time.perf_counter() - begun, facts)
