"""Sinks of request records: a protocol and two simple implementations."""

from __future__ import annotations

import json
from typing import Protocol, TextIO

from ollama_router_core.records.request_record import RequestRecord

__all__ = ["LogSink", "MemorySink", "StreamSink"]


class LogSink(Protocol):
    """Receive each record once. `write` must not block or raise, as it runs while a request is served."""

    def write(self, record: RequestRecord) -> None:
        """Write one record."""


class MemorySink:
    """Store records in a list; for tests and for programs that inspect their own traffic."""

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []

    def write(self, record: RequestRecord) -> None:
        """Append one record."""
        self.records.append(record)


class StreamSink:
    """Write each record as a line of JSON to a text stream that the caller opens and closes.

    If the stream fails (closed, a broken pipe, a full disk), the line is lost and counted in `dropped`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.dropped = 0

    def write(self, record: RequestRecord) -> None:
        """Write one record as a line."""
        line = json.dumps(record.to_json(), separators=(",", ":")) + "\n"
        try:
            self._stream.write(line)
        except (OSError, ValueError):
            self.dropped += 1
