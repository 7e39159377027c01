"""Heads that come again are compared and not looked into: what a server gets never depends on what came before."""

from __future__ import annotations

from typing import Any

import httpx
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core import RouterTransport
from ollama_router_core.client.heads import RequestHeads, kept_rows
from ollama_router_core.client.messages import read_fields
from ollama_router_core.config import Config, Server
from ollama_router_core.outbound.destinations import build_destinations
from ollama_router_core.outbound.header_fields import VIA, answer_fields, passed_fields

LIBRARIES = [httpx, httpx2]
DESTINATION = build_destinations(Config(servers={"a": Server(host="a")}), {}, str)["a"]
FIELD = st.sampled_from(
    [
        (b"Host", b"router"),
        (b"Accept", b"*/*"),
        (b"User-Agent", b"one"),
        (b"User-Agent", b"two"),
        (b"Authorization", b"Bearer s"),
        (b"Connection", b"keep-alive"),
        (b"Connection", b"user-agent"),
        (b"Content-Length", b"1"),
        (b"Content-Length", b"22"),
        (b"Content-Type", b"application/json"),
        (b"Content-Encoding", b"gzip"),
        (b"X-Own", b"1"),
    ]
)
HEADS = st.lists(st.tuples(st.sampled_from(LIBRARIES), st.lists(FIELD, max_size=6)), max_size=8)


@given(HEADS)
def test_remembering_the_last_head_changes_nothing(heads: Any) -> None:
    """Law: a head gets what it would get if it were the first, and that is what the core's rule says."""
    remembered = RequestHeads()
    for library, fields in heads:
        headers = library.Headers(fields)
        passed = remembered.passing(library, headers)
        assert passed == RequestHeads().passing(library, headers)
        if passed is not None:
            expected = passed_fields(read_fields(library, headers), DESTINATION)
            assert [*((name, value) for _, name, value in passed), VIA] == list(expected)


@given(
    st.sampled_from(LIBRARIES), st.lists(FIELD | st.just((b"Date", b"now")) | st.just((b"Server", b"x")), max_size=6)
)
def test_a_program_gets_what_the_rule_says(library: Any, fields: Any) -> None:
    """Law: choosing among rows is the core's rule, only faster."""
    headers = library.Headers(fields)
    kept = [(name, value) for _, name, value in kept_rows(library, headers)]
    assert kept == answer_fields(read_fields(library, headers))


@pytest.mark.parametrize("library", LIBRARIES)
def test_each_request_takes_its_own_length_and_fields_along(fleet: Any, library: Any) -> None:
    """Bodies of several lengths in turn, and a field that changes: each server sees the request's own."""
    seen: list[Any] = []

    class Noting:
        def handle_request(self, request: Any) -> Any:
            if request.url.path == "/api/chat":
                seen.append((request.headers["content-length"], request.headers["user-agent"], request.read()))
            return fleet.handle_request(request)

        def close(self) -> None:
            pass

    with library.Client(transport=RouterTransport(fleet.config, inner=Noting()), base_url="http://router") as client:
        for turn in range(1, 12):
            text = "x" * turn
            content = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": text}], "stream": False}
            agent = f"agent {turn // 4}"
            assert client.post("/api/chat", json=content, headers={"user-agent": agent}).status_code == 200
            assert seen[-1][:2] == (str(len(seen[-1][2])), agent)
            assert text.encode() in seen[-1][2]
