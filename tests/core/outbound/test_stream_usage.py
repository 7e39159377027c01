"""Counts that a client did not ask for: asked for upstream, taken out of the stream again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.api.endpoint_matching import match_endpoint
from ollama_router_core.api.requests import ParsedRequest, parse_request
from ollama_router_core.errors import AmbiguousKey
from ollama_router_core.outbound.stream_usage import UsageChunkFilter, asking_for_usage
from support.json_texts import cut, cuts

TOKEN = b'data: {"id":"c","choices":[{"delta":{"content":"a"}}]}\n\n'
NULL = b'data: {"id":"c","choices":[{"delta":{"content":"\\"usage\\":{"}}],"usage":null}\n\n'
COUNTS = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}\n\n'
SPACED = b'data: {"id": "c", "choices": [], "usage": {"prompt_tokens": 7}}\r\n\r\n'
MIXED = b'data: {"id":"c","choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":7}}\n\n'
FILTERS = b'data: {"choices":[],"prompt_filter_results":[{"prompt_index":0}],"usage":null}\n\n'
FAILED = b'data: {"choices":[],"usage":{"prompt_tokens":7},"error":{"message":"boom"}}\n\n'
COMMENT = b": keep-alive\n\n"
LONG = b'data: {"choices":[{"delta":{"content":"%s"}}],"usage":{"prompt_tokens":1}}\n\n' % (b"x" * 20_000)
DONE = b"data: [DONE]\n\n"


def request(path: str = "/v1/chat/completions", **more: Any) -> ParsedRequest:
    """A streamed request with some more members."""
    body = {"model": "m", "messages": [], "prompt": "hi", "stream": True, **more}
    return parse_request(match_endpoint("POST", path), json.dumps(body).encode())


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize(
    "options", [{}, {"stream_options": None}, {"stream_options": {}}, {"stream_options": {"include_usage": False}}]
)
def test_a_stream_is_asked_for_its_counts(path: str, options: dict[str, Any]) -> None:
    """Whether the client has no such option or refuses it; everything else stays."""
    asked = request(path, **options)
    body = json.loads(asking_for_usage(asked))
    assert body.pop("stream_options") == {"include_usage": True}
    assert body == {key: value for key, value in json.loads(asked.body).items() if key != "stream_options"}


def test_other_options_of_a_stream_stay() -> None:
    """Only the one member is written."""
    body = asking_for_usage(request(stream_options={"include_obfuscation": False}))
    assert json.loads(body)["stream_options"] == {"include_obfuscation": False, "include_usage": True}


def test_the_text_of_the_body_stays() -> None:
    """Numbers that no double holds, blanks and escapes arrive as they were sent."""
    text = b'{ "model":"m","messages":[{"content":"\\ud83d"}],"seed":1e400,\n"stream":true }\n'
    parsed = parse_request(match_endpoint("POST", "/v1/chat/completions"), text)
    assert asking_for_usage(parsed) == text.replace(b" }\n", b' ,"stream_options":{"include_usage":true}}\n')


@pytest.mark.parametrize(
    "asked",
    [
        request(stream_options={"include_usage": True}),
        request(stream=False),
        request(stream_options="no object"),
        request("/api/chat"),
        request("/v1/messages", max_tokens=5),
        request("/v1/responses", input="hi"),
    ],
    ids=["asked", "whole", "wrong", "ollama", "anthropic", "responses"],
)
def test_what_asks_already_or_has_no_such_option_is_left_alone(asked: ParsedRequest) -> None:
    """The client then gets what the server says."""
    assert asking_for_usage(asked) is None


def test_an_ambiguous_option_is_refused() -> None:
    """A server might read the other of the two."""
    body = b'{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":false,"include_usage":false}}'
    with pytest.raises(AmbiguousKey):
        asking_for_usage(parse_request(match_endpoint("POST", "/v1/chat/completions"), body))


@given(
    st.lists(st.sampled_from([TOKEN, NULL, COUNTS, SPACED, MIXED, FILTERS, FAILED, COMMENT, LONG, DONE]), max_size=8),
    st.booleans(),
    cuts(),
)
def test_the_chunk_with_nothing_but_counts_is_taken_out(events: list[bytes], ends: bool, places: list[float]) -> None:
    """Wherever it stands and however the bytes are cut; all others pass byte for byte."""
    stream = b"".join(events)
    kept = b"".join(event for event in events if event not in {COUNTS, SPACED})
    if not ends and events:
        stream, last = stream.rstrip(b"\r\n"), events[-1]
        kept = kept if last in {COUNTS, SPACED} else kept.rstrip(b"\r\n")
    pieces = [*cut(stream, places), b""]
    unasked = UsageChunkFilter()
    passed = [unasked.feed(piece, last=number == len(pieces) - 1) for number, piece in enumerate(pieces)]
    assert b"".join(passed) == kept


def test_zeros_of_an_ollama_server_go_with_the_counts() -> None:
    """A client of `/v1/completions` would otherwise take them for the usage."""
    chunk = b'data: {"choices":[{"text":"a","index":0,"finish_reason":null}]%b}\n\n'
    zeros = b',"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}'
    assert UsageChunkFilter().feed(chunk % zeros + COUNTS + DONE) == chunk % b"" + DONE


def test_whole_events_pass_at_once() -> None:
    """Only the beginning of an event waits for its end."""
    unasked = UsageChunkFilter()
    assert unasked.feed(TOKEN + TOKEN + b"data: {") == TOKEN + TOKEN
    assert unasked.feed(b'"choices":[]}\n') == b""
    assert unasked.feed(b"\n") == b'data: {"choices":[]}\n\n'


@given(st.binary(max_size=50), st.integers(1, 60))
def test_memory_is_bounded_whatever_a_server_sends(junk: bytes, times: int) -> None:
    """An endless event passes; nothing is lost, and 16 KiB are held at most."""
    unasked = UsageChunkFilter()
    junk = junk.replace(b"\n", b" ") * 50
    passed = b""
    for _ in range(times):
        passed += unasked.feed(junk)
        assert len(unasked._held) <= 16 * 1024
    assert passed + unasked.feed(b"", last=True) == junk * times
