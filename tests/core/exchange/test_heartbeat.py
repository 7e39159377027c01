"""What keeps a connection alive while a stream has nothing to say."""

from __future__ import annotations

import json

import pytest

from ollama_router_core.api.endpoint_matching import match_endpoint
from ollama_router_core.api.requests import ParsedRequest, parse_request
from ollama_router_core.exchange.actions import Write, WriteHead
from ollama_router_core.exchange.heartbeat import heartbeat_for
from support.exchange_machine import Stage

MODEL = "llama3.1:8b"
STAGE = Stage(load_keepalive=1.0)
WALL = 1_721_680_413.5
STREAMED = ("/api/chat", "/api/generate", "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")


def request(path: str, **more: object) -> ParsedRequest:
    """A streamed request unless told otherwise."""
    body = {"model": MODEL, "messages": [], "prompt": "hi", "input": "hi", "max_tokens": 9, "stream": True, **more}
    return parse_request(match_endpoint("POST", path), json.dumps(body).encode())


def sign(path: str, **more: object) -> tuple[bytes, bytes, bytes] | None:
    """The media type of a request's stream, its heartbeat outside of the queue, and the end of an event."""
    exchange = STAGE.exchange(path=path)
    exchange.context.started_at = WALL
    found = heartbeat_for(STAGE.environment, exchange.context, request(path, **more))
    if found is None:
        return None
    head, beat = found.beat(exchange.context)
    assert isinstance(head, WriteHead)
    assert isinstance(beat, Write)
    return dict(head.fields)[b"content-type"], beat.data, found._framing.end


@pytest.mark.parametrize(
    ("path", "empty"),
    [("/api/chat", {"message": {"role": "assistant", "content": ""}}), ("/api/generate", {"response": ""})],
)
def test_ollama_gets_a_chunk_without_content(path: str, empty: dict[str, object]) -> None:
    """Its clients parse every line and add up what the chunks hold: nothing is added."""
    found = sign(path)
    assert found is not None
    content_type, beat, _ = found
    assert content_type == b"application/x-ndjson"
    assert beat.endswith(b"}\n")
    assert json.loads(beat) == {
        "model": MODEL,
        "created_at": "2024-07-22T20:33:33.500000000Z",
        **empty,
        "done": False,
    }


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
def test_openai_gets_a_comment(path: str) -> None:
    """Every reader of server-sent events passes over it."""
    assert sign(path) == (b"text/event-stream", b": keepalive\n\n", b"\n\n")


def test_anthropic_gets_its_own_ping() -> None:
    """The API has an event for this."""
    assert sign("/v1/messages") == (b"text/event-stream", b'event: ping\ndata: {"type": "ping"}\n\n', b"\n\n")


@pytest.mark.parametrize("path", STREAMED)
def test_whole_answers_get_none(path: str) -> None:
    """Their status is still to come."""
    assert sign(path, stream=False) is None


@pytest.mark.parametrize("path", ["/api/embed", "/v1/embeddings", "/api/show"])
def test_what_is_no_stream_of_an_answer_gets_none(path: str) -> None:
    """Embeddings never stream."""
    assert sign(path) is None
