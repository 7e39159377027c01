"""Every official client for Python reads over the places in the queue that a stream which waits is told."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import Silence
from sdk import streams
from sdk.clients import open_calls
from sdk.streams import HI, MODEL, SPOKEN
from support.stage import Stage, run_stage
from support.waiting import wait_until

ollama = pytest.importorskip("ollama")

EVERY = 0.05
LONG_ENOUGH = 0.3  # seconds in the queue, several heartbeats
SETTINGS = f"routing_strategy: fastest\nload_keepalive: {EVERY}\n"  # one request for the model at a time


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A server with one slot."""
    with run_stage(tmp_path_factory.mktemp("waiting"), {"one": [MODEL]}, settings=SETTINGS, answer_tokens=3) as running:
        yield running


@pytest.fixture
def busy(stage: Stage) -> Iterator[Stage]:
    """Somebody has the slot, until the client under test has waited for several heartbeats."""
    with occupied(stage):
        yield stage


@contextmanager
def occupied(stage: Stage) -> Iterator[None]:
    """Hold the slot by a request that gets no answer; give it up once another has waited for a while."""
    stage.simulators["one"].simulator.misbehave(Silence(), path="/api/generate", times=1)
    holder = _ask(stage)
    thread = Thread(target=_give_up_later, args=(stage, holder), daemon=True)
    try:
        wait_until(lambda: _admin(stage, "/router/status")["servers"]["one"]["in_flight"] == 1, "the slot is taken")
        thread.start()
        yield
        thread.join()
    finally:
        holder.close()


def _ask(stage: Stage) -> socket.socket:
    url = httpx.URL(stage.url)
    body = json.dumps({"model": MODEL, "prompt": "hi", "stream": False}).encode()
    head = f"POST /api/generate HTTP/1.1\r\nHost: router\r\nAuthorization: Bearer {stage.token}\r\n"
    connection = socket.create_connection((url.host, url.port or 80))
    connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


def _give_up_later(stage: Stage, holder: socket.socket) -> None:
    def waits() -> bool:
        return any(row["longest_seconds"] >= LONG_ENOUGH for row in _admin(stage, "/router/queue")["queue"])

    wait_until(waits, "a request that waits for it")
    holder.close()


def _admin(stage: Stage, path: str) -> Any:
    headers = {"authorization": f"Bearer {stage.admin_token}"}
    return httpx.get(f"{stage.url}{path}", headers=headers, trust_env=False).raise_for_status().json()


def waited(headers: Any) -> bool:
    """Whether the head came while the request waited: it has a place and cannot name a server."""
    return headers.get("x-router-queue-position") == "1" and "x-router-server" not in headers


@pytest.mark.parametrize("call", ["chat", "generate"])
def test_ollama(busy: Stage, flavour: str, call: str) -> None:
    """Empty chunks with a member of the router's, which the library does not know."""
    options = {"host": busy.url, "headers": {"authorization": f"Bearer {busy.token}"}}
    with open_calls(flavour, ollama.Client, ollama.AsyncClient, **options) as client:
        chunks = client.collect(call, MODEL, HI if call == "chat" else "say hi", stream=True)
    texts = [chunk.message.content if call == "chat" else chunk.response for chunk in chunks]
    assert (texts[:2], "".join(texts)) == (["", ""], SPOKEN)
    assert [chunk.done for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


def test_openai_chat(busy: Stage) -> None:
    """Comments, which nobody sees."""
    headers, text = streams.openai_chat(busy)
    assert waited(headers)
    assert text == SPOKEN


def test_openai_responses(busy: Stage) -> None:
    """The same for the newer route."""
    headers, events = streams.openai_responses(busy)
    assert waited(headers)
    assert events == ("response.created", "response.completed")


def test_anthropic_messages(busy: Stage) -> None:
    """Comments among the events, or pings: the library keeps both to itself."""
    headers, events = streams.anthropic_messages(busy)
    assert waited(headers)
    assert events == ("message_start", "message_stop")


def test_anthropic_helper(busy: Stage, flavour: str) -> None:
    """The helper that builds the message from events."""
    assert streams.anthropic_helper(busy, flavour) == SPOKEN
