"""Where log records go: a protocol and two sinks without any policy."""

from __future__ import annotations

import json
from typing import Protocol, TextIO

from ollama_router_core.records.request_record import RequestRecord

__all__ = ["LogSink", "MemorySink", "StreamSink"]


class LogSink(Protocol):
    """Takes each record once. It must return at once and must not raise: it is called on a request's path."""

    def write(self, record: RequestRecord) -> None:
        """Take one record."""


class MemorySink:
    """Keeps records in a list; for tests and for programs that look at their own traffic."""

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []

    def write(self, record: RequestRecord) -> None:
        """Append one record."""
        self.records.append(record)


class StreamSink:
    """Writes each record as one line of JSON to a text stream that the caller opened and closes.

    A stream that fails (closed, a broken pipe, a full disk) loses the line, and `dropped` counts it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.dropped = 0

    def write(self, record: RequestRecord) -> None:
        """Write one line."""
        line = json.dumps(record.to_json(), separators=(",", ":")) + "\n"
        try:
            self._stream.write(line)
        except (OSError, ValueError):
            self.dropped += 1
