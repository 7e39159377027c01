"""Errors in the dialect of the route, whole and in the middle of a stream."""

from __future__ import annotations

import json

import pytest

from ollama_router_core.api.endpoints import Family
from ollama_router_core.errors import RouterError
from ollama_router_core.translate import error_body, error_tail

TEXT = 'no "server" fits\n\ndata: [DONE]'


def body(family: Family, status: int = 503) -> dict[str, object]:
    """An error body, parsed."""
    parsed = json.loads(error_body(family, status, TEXT, code="no_server_fits", request_id="req_1"))
    assert isinstance(parsed, dict)
    return parsed


def test_ollama_reads_one_text() -> None:
    """Its clients show `error` as it is."""
    assert body(Family.OLLAMA) == {"error": TEXT}


def test_openai_reads_an_object_with_our_code() -> None:
    """Its SDKs put message, type and code into the exception."""
    assert body(Family.OPENAI) == {
        "error": {"message": TEXT, "type": "api_error", "param": None, "code": "no_server_fits"}
    }


def test_anthropic_reads_a_typed_error_with_the_request_id() -> None:
    """Its SDKs choose the exception by status and show the type."""
    assert body(Family.ANTHROPIC) == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": TEXT},
        "request_id": "req_1",
    }


@pytest.mark.parametrize(
    ("status", "openai", "anthropic"),
    [
        (400, "invalid_request_error", "invalid_request_error"),
        (401, "authentication_error", "authentication_error"),
        (403, "permission_error", "permission_error"),
        (404, "not_found_error", "not_found_error"),
        (405, "invalid_request_error", "invalid_request_error"),
        (413, "invalid_request_error", "request_too_large"),
        (429, "rate_limit_error", "rate_limit_error"),
        (500, "api_error", "api_error"),
        (502, "api_error", "api_error"),
        (529, "api_error", "overloaded_error"),
    ],
)
def test_types_follow_the_status(status: int, openai: str, anthropic: str) -> None:
    """The names that each vendor documents for a status."""
    for family, kind in ((Family.OPENAI, openai), (Family.ANTHROPIC, anthropic)):
        error = body(family, status)["error"]
        assert isinstance(error, dict)
        assert error["type"] == kind


def test_an_error_line_ends_an_ndjson_stream() -> None:
    """One line, whatever the text holds: Ollama's clients read `error` from it."""
    tail = error_tail(Family.OLLAMA, 502, TEXT, code="c", request_id="r")
    assert tail.endswith(b"}\n")
    assert tail.count(b"\n") == 1


@pytest.mark.parametrize("family", [Family.OPENAI, Family.ANTHROPIC])
def test_an_error_event_ends_a_stream_of_events(family: Family) -> None:
    """One event with one data line, so that no text of ours can end the stream as if it were complete."""
    lines = error_tail(family, 502, TEXT, code="c", request_id="r").decode().split("\n")
    assert lines[-2:] == ["", ""]
    assert lines[:-3] == (["event: error"] if family is Family.ANTHROPIC else [])
    assert lines[-3].startswith("data: {")
    assert json.loads(lines[-3].removeprefix("data: "))["error"]


@pytest.mark.parametrize("family", Family)
def test_every_error_of_the_tree_can_be_written(family: Family) -> None:
    """A text with lone surrogates included: an error must never fail."""
    pending = [RouterError]
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        assert json.loads(error_body(family, kind.status_hint, "\ud800", code=kind.code, request_id="r"))["error"]


@pytest.mark.parametrize(
    ("text", "written"),
    [("a<b>&c", b"a\\u003cb\\u003e\\u0026c"), ("modèle", "modèle".encode()), ("a\u2028b", b"a\\u2028b")],
)
def test_characters_are_escaped_as_go_does(text: str, written: bytes) -> None:
    """Go escapes for HTML's sake and leaves letters of any language as they are."""
    found = error_body(Family.OLLAMA, 400, text, code="invalid_body", request_id="r")
    assert found == b'{"error":"' + written + b'"}'
    assert json.loads(found) == {"error": text}


def test_half_a_character_does_no_harm() -> None:
    """What a client can write as an escape, but no UTF-8 can hold, becomes a question mark."""
    assert error_body(Family.OLLAMA, 400, "\ud800", code="x", request_id="r") == b'{"error":"?"}'
