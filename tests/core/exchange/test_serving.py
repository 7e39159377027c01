"""The way of a request as a script: actions out, results in, no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ollama_router_core.access.grants import Grants
from ollama_router_core.api.endpoints import ENDPOINTS, Kind
from ollama_router_core.api.prompts import size_of_prompt, size_of_text, usual_tokens
from ollama_router_core.api.retry_advice import retry_fields
from ollama_router_core.api.strict_json import parse_object
from ollama_router_core.errors import (
    BodyTooLarge,
    ConnectFailed,
    InvalidCredential,
    LimitExceeded,
    ModelNotFound,
    NoServerFits,
    RouterError,
    UpstreamDisconnected,
    UpstreamTimeout,
)
from ollama_router_core.exchange.actions import (
    Action,
    Admit,
    AwaitCharge,
    AwaitHead,
    AwaitSlot,
    Charge,
    Count,
    Cut,
    Finish,
    LookForModels,
    ReadBody,
    Receive,
    Record,
    Release,
    Send,
    Verify,
    Write,
    WriteHead,
)
from ollama_router_core.exchange.events import ClientLeft, Preempted, Queued, Refused, Revoked, Shutdown
from ollama_router_core.exchange.machine import CLIENT_LEFT, Exchange
from ollama_router_core.exchange.serving import HANDLERS
from support.exchange_machine import MODEL, FakeCaller, FakeReservation, FakeUpstream, Stage, chat, piece

LINE = b'{"message":{"content":"a"},"done":false}\n'
END = b'{"done":true,"prompt_eval_count":3,"eval_count":5,"eval_duration":1000000}\n'


def _kinds(parent: type[RouterError]) -> Iterator[type[RouterError]]:
    """A class of errors and all that were derived from it."""
    yield parent
    for child in parent.__subclasses__():
        yield from _kinds(child)


def expect(action: Action | None, kind: type[Any]) -> Any:
    """The action, which has to be of this kind."""
    assert isinstance(action, kind), action
    return action


def admitted(stage: Stage, exchange: Exchange, body: bytes | None = None, grants: Grants | None = None) -> Any:
    """Go as far as the request to the first server: the upstream, and the action that waits for its head."""
    expect(exchange.start(), Verify)
    action = exchange.resume(FakeCaller(grants=grants or Grants()))
    if isinstance(action, Count):
        action = exchange.resume(FakeReservation(settled=stage.settled))
    expect(action, ReadBody)
    action = exchange.resume(chat() if body is None else body)
    if isinstance(action, Charge):
        action = exchange.resume(True)
    slot = stage.slot(expect(action, Admit))
    upstream = stage.sent(expect(exchange.resume(slot), Send).request)
    expect(exchange.resume(upstream), AwaitHead)
    return upstream


def answered(exchange: Exchange, upstream: FakeUpstream, status: int = 200) -> Action | None:
    """The head of the answer comes."""
    upstream.status, upstream.headers = status, ((b"content-type", b"application/x-ndjson"),)
    return exchange.resume(True)


def ended(stage: Stage, exchange: Exchange, action: Action | None) -> Any:
    """Release what is released, and return the row that the exchange leaves."""
    while isinstance(action, Release):
        for upstream in action.upstreams:
            upstream.released += 1  # type: ignore[attr-defined]
        action = exchange.resume(None)
    record = expect(action, Record)
    assert exchange.resume(None) is None
    assert [slot.closed for slot in stage.slots] == [1] * len(stage.slots)
    assert [upstream.released for upstream in stage.upstreams] == [1] * len(stage.upstreams)
    return record.row


def test_every_endpoint_has_a_handler() -> None:
    """The table of the module is complete, or it could not be imported."""
    assert {row.routing for row in ENDPOINTS} <= HANDLERS.keys()


def test_a_stream_passes_piece_by_piece() -> None:
    """The last piece finishes the answer; the row has what the server counted, and when the first byte came."""
    stage = Stage()
    exchange = stage.exchange()
    upstream = admitted(stage, exchange)
    head = expect(answered(exchange, upstream), WriteHead)
    assert head.status == 200
    assert (b"x-router-server", b"a") in head.fields
    expect(exchange.resume(None), Receive)
    stage.clock.now += 0.25
    assert expect(exchange.resume(piece(LINE)), Write).data == LINE
    expect(exchange.resume(None), Receive)
    stage.clock.now += 0.25
    assert expect(exchange.resume(piece(END, complete=True)), Finish).data == END
    row = ended(stage, exchange, exchange.resume(None))
    assert (row.status, row.server, row.attempts, row.user) == (200, "a", 1, "alice")
    assert (row.ttft_ms, row.total_ms) == (250.0, 500.0)
    assert (row.prompt_tokens, row.completion_tokens) == (3, 5)
    assert row.bytes_out == len(LINE) + len(END)


def test_nothing_is_received_before_the_last_piece_was_written() -> None:
    """The order of actions is what holds a server back while the client is slow."""
    stage = Stage()
    exchange = stage.exchange()
    upstream = admitted(stage, exchange)
    answered(exchange, upstream)
    action = exchange.resume(None)
    for _ in range(5):
        expect(action, Receive)
        expect(exchange.resume(piece(LINE)), Write)
        action = exchange.resume(None)
    ended(stage, exchange, exchange.interrupt(ClientLeft()))


def test_the_next_server_is_tried_when_one_cannot_be_reached() -> None:
    """The slot's permit moves with it; the client sees the answer of the second, and that there were two attempts."""
    stage = Stage()
    exchange = stage.exchange()
    first = admitted(stage, exchange)
    released = expect(exchange.fail(ConnectFailed("refused")), Release)
    assert released.upstreams == (first,)
    first.released += 1
    second = stage.sent(expect(exchange.resume(None), Send).request)
    assert second.request.destination.name == "b"
    expect(exchange.resume(second), AwaitHead)
    head = expect(answered(exchange, second), WriteHead)
    assert (b"x-router-attempts", b"2") in head.fields
    expect(exchange.resume(None), Receive)
    expect(exchange.resume(piece(END, complete=True)), Finish)
    row = ended(stage, exchange, exchange.resume(None))
    assert (row.server, row.attempts) == ("b", 2)
    assert stage.slots[0].answered == 1


def test_a_preempted_request_waits_for_another_slot() -> None:
    """Its connection ends, it asks for a slot again and is answered; the row has both attempts, nobody is blamed."""
    stage = Stage()
    exchange = stage.exchange()
    first = admitted(stage, exchange)
    assert first.request.preemption is stage.slots[0].preemption
    assert expect(exchange.fail(Preempted()), Release).upstreams == (first,)
    first.released += 1
    queued = expect(exchange.resume(None), AwaitSlot).queued
    assert stage.slots[0].closed == 1
    assert (exchange.context.server, exchange.context.watched) == (None, None)  # whose silence would be held against it
    second = stage.sent(expect(exchange.resume(stage.slot(queued.waiting)), Send).request)
    expect(exchange.resume(second), AwaitHead)
    head = expect(answered(exchange, second), WriteHead)
    assert (b"x-router-attempts", b"2") in head.fields
    expect(exchange.resume(None), Receive)
    expect(exchange.resume(piece(END, complete=True)), Finish)
    row = ended(stage, exchange, exchange.resume(None))
    assert (row.server, row.attempts, row.completion_tokens, row.error_code) == ("a", 2, 5, None)
    assert row.reason.startswith("preempted on a; ")
    assert not stage.fleet.state.health.fails("a")


def test_a_preempted_request_may_wait_in_vain() -> None:
    """Its time is up, or no server can take it any more: the error says so."""
    stage = Stage()
    exchange = stage.exchange()
    first = admitted(stage, exchange)
    expect(exchange.fail(Preempted()), Release)
    first.released += 1
    expect(exchange.resume(None), AwaitSlot)
    assert expect(exchange.resume(Refused(NoServerFits("full"))), WriteHead).status == 503
    expect(exchange.resume(None), Finish)
    row = ended(stage, exchange, exchange.resume(None))
    assert (row.error_code, row.server, row.attempts) == ("no_server_fits", None, 1)


def test_what_may_have_run_is_not_tried_again() -> None:
    """A server that breaks off after the request was sent: an error, and no second server."""
    stage = Stage()
    exchange = stage.exchange()
    upstream = admitted(stage, exchange)
    expect(exchange.fail(UpstreamTimeout("silent", phase="first_byte")), Release)
    upstream.released += 1
    assert expect(exchange.resume(None), WriteHead).status == 504
    expect(exchange.resume(None), Finish)
    row = ended(stage, exchange, exchange.resume(None))
    assert (row.status, row.error_code, row.attempts) == (504, "upstream_timeout", 1)


def test_an_answer_that_breaks_off_is_cut() -> None:
    """The stream ends with an error line of its dialect and is never finished."""
    stage = Stage()
    exchange = stage.exchange()
    upstream = admitted(stage, exchange)
    answered(exchange, upstream)
    expect(exchange.resume(None), Receive)
    expect(exchange.resume(piece(b'{"message"')), Write)
    expect(exchange.resume(None), Receive)
    tail = expect(exchange.fail(UpstreamDisconnected("gone")), Write).data
    assert tail.startswith(b"\n{")
    assert b"gone" in tail
    expect(exchange.resume(None), Cut)
    row = ended(stage, exchange, exchange.resume(None))
    assert (row.status, row.error_code) == (200, "upstream_disconnected")


def test_a_row_names_whose_token_asked_for_its_user() -> None:
    """Nobody where users ask for themselves, whether they may speak for others or not."""
    context = Stage().exchange().context
    ann, webui = FakeCaller(name="ann"), FakeCaller(name="webui")
    named = []
    for context.user, context.speaker in ((ann, webui), (webui, webui), (ann, None)):
        named.append((context.record(0.0).user, context.record(0.0).speaker))
    assert named == [("ann", "webui"), ("webui", None), ("ann", None)]


def test_who_is_unknown_gets_no_further() -> None:
    """The body is not even read; the row names nobody."""
    stage = Stage()
    exchange = stage.exchange()
    expect(exchange.start(), Verify)
    assert expect(exchange.fail(InvalidCredential("unknown")), WriteHead).status == 401
    expect(exchange.resume(None), Finish)
    row = ended(stage, exchange, exchange.resume(None))
    assert (row.status, row.user) == (401, None)


@pytest.mark.parametrize(
    ("grants", "words"),
    [
        (Grants(expires_at=1.0), "expired"),
        (Grants(networks=("192.168.0.0/16",)), "address"),
        (Grants(kinds=(Kind.READ,)), "kind"),
        (Grants(models=()), "model"),
    ],
)
def test_the_route_is_checked_before_the_body_is_read(grants: Grants, words: str) -> None:
    """Expiry, network and endpoints, each for itself."""
    stage = Stage()
    exchange = stage.exchange()
    expect(exchange.start(), Verify)
    assert expect(exchange.resume(FakeCaller(grants=grants)), WriteHead).status == 403
    assert words in expect(exchange.resume(None), Finish).data.decode()
    row = ended(stage, exchange, exchange.resume(None))
    assert row.error_code == "forbidden"


def test_a_request_counts_before_its_body_is_read() -> None:
    """Over a limit, nobody reads, decompresses or parses what a user sends."""
    stage = Stage()
    exchange = stage.exchange()
    expect(exchange.start(), Verify)
    expect(exchange.resume(FakeCaller(grants=Grants(requests_per_minute=1))), Count)
    assert expect(exchange.fail(LimitExceeded("used up", retry_after=5)), WriteHead).status == 429
    expect(exchange.resume(None), Finish)
    ended(stage, exchange, exchange.resume(None))
    assert stage.slots == []
    assert stage.settled == []


def test_tokens_are_charged_when_the_body_says_what_is_asked_for() -> None:
    """A quarter of its bytes and the longest answer it allows; a body that is refused is charged nothing."""
    stage = Stage()
    for body, charged, settled in ((chat(options={"num_predict": 1000}), 1000, [0]), (b"{", None, [0, 0])):
        exchange = stage.exchange()
        expect(exchange.start(), Verify)
        expect(exchange.resume(FakeCaller(grants=Grants(tokens_per_day=9000))), Count)
        reservation = FakeReservation(settled=stage.settled)
        expect(exchange.resume(reservation), ReadBody)
        action = exchange.resume(body)
        assert isinstance(action, Charge) is (charged is not None)
        if isinstance(action, Charge):
            assert action.reservation is reservation
            assert 1000 <= action.tokens < 1100
        exchange.interrupt(ClientLeft())
        assert stage.settled == settled


def test_a_request_for_more_than_is_left_asks_no_server() -> None:
    """The refusal is the answer, and what it was counted for is given back."""
    stage = Stage()
    exchange = stage.exchange()
    expect(exchange.start(), Verify)
    expect(exchange.resume(FakeCaller(grants=Grants(tokens_per_minute=9))), Count)
    expect(exchange.resume(FakeReservation(settled=stage.settled)), ReadBody)
    expect(exchange.resume(chat()), Charge)
    assert expect(exchange.fail(LimitExceeded("used up", retry_after=5)), WriteHead).status == 429
    expect(exchange.resume(None), Finish)
    ended(stage, exchange, exchange.resume(None))
    assert stage.slots == []
    assert stage.settled == [0]


def charging(stage: Stage, grants: Grants, body: bytes) -> tuple[Exchange, Action | None]:
    """An exchange whose tokens others are asked for, and what it does meanwhile."""
    exchange = stage.exchange()
    expect(exchange.start(), Verify)
    expect(exchange.resume(FakeCaller(grants=grants)), Count)
    expect(exchange.resume(FakeReservation(settled=stage.settled)), ReadBody)
    expect(exchange.resume(body), Charge)
    return exchange, exchange.resume(False)


def test_a_slot_is_asked_for_while_others_are_asked_for_tokens() -> None:
    """Nothing is sent before they have answered; where they refuse, the slot or the place in the line is given back."""
    stage = Stage()
    grants = Grants(tokens_per_minute=900)
    exchange, action = charging(stage, grants, chat())
    expect(exchange.resume(stage.slot(expect(action, Admit))), AwaitCharge)
    sent = stage.sent(expect(exchange.resume(None), Send).request)
    expect(exchange.resume(sent), AwaitHead)
    ended(stage, exchange, exchange.interrupt(ClientLeft()))

    exchange, action = charging(stage, grants, chat())
    expect(exchange.resume(stage.slot(expect(action, Admit))), AwaitCharge)
    assert expect(exchange.fail(LimitExceeded("used up", retry_after=5)), WriteHead).status == 429
    expect(exchange.resume(None), Finish)
    ended(stage, exchange, exchange.resume(None))

    left: list[bool] = []
    exchange, action = charging(stage, grants, chat())
    expect(exchange.resume(Queued(1, 1.0, action, lambda: left.append(True))), AwaitCharge)
    ended(stage, exchange, exchange.interrupt(ClientLeft()))
    assert left == [True]


def test_what_needs_no_slot_waits_for_its_tokens() -> None:
    """A request that unloads a model is sent to the servers once they are charged."""
    stage = Stage()
    exchange, action = charging(stage, Grants(tokens_per_minute=900), chat(messages=[], keep_alive=0))
    expect(action, AwaitCharge)
    ended(stage, exchange, exchange.interrupt(ClientLeft()))


def test_what_was_counted_is_settled_by_what_was_used() -> None:
    """By the server's own count; by nothing where no answer came."""
    stage = Stage()
    for complete in (True, False):
        exchange = stage.exchange()
        upstream = admitted(stage, exchange, grants=Grants(tokens_per_day=1000))
        if complete:
            answered(exchange, upstream)
            expect(exchange.resume(None), Receive)
            expect(exchange.resume(piece(END, complete=True)), Finish)
            ended(stage, exchange, exchange.resume(None))
        else:
            ended(stage, exchange, exchange.interrupt(ClientLeft()))
    assert stage.settled == [8, 0]


@pytest.mark.parametrize("how", [ClientLeft, Shutdown, UpstreamDisconnected])
def test_a_stream_that_ends_early_is_paid_by_its_pieces(how: type[Exception]) -> None:
    """The prompt's tokens are a quarter of its bytes; the row says the same, and that it is an estimate."""
    stage = Stage()
    exchange = stage.exchange()
    upstream = admitted(stage, exchange, grants=Grants(tokens_per_day=1000))
    answered(exchange, upstream)
    action = exchange.resume(None)
    for _ in range(7):
        expect(action, Receive)
        expect(exchange.resume(piece(LINE)), Write)
        action = exchange.resume(None)
    action = exchange.fail(how("cut")) if how is UpstreamDisconnected else exchange.interrupt(how())
    while isinstance(action, Write | Cut | Release):
        action = exchange.resume(None)
    row = expect(action, Record).row
    assert (row.completion_tokens, row.tokens_estimated) == (7, True)
    assert stage.settled == [row.prompt_tokens + 7]


def test_an_answer_that_nobody_waited_for_is_paid_by_an_estimate() -> None:
    """How far a server was with an answer in one piece nobody knows."""
    stage = Stage()
    exchange = stage.exchange()
    body = chat(stream=False)
    usual = usual_tokens(size_of_prompt(parse_object(body)))
    admitted(stage, exchange, body, grants=Grants(tokens_per_day=1000))
    row = ended(stage, exchange, exchange.interrupt(ClientLeft()))
    assert (row.prompt_tokens, row.completion_tokens, row.tokens_estimated) == (usual, 256, True)
    assert stage.settled == [usual + 256]


def test_the_estimate_of_a_prompt_is_what_was_learned_of_its_model() -> None:
    """It is charged in advance and counted where no server counts, and the decision rests on it."""
    stage = Stage()
    for words in range(10, 30):
        stage.fleet.learn_prompt(MODEL, size_of_text("word " * words), 2 * words + 20)
    exchange = stage.exchange()
    admitted(stage, exchange, chat(stream=False), grants=Grants(tokens_per_day=1_000_000))
    size = exchange.context.route.prompt
    learned = stage.fleet.prompts.tokens(MODEL, size)
    assert learned != usual_tokens(size)
    row = ended(stage, exchange, exchange.interrupt(ClientLeft()))
    assert row.prompt_tokens == learned
    assert stage.settled == [learned + 256]


def test_a_request_may_have_to_wait() -> None:
    """Its position is known while it waits; it may be refused in the end."""
    stage = Stage()
    exchange = stage.exchange()
    expect(exchange.start(), Verify)
    expect(exchange.resume(FakeCaller()), ReadBody)
    expect(exchange.resume(chat()), Admit)
    expect(exchange.resume(Queued(3, 1.5, None, lambda: None)), AwaitSlot)
    assert exchange.context.queue_position == 3
    assert exchange.context.expected_wait_ms == 1500.0
    head = expect(exchange.resume(Refused(NoServerFits("all busy", retry_after=2.0))), WriteHead)
    assert head.status == 503
    assert (b"retry-after", b"2") in head.fields
    expect(exchange.resume(None), Finish)
    assert ended(stage, exchange, exchange.resume(None)).queue_position == 3


def test_who_joins_the_queue_after_asking_for_a_slot_has_queued() -> None:
    """Its place is noted when it has one, though nothing is told before the interval; so if its client leaves, too."""
    stage = Stage(load_keepalive=15.0)
    exchange = stage.exchange()
    expect(exchange.start(), Verify)
    expect(exchange.resume(FakeCaller()), ReadBody)
    expect(exchange.resume(chat(stream=True)), Admit)
    expect(exchange.resume(Queued(None, 0.0, None, lambda: None)), AwaitSlot)
    assert exchange.context.queue_position is None
    expect(exchange.resume(Queued(2, 4.2, None, lambda: None)), AwaitSlot)
    row = ended(stage, exchange, exchange.interrupt(ClientLeft()))
    assert (row.status, row.queue_position, row.expected_wait_ms) == (499, 2, 4200.0)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/api/chat", b',"done":false,"router":{"queue_position":2,"expected_wait":4.2}}\n'),
        ("/v1/chat/completions", b": queue_position=2 expected_wait=4.2\n\n"),
        ("/v1/messages", b': queue_position=2 expected_wait=4.2\n\nevent: ping\ndata: {"type": "ping"}\n\n'),
    ],
)
def test_a_stream_that_waits_is_told_where_it_stands(path: str, told: bytes) -> None:
    """At the interval of heartbeats, as it is then; the head has the position that it joined at."""
    stage = Stage(load_keepalive=15.0)
    exchange = stage.exchange(path=path)
    expect(exchange.start(), Verify)
    expect(exchange.resume(FakeCaller()), ReadBody)
    expect(exchange.resume(chat(max_tokens=9, stream=True)), Admit)
    assert expect(exchange.resume(Queued(3, 9.0, None, lambda: None)), AwaitSlot).seconds == 15.0
    head = expect(exchange.resume(Queued(2, 4.2, None, lambda: None)), WriteHead)
    assert (head.status, dict(head.fields)[b"x-router-queue-position"]) == (200, b"3")
    assert expect(exchange.resume(None), Write).data.endswith(told)
    expect(exchange.resume(None), AwaitSlot)
    assert b"all busy" in expect(exchange.resume(Refused(NoServerFits("all busy"))), Write).data
    expect(exchange.resume(None), Cut)
    row = ended(stage, exchange, exchange.resume(None))
    assert (row.status, row.queue_position, row.expected_wait_ms, row.error_code) == (200, 3, 9000.0, "no_server_fits")


def test_who_leaves_while_being_told_gives_up_the_place() -> None:
    """The driver knows only of what it waits for, and that was the client."""
    stage, left = Stage(load_keepalive=15.0), []
    exchange = stage.exchange()
    expect(exchange.start(), Verify)
    expect(exchange.resume(FakeCaller()), ReadBody)
    expect(exchange.resume(chat(stream=True)), Admit)
    expect(exchange.resume(Queued(1, 1.0, None, lambda: left.append(1))), AwaitSlot)
    expect(exchange.resume(Queued(1, 1.0, None, lambda: left.append(2))), WriteHead)
    expect(exchange.resume(None), Write)
    assert ended(stage, exchange, exchange.interrupt(ClientLeft())).status == 499
    assert left == [2]


def test_a_missing_model_is_looked_for_once() -> None:
    """Somebody may have pulled it past the router."""
    stage = Stage()
    exchange = stage.exchange()
    expect(exchange.start(), Verify)
    expect(exchange.resume(FakeCaller()), ReadBody)
    expect(exchange.resume(chat(model="qwen3:8b")), Admit)
    expect(exchange.resume(Refused(ModelNotFound("nobody"))), LookForModels)
    expect(exchange.resume(True), Admit)
    assert expect(exchange.resume(Refused(ModelNotFound("nobody"))), WriteHead).status == 404
    assert b"qwen3:8b" in expect(exchange.resume(None), Finish).data
    ended(stage, exchange, exchange.resume(None))


def test_a_body_above_the_limit_is_refused_by_its_declared_length() -> None:
    """Nothing of it is read."""
    stage = Stage(limits={"max_body": "1KB"})
    exchange = stage.exchange("POST", "/api/chat", (b"content-length", b"1025"))
    expect(exchange.start(), Verify)
    assert expect(exchange.resume(FakeCaller()), WriteHead).status == BodyTooLarge.status_hint
    expect(exchange.resume(None), Finish)
    ended(stage, exchange, exchange.resume(None))


def test_a_client_that_leaves_ends_everything() -> None:
    """Nothing is written any more, what was held is released, and the row says so."""
    stage = Stage()
    exchange = stage.exchange()
    upstream = admitted(stage, exchange)
    answered(exchange, upstream)
    row = ended(stage, exchange, exchange.interrupt(ClientLeft()))
    assert row.status == CLIENT_LEFT


def test_a_revoked_user_is_told_in_the_stream() -> None:
    """With the error of its dialect, and a cut."""
    stage = Stage()
    exchange = stage.exchange()
    upstream = admitted(stage, exchange)
    answered(exchange, upstream)
    expect(exchange.resume(None), Receive)
    action = exchange.interrupt(Revoked())
    released = expect(action, Release)
    upstream.released += 1
    assert released.upstreams == (upstream,)
    assert b"revoked" in expect(exchange.resume(None), Write).data
    expect(exchange.resume(None), Cut)
    assert ended(stage, exchange, exchange.resume(None)).error_code == "forbidden"


def test_a_shutdown_is_told() -> None:
    """503 to who has nothing yet; a stream that has begun ends with the error of its dialect, and a cut."""
    stage = Stage()
    waiting, begun = stage.exchange(), stage.exchange()
    upstream = admitted(stage, waiting)
    expect(waiting.interrupt(Shutdown()), Release)
    upstream.released += 1
    assert expect(waiting.resume(None), WriteHead).status == 503
    expect(waiting.resume(None), Finish)
    ended(stage, waiting, waiting.resume(None))
    other = admitted(stage, begun)
    answered(begun, other)
    expect(begun.interrupt(Shutdown()), Release)
    other.released += 1
    assert expect(begun.resume(None), Write).data == b'{"error":"the router is stopping"}\n'
    expect(begun.resume(None), Cut)
    ended(stage, begun, begun.resume(None))


def test_a_fault_of_our_own_is_recorded_and_raised() -> None:
    """The driver has to see it; what was held is released before."""
    stage = Stage()
    exchange = stage.exchange()
    upstream = admitted(stage, exchange)
    expect(exchange.fail(ZeroDivisionError()), Release)
    upstream.released += 1
    assert expect(exchange.resume(None), Record).row.status == 500
    with pytest.raises(ZeroDivisionError):
        exchange.resume(None)
    assert stage.slots[0].closed == 1


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/responses", "/v1/messages"])
@pytest.mark.parametrize(
    "kind", sorted(set(_kinds(RouterError)), key=lambda kind: kind.code), ids=lambda kind: kind.code
)
def test_a_refusal_in_any_dialect_says_whether_to_try_again(kind: type[RouterError], path: str) -> None:
    """One field of the two, whatever the error is and whichever dialect tells it."""
    stage = Stage()
    exchange = stage.exchange(path=path)
    expect(exchange.start(), Verify)
    error = UpstreamTimeout("why", phase="first_byte") if kind is UpstreamTimeout else kind("why")
    head = expect(exchange.fail(error), WriteHead)
    said = [field for field in head.fields if field[0] in {b"x-should-retry", b"retry-after"}]
    assert said == list(retry_fields(error, sent=False))
    assert head.status == kind.status_hint
    expect(exchange.resume(None), Finish)
    ended(stage, exchange, exchange.resume(None))


def test_a_request_that_may_have_run_is_not_to_be_sent_again() -> None:
    """The router stops while a server works on it; without a server's part in it, coming back helps."""
    stage = Stage()
    exchange = stage.exchange()
    admitted(stage, exchange)
    action = exchange.interrupt(Shutdown())
    while isinstance(action, Release):
        for upstream in action.upstreams:
            upstream.released += 1  # type: ignore[attr-defined]
        action = exchange.resume(None)
    action = expect(action, WriteHead)
    assert (b"x-should-retry", b"false") in action.fields
    assert b"retry-after" not in dict(action.fields)
    expect(exchange.resume(None), Finish)
    ended(stage, exchange, exchange.resume(None))
