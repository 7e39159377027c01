"""Settings of the router's log, the request log and traces."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ollama_router_core.config.sections import Section
from ollama_router_core.config.value_types import SizeText

__all__ = ["Logging", "RequestLogSettings", "Traces"]


class Logging(Section):
    """The router's own log; the request log is in the database."""

    enabled: bool = Field(default=True, description="false writes no log files.")
    level: Literal["debug", "info", "warn", "warning", "error"] = Field(
        default="info", description="The lowest level that is logged."
    )
    format: Literal["auto", "text", "json"] = Field(
        default="auto",
        description="Format on standard error; auto is text on a terminal and JSON elsewhere. Files are always JSON.",
    )
    directory: str | None = Field(
        default=None, description="Directory of the log files; null logs to standard error only."
    )
    max_size: SizeText = Field(default="100MB", description="Size at which a log file is rotated.")
    max_files: Annotated[int, Field(ge=1)] = Field(
        default=10, description="Log files to keep, the current one included."
    )


class RequestLogSettings(Section):
    """Retention of the request log, and its files."""

    keep_days: Annotated[float, Field(gt=0)] | None = Field(
        default=90.0, description="Days after which rows, audit entries and incidents are deleted; null keeps them."
    )
    max_rows: Annotated[int, Field(ge=1)] | None = Field(
        default=5_000_000,
        description="Maximum number of rows, and of audit entries; the newest are kept, null sets no limit.",
    )
    directory: str | None = Field(
        default=None,
        description="Directory in which rows are also written as JSON lines, to requests.jsonl; null writes no files.",
    )
    max_size: SizeText = Field(default="100MB", description="Size at which requests.jsonl is rotated.")
    max_files: Annotated[int, Field(ge=1)] = Field(
        default=10, description="Files of JSON lines to keep, the current one included."
    )


class Traces(Section):
    """OpenTelemetry traces; needs the extra `otel`."""

    enabled: bool = Field(default=False, description="true sends a trace of each request with OTLP over HTTP.")
    endpoint: str | None = Field(
        default=None,
        description="OTLP endpoint, such as http://collector:4318/v1/traces; null reads the OTEL_EXPORTER_OTLP_..."
        " variables.",
    )
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        default=1.0, description="Share of requests to trace, among those whose `traceparent` does not decide it."
    )
    to_hosts: bool = Field(
        default=True,
        description="false keeps `traceparent` and `tracestate`, ours and clients', from external hosts; servers get"
        " them. Applies without `enabled` as well.",
    )
