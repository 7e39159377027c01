"""What is kept of an answer of `/v1/responses`, and what a request becomes that goes on from it."""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.api.endpoint_matching import match_endpoint
from ollama_router_core.api.requests import ParsedRequest, parse_request
from ollama_router_core.api.stored_responses import AnswerCollector, StoredResponse, continued_body, stored

RESPONSE = {"id": "resp_1", "status": "completed", "output": [
    {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "x"},
    {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [
        {"type": "output_text", "text": "it's\ndata: done — “yes”"}]},
    {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
]}  # fmt: skip
STREAM = b"".join(
    b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode())
    for event in (
        {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}},
        {"type": "response.output_text.delta", "delta": 'the "response.completed" event'},
        {"type": "response.completed", "response": RESPONSE},
    )
)


def request(**body: Any) -> ParsedRequest:
    """A request with these members."""
    return parse_request(match_endpoint("POST", "/v1/responses"), json.dumps({"model": "m", **body}).encode())


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_a_stream_is_whole_once_however_it_is_cut(cuts: list[int]) -> None:
    """At its last event, and not before."""
    edges = [0, *sorted(cuts), len(STREAM)]
    collector = AnswerCollector(streamed=True, most=100_000)
    pieces = [STREAM[start:end] for start, end in itertools.pairwise(edges)]
    found = [collector.feed(piece, last=False) for piece in pieces]
    assert [json.loads(one) for one in found if one is not None] == [RESPONSE]


def test_a_longer_answer_is_let_go() -> None:
    """Its bytes are not held."""
    collector = AnswerCollector(streamed=False, most=100)
    assert collector.feed(b"x" * 101, last=False) is None
    assert collector.feed(b'{"id":"resp_1"}', last=True) is None


def test_an_answer_that_broke_off_is_not_kept() -> None:
    """Nor what is none."""
    for answer in (
        b"",
        b"[]",
        b"{",
        b'{"id":"resp_1"}',
        b'{"id":"resp_1","status":"failed"}',
        b'{"status":"completed"}',
    ):
        assert stored(request(input="hi"), answer, None) is None


def test_a_request_that_goes_on_says_it_all() -> None:
    """What was asked, what was answered without ids of its server, what is asked now."""
    before = stored(request(input="hi"), json.dumps(RESPONSE).encode(), None)
    assert before is not None
    said = [{"type": "function_call_output", "call_id": "call_1", "output": "7"}]
    body = json.loads(continued_body(request(input=said, previous_response_id="resp_1", store=True, n=1.50), before))
    assert [item.get("type") for item in body["input"]] == [
        "message", "reasoning", "message", "function_call", "function_call_output"
    ]  # fmt: skip
    assert body["input"][0] == {"type": "message", "role": "user", "content": "hi"}
    assert not any("id" in item for item in body["input"])
    assert (body["store"], body["previous_response_id"]) == (False, None)


def test_no_repr_shows_what_people_say() -> None:
    """It holds prompts and answers."""
    assert repr(StoredResponse(id="resp_1", response=b"secret", items=b"secret")) == "StoredResponse(resp_1)"
