"""What the row of a request says that it cost."""

from __future__ import annotations

from typing import Any

from core.exchange.test_serving import END, LINE, admitted, answered, ended, expect
from ollama_router_core.errors import ConnectFailed
from ollama_router_core.exchange.actions import AwaitHead, Finish, Receive, Release, Send, Write
from ollama_router_core.exchange.events import ClientLeft
from support.exchange_machine import MODEL, Stage, chat, piece

HOST = {"host": "api.example", "models": {MODEL: {"name": "m", "input_price": 2.0, "output_price": 8.0}}}


def test_a_server_is_busy_as_long_as_it_says() -> None:
    """However long the client takes."""
    stage = Stage()
    exchange = stage.exchange()
    upstream = admitted(stage, exchange)
    answered(exchange, upstream)
    expect(exchange.resume(None), Receive)
    stage.clock.now += 5
    expect(exchange.resume(piece(END, complete=True)), Finish)
    row = ended(stage, exchange, exchange.resume(None))
    assert (row.gpu_ms, row.cost_micros) == (1, None)


def test_a_client_that_leaves_before_the_head_has_kept_the_server_busy() -> None:
    """From when the request was sent."""
    stage = Stage()
    exchange = stage.exchange()
    admitted(stage, exchange)
    stage.clock.now += 3
    row = ended(stage, exchange, exchange.interrupt(ClientLeft()))
    assert (row.status, row.gpu_ms) == (499, 3_000)


def test_a_client_that_leaves_a_stream_has_kept_the_server_busy() -> None:
    """Its server has told nothing yet."""
    stage = Stage()
    exchange = stage.exchange()
    upstream = admitted(stage, exchange)
    answered(exchange, upstream)
    expect(exchange.resume(None), Receive)
    stage.clock.now += 2
    expect(exchange.resume(piece(LINE)), Write)
    row = ended(stage, exchange, exchange.interrupt(ClientLeft()))
    assert row.gpu_ms == 2_000


def test_the_time_at_a_server_before_is_not_this_one_s() -> None:
    """Only the last server's counts, and one that cannot be reached computes nothing."""
    stage = Stage()
    exchange = stage.exchange()
    first = admitted(stage, exchange)
    stage.clock.now += 7
    expect(exchange.fail(ConnectFailed("refused")), Release)
    first.released += 1
    second = stage.sent(expect(exchange.resume(None), Send).request)
    expect(exchange.resume(second), AwaitHead)
    stage.clock.now += 1
    row = ended(stage, exchange, exchange.interrupt(ClientLeft()))
    assert row.gpu_ms == 1_000


def test_what_no_server_was_sent_costs_nothing() -> None:
    """As a request that is refused."""
    stage = Stage()
    exchange = stage.exchange()
    exchange.start()
    row: Any = exchange.interrupt(ClientLeft())
    assert (row.row.gpu_ms, row.row.cost_micros) == (None, None)


def test_a_host_costs_money_and_no_gpu_of_ours() -> None:
    """By its prices and the tokens that it counted."""
    stage = Stage(external_hosts={"far": HOST}, model_config={"explicit_assignments": {MODEL: "far"}})
    exchange = stage.exchange()
    upstream = admitted(stage, exchange, chat(stream=False))
    upstream.status, upstream.headers = 200, ((b"content-type", b"application/json"),)
    expect(exchange.resume(True), Receive)
    answer = b'{"choices":[{"message":{"role":"assistant","content":"a"},"finish_reason":"stop"}],"usage":'
    answer += b'{"prompt_tokens":1000,"completion_tokens":50}}'
    action = exchange.resume(piece(answer, complete=True))
    while type(action).__name__ not in {"Release", "Record"}:
        action = exchange.resume(None)
    row = ended(stage, exchange, action)
    assert (row.server, row.gpu_ms, row.cost_micros) == ("far", None, 2_400)
