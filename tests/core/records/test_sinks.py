"""Sinks take each record once and keep it as it is."""

from __future__ import annotations

import io
import json

from core.records.test_request_record import a_record
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.records.sinks import LogSink, MemorySink, StreamSink


def test_memory_keeps_records_in_order():
    """The very records, oldest first."""
    sink = MemorySink()
    first, second = a_record(id="1"), a_record(id="2")
    sink.write(first)
    sink.write(second)
    assert sink.records == [first, second]
    assert sink.records[0] is first


def test_a_stream_gets_one_line_of_json_a_record():
    """Each line can be read back into an equal record, whatever the texts hold."""
    stream = io.StringIO()
    sink: LogSink = StreamSink(stream)
    records = [a_record(id="1", error='line\nbreak " and ü'), a_record(id="2", ttft_ms=0.25, streamed=True)]
    for record in records:
        sink.write(record)
    lines = stream.getvalue().splitlines()
    assert [RequestRecord(**json.loads(line)) for line in lines] == records


def test_a_line_has_every_field():
    """Programs that read the lines find the same keys each time."""
    stream = io.StringIO()
    StreamSink(stream).write(a_record())
    assert list(json.loads(stream.getvalue())) == list(RequestRecord.__struct_fields__)


def test_a_stream_stays_open():
    """Who opened the stream closes it."""
    stream = io.StringIO()
    StreamSink(stream).write(a_record())
    assert not stream.closed


def test_a_stream_that_fails_is_counted_and_raises_nothing():
    """A sink is called on a request's path: a closed stream must not fail the request."""
    stream = io.StringIO()
    sink = StreamSink(stream)
    stream.close()
    sink.write(a_record())
    assert sink.dropped == 1
