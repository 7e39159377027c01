"""The log record: what it must hold and what it never holds."""

from __future__ import annotations

import msgspec
import pytest

from ollama_router_core.records.request_record import RequestRecord

REQUIRED = {"id", "started_at", "user", "client", "method", "path", "status", "total_ms"}


def a_record(**changes: object) -> RequestRecord:
    """A record with only what is always known."""
    known = {"id": "r1", "started_at": 1.5, "user": None, "client": None, "method": "POST", "path": "/api/chat"}
    return RequestRecord(**{**known, "status": 200, "total_ms": 12.5, **changes})  # type: ignore[arg-type]


def test_what_is_always_known_must_be_given():
    """Everything else has a default that says it is not known, or that nothing happened."""
    fields = msgspec.structs.fields(RequestRecord)
    assert {field.name for field in fields if field.required} == REQUIRED
    assert all(field.default in (None, 0, False) for field in fields if not field.required)


def test_a_record_never_changes():
    """It can be handed to several sinks."""
    with pytest.raises(AttributeError):
        a_record().status = 500  # type: ignore[misc]


def test_there_is_no_place_for_secrets():
    """No field could take a prompt, an answer, a token's text, a header or a query string."""
    names = set(RequestRecord.__struct_fields__)
    assert not names & {"prompt", "messages", "body", "response", "answer", "token", "headers", "query", "target"}
