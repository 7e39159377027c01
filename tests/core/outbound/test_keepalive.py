"""What keeps a connection alive while a stream has nothing to say."""

from __future__ import annotations

import json

import pytest

from ollama_router_core.api.endpoint_matching import match_endpoint
from ollama_router_core.api.requests import ParsedRequest, parse_request
from ollama_router_core.outbound.keepalive import Keepalive, keepalive_of

MODEL = "llama3.1:8b"
WALL = 1_721_680_413.5
STREAMED = ("/api/chat", "/api/generate", "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")


def request(path: str, **more: object) -> ParsedRequest:
    """A streamed request unless told otherwise."""
    body = {"model": MODEL, "messages": [], "prompt": "hi", "input": "hi", "max_tokens": 9, "stream": True, **more}
    return parse_request(match_endpoint("POST", path), json.dumps(body).encode())


def sign(path: str, **more: object) -> Keepalive | None:
    """The sign of life of a request."""
    return keepalive_of(request(path, **more), wall=WALL)


def _told(path: str) -> tuple[bytes, bytes, bytes]:
    """The media type, the sign of a request that does not wait in the queue, and the end of an event."""
    found = sign(path)
    assert found is not None
    return found.content_type, found.piece(None), found.end


@pytest.mark.parametrize(
    ("path", "empty"),
    [("/api/chat", {"message": {"role": "assistant", "content": ""}}), ("/api/generate", {"response": ""})],
)
def test_ollama_gets_a_chunk_without_content(path: str, empty: dict[str, object]) -> None:
    """Its clients parse every line and add up what the chunks hold: nothing is added."""
    found = sign(path)
    assert found is not None
    assert found.content_type == b"application/x-ndjson"
    assert found.piece(None).endswith(b"}\n")
    assert json.loads(found.piece(None)) == {
        "model": MODEL,
        "created_at": "2024-07-22T20:33:33.500000000Z",
        **empty,
        "done": False,
    }


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
def test_openai_gets_a_comment(path: str) -> None:
    """Every reader of server-sent events passes over it."""
    assert _told(path) == (b"text/event-stream", b": keepalive\n\n", b"\n\n")


def test_anthropic_gets_its_own_ping() -> None:
    """The API has an event for this."""
    assert _told("/v1/messages") == (b"text/event-stream", b'event: ping\ndata: {"type": "ping"}\n\n', b"\n\n")


@pytest.mark.parametrize("path", STREAMED)
def test_whole_answers_get_none(path: str) -> None:
    """Their status is still to come."""
    assert sign(path, stream=False) is None


@pytest.mark.parametrize("path", ["/api/embed", "/v1/embeddings", "/api/show"])
def test_what_is_no_stream_of_an_answer_gets_none(path: str) -> None:
    """Embeddings never stream."""
    assert sign(path) is None
