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
from sdk.clients import open_calls
from support.stage import Stage, run_stage
from support.waiting import wait_until

ollama = pytest.importorskip("ollama")
openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")

MODEL = "llama3.1:8b"
HI = [{"role": "user", "content": "say hi"}]
SPOKEN = "word0 word1 word2"
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
    with openai.OpenAI(base_url=f"{busy.url}/v1", api_key=busy.token, max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HI, stream=True)
        chunks = list(raw.parse())
    assert waited(raw.headers)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == SPOKEN


def test_openai_responses(busy: Stage) -> None:
    """The same for the newer route."""
    with openai.OpenAI(base_url=f"{busy.url}/v1", api_key=busy.token, max_retries=0) as client:
        raw = client.responses.with_raw_response.create(model=MODEL, input="say hi", stream=True)
        events = list(raw.parse())
    assert waited(raw.headers)
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")


def test_anthropic_messages(busy: Stage) -> None:
    """Comments among the events, or pings: the library keeps both to itself."""
    with anthropic.Anthropic(base_url=busy.url, api_key=busy.token, max_retries=0) as client:
        raw = client.messages.with_raw_response.create(model=MODEL, max_tokens=9, messages=HI, stream=True)
        events = list(raw.parse())
    assert waited(raw.headers)
    assert (events[0].type, events[-1].type) == ("message_start", "message_stop")


def test_anthropic_helper(busy: Stage, flavour: str) -> None:
    """The helper that builds the message from events."""
    options = {"base_url": busy.url, "api_key": busy.token, "max_retries": 0}
    with open_calls(flavour, anthropic.Anthropic, anthropic.AsyncAnthropic, **options) as client:
        text = client.final("messages.stream", "get_final_text", model=MODEL, max_tokens=9, messages=HI)
    assert text == SPOKEN
