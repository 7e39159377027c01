"""The work grows no faster than the input, for every reader of what a client or a server sends.

Two measures: calls and bytes touched, on generated inputs, as a law; and the thread's own processor time from one size
to four times that, which sees what happens inside of C: regular expressions, slices, decoders.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_router_core.access.redaction import redact
from ollama_router_core.access.tokens import read_credential
from ollama_router_core.access.trusted_proxies import Proxies
from ollama_router_core.api.endpoint_matching import match_endpoint
from ollama_router_core.api.endpoints import Family
from ollama_router_core.api.keep_alive import keep_alive_seconds
from ollama_router_core.api.model_names import canonical_name, is_cloud_name
from ollama_router_core.api.multipart import parse_form
from ollama_router_core.api.name_patterns import can_match
from ollama_router_core.api.reach import reaches
from ollama_router_core.api.requests import parse_request
from ollama_router_core.api.strict_json import parse_object
from ollama_router_core.api.user_urls import leads_inside
from ollama_router_core.errors import RouterError
from ollama_router_core.exchange.events import Piece
from ollama_router_core.exchange.key_redaction import Redactor
from ollama_router_core.outbound.destinations import Destination, Patience
from ollama_router_core.outbound.header_fields import answer_fields, request_fields
from ollama_router_core.outbound.stream_usage import UsageChunkFilter
from ollama_router_core.records.user_text import shown_within
from ollama_router_core.responses.server_documents import read_document
from ollama_router_core.responses.server_faults import read_fault
from ollama_router_core.responses.usage import UsageReader
from ollama_router_core.translate import (
    ROUTES,
    ConversationRoute,
    ReplyIdentity,
    StreamTranslator,
    translate_error,
    translate_reply,
    translate_request,
)
from support.work import work

Reader = Callable[[bytes], object]

PIECE = 50
SHORT = 0.02
"""Seconds; nothing that takes less holds anybody up."""
SLACK = 2000
"""Calls and bytes that have nothing to do with the input: a cache that is filled, a collection of garbage."""
NOBODY = ReplyIdentity(model="m", id="r", created_ns=0)
PLACE = Destination(
    name="one", scheme="http", host="h", port=1, patience=Patience(connect=1, first_byte=1, idle=1), external=True
)
CHATS = {route.path: route for route in ROUTES if isinstance(route, ConversationRoute) and not route.plain_prompt}


def pieces(data: bytes) -> Iterator[bytes]:
    """The data as it may come."""
    return (data[start : start + PIECE] for start in range(0, len(data), PIECE))


def read_usage(family: Family, data: bytes) -> None:
    """Usage of a stream that comes in small pieces."""
    reader = UsageReader(family, streamed=True)
    for piece in pieces(data):
        reader.feed(piece)


def take_counts_out(data: bytes) -> None:
    """A stream that was asked for counts, in small pieces."""
    unasked = UsageChunkFilter()
    for piece in pieces(data):
        unasked.feed(piece)
    unasked.feed(b"", last=True)


def translate_stream(source: ConversationRoute, target: ConversationRoute, data: bytes) -> None:
    """A stream of a host that comes in small pieces."""
    translator = StreamTranslator(source, target, identity=NOBODY)
    for piece in pieces(data):
        translator.feed(piece)
    translator.finish()


def mask(data: bytes) -> None:
    """A stream of a host that has our key."""
    redactor = Redactor((b"sk-abcabdabcabe",))
    for piece in pieces(data):
        redactor.redact(Piece(piece, complete=False))


def fields_of(data: bytes) -> list[tuple[bytes, bytes]]:
    """Header fields with the data in names and values."""
    return [(word[:40], word) for word in data.split(b" ")]


def readers() -> dict[str, Reader]:
    """Every reader by name; each takes the bytes of one input."""
    found: dict[str, Reader] = {
        "form": partial(parse_form, b"multipart/form-data; boundary=XX"),
        "json": parse_object,
        "reach": lambda data: [*reaches(parse_object(data))],
        "document": read_document,
        "fault": partial(read_fault, 500, streamed=False),
        "unasked counts": take_counts_out,
        "mask": mask,
        "log": lambda data: redact(data.decode("latin-1")),
        "row": lambda data: shown_within(data.decode("latin-1"), None),
        "name": lambda data: (canonical_name(data.decode("latin-1")), is_cloud_name(data.decode("latin-1"))),
        "pattern": lambda data: can_match(data.decode("latin-1")[:200]),
        "keep_alive": lambda data: keep_alive_seconds(data.decode("latin-1")),
        "url": lambda data: leads_inside("http://" + data.decode("latin-1")),
        "path": lambda data: match_endpoint("POST", "/v1/models/" + data.decode("latin-1")),
        "request fields": lambda data: request_fields(fields_of(data), PLACE, "id"),
        "answer fields": lambda data: answer_fields(fields_of(data)),
        "credential": lambda data: read_credential([(b"authorization", data)]),
        "forwarded": lambda data: Proxies(["10.0.0.0/8"]).client("10.0.0.1", [(b"x-forwarded-for", data)]),
    }
    for path, route in CHATS.items():
        other = CHATS["/v1/messages" if path == "/api/chat" else "/api/chat"]
        found[f"request {path}"] = partial(parse_request, match_endpoint("POST", path))
        found[f"translate request {path}"] = partial(translate_request, source=route, target=other, model="m")
        found[f"translate reply {path}"] = partial(
            translate_reply, source=route, target=other, identity=NOBODY, elapsed_ns=0
        )
        found[f"translate error {path}"] = partial(_error, route, other)
        found[f"stream {path}"] = partial(translate_stream, route, other)
    for family in Family:
        found[f"usage {family}"] = partial(read_usage, family)
    return found


def _error(source: ConversationRoute, target: ConversationRoute, data: bytes) -> object:
    return translate_error(500, data, target=target, request_id="r")


READERS: Mapping[str, Reader] = readers()

SHAPES = [
    (b"", b""),
    (b'{"model":"m","messages":[{"role":"user","content":"', b'"}],"stream":true}'),
    (b'{"model":"m","messages":[', b'{"role":"user","content":"x"}]}'),
    (b'{"model":"m",', b'"prompt":""}'),
    (b'--XX\r\nContent-Disposition: form-data; name="model"\r\nX:', b"\r\n\r\nm\r\n--XX--\r\n"),
    (b"--XX\r\n", b"--XX--\r\n"),
    (b'{"error":"', b'"}'),
    (b'{"models":[', b"{}]}"),
]
UNITS = [
    b" ", b"\n", b"\\", b'\\"', b'"', b",", b"[", b"]", b"{", b"}", b'{"a":', b'"a":1,', b"<", b"<think>", b"</think>",
    b"<think", b"data: ", b"data: {}\n\n", b"data:\n", b"event: x\n", b": \n", b"\r\n", b"--XX\r\n", b"%", b"%25",
    b"\\u0073", b"sk-abcabd", b"a/", b"a:", b".", b"..", b"1", b"1.", b"1h", b"*", b"?", b'x="y"; ', b"10.0.0.1, ",
    b"Bearer ", b"://a:", b"\xff",
    b'data: {"choices":[{"delta":{"content":" "}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"<"}}]}\n\n',
    b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}}]}\n\n',
    b'{"message":{"content":" "},"done":false}\n',
    b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" "}}\n\n',
    b'data: {"type":"response.output_text.delta","delta":" "}\n\n',
    b'{"role":"user","content":"x"},', b'{"role":"assistant","content":[{"type":"text","text":"x"}]},',
    b'{"type":"image_url","image_url":{"url":"http://127.0.0.1/"}},',
]  # fmt: skip


def ran(reader: Reader, data: bytes) -> None:
    """Read it; what is refused is refused."""
    with suppress(RouterError, ValueError, RecursionError):
        reader(data)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=20)
@given(
    unit=st.sampled_from(UNITS) | st.binary(min_size=1, max_size=4),
    shape=st.sampled_from(SHAPES),
    count=st.integers(200, 600),
)
def test_four_times_the_input_is_at_most_four_times_the_work(
    name: str, unit: bytes, shape: tuple[bytes, bytes], count: int
) -> None:
    """The law, in calls and bytes touched; what is refused earlier costs less.

    Over two doublings, since pieces that end within an escape or not change the work of a single one by half.
    """
    reader, (before, after) = READERS[name], shape
    for times in (count, 4 * count):
        ran(reader, before + unit * times + after)  # caches are filled
    once = work(lambda: ran(reader, before + unit * count + after))
    four_times = work(lambda: ran(reader, before + unit * 4 * count + after))
    assert four_times <= 4.5 * once + 8 * SLACK


def seconds(reader: Reader, data: bytes) -> float:
    """The thread's processor time, the least of three; a short time is measured once."""
    took: list[float] = []
    while len(took) < 3 and (not took or took[0] > SHORT):
        started = time.thread_time()
        ran(reader, data)
        took.append(time.thread_time() - started)
    return min(took)


@pytest.mark.parametrize("name", [name for name in READERS if not name.startswith("stream")])
def test_four_times_the_input_is_not_sixteen_times_the_time(name: str) -> None:
    """What happens inside of C, for inputs that take long enough to be measured."""
    reader, slow = READERS[name], []
    for before, after in SHAPES:
        for unit in UNITS:
            small, large = (before + unit * (size // len(unit)) + after for size in (8_000, 32_000))
            if (took := seconds(reader, large)) > SHORT and took > 9 * seconds(reader, small):
                slow.append((before, unit, took))
    assert slow == []


TOOL_DELTA = (
    b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}]}}]}\n\n'
)
BLOCK_DELTA = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" "}}\n\n'


@pytest.mark.parametrize(
    ("path", "delta"),
    [
        ("/v1/chat/completions", b'data: {"choices":[{"delta":{"content":" "}}]}\n\n'),
        ("/v1/chat/completions", b'data: {"choices":[{"delta":{"content":"<"}}]}\n\n'),
        ("/v1/chat/completions", TOOL_DELTA),
        ("/v1/responses", b'data: {"type":"response.output_text.delta","delta":" "}\n\n'),
        ("/v1/messages", BLOCK_DELTA),
        ("/api/chat", b'{"message":{"content":" "},"done":false}\n'),
    ],
)  # fmt: skip
def test_a_stream_of_very_many_deltas_takes_time_in_step_with_them(path: str, delta: bytes) -> None:
    """Blanks before a thought were held and looked through again with each delta: 7.3 times the time for 4 times."""
    reader = READERS[f"stream {path}"]
    assert seconds(reader, delta * 20_000) < 5.7 * seconds(reader, delta * 5000)
