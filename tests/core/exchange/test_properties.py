"""Whatever happens to an exchange, it ends with one record, and nothing it held stays held."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, assert_never

from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_router_core.access.grants import Grants
from ollama_router_core.errors import (
    ConnectFailed,
    Forbidden,
    InvalidBody,
    LimitExceeded,
    ModelNotFound,
    NoServerFits,
    RouterError,
    StorageUnavailable,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamProtocolError,
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
    ReceiveAny,
    Record,
    Release,
    Send,
    StreamBody,
    Verify,
    Write,
    WriteHead,
)
from ollama_router_core.exchange.events import Arrival, ClientLeft, Piece, Preempted, Queued, Refused, Revoked, Shutdown
from ollama_router_core.exchange.machine import Exchange
from support.exchange_machine import FakeCaller, FakeReservation, FakeSlot, FakeUpstream, Stage, chat

REQUESTS = (
    ("POST", "/api/chat", chat()),
    ("POST", "/api/chat", chat(stream=False)),
    ("POST", "/api/chat", chat(messages=[], keep_alive=0)),
    ("POST", "/v1/chat/completions", chat(stream=True)),
    ("POST", "/v1/messages", chat(max_tokens=5)),
    ("POST", "/api/show", b'{"model":"llama3.1:8b"}'),
    ("GET", "/api/tags", b""),
    ("GET", "/", b""),
    ("GET", "/nowhere", b""),
    ("DELETE", "/api/delete", b'{"model":"llama3.1:8b"}'),
    ("POST", "/api/pull", b'{"model":"llama3.1:8b"}'),
    ("POST", "/api/create", b'{"model":"new","from":"llama3.1:8b"}'),
    ("POST", "/api/push", b'{"model":"llama3.1:8b"}'),
    ("HEAD", f"/api/blobs/sha256-{'0' * 64}", b""),
    ("POST", f"/api/blobs/sha256-{'0' * 64}", b""),
    ("POST", "/api/me", b""),
    ("POST", "/api/chat", chat(model="remote")),
    ("POST", "/v1/messages", chat(model="remote", max_tokens=5, stream=True)),
)
PIECES = (b"", b'{"message":{"content":"a"},"done":false}\n', b'{"status":"success"}\n', b'{"done":true}', b"[DONE]")
STATUSES = (200, 200, 200, 201, 302, 404, 429, 500, 503)
UPSTREAM_ERRORS: tuple[type[UpstreamError], ...] = (ConnectFailed, UpstreamDisconnected, UpstreamProtocolError)
TARGETS = (b"", b"a,b", b"all", b"where-it-fits", b"nowhere")


def _abandon(exchange: Exchange) -> None:
    """The example is over before the exchange is."""
    with suppress(Exception):
        action = exchange.interrupt(ClientLeft())
        while action is not None:
            action = exchange.resume(None)


class Driver:
    """Answers every action with something that it may be answered with, or interrupts."""

    def __init__(self, stage: Stage, draw: Any) -> None:
        self.stage = stage
        stage.moves_wait = lambda: bool(self.draw(st.booleans()))
        stage.waits, stage.leaves = self._wait, self._leave
        self.draw = draw
        self.records = 0
        self.waiting = 0
        self.interrupted = False

    def run(self, exchange: Exchange, body: bytes) -> None:
        """Drive an exchange to its end."""
        self.body = body
        action = exchange.start()
        steps = 0
        try:
            while action is not None:
                steps += 1
                assert steps < 1000, f"the exchange goes on and on: {action}"
                action = self._next(exchange, action)
        except BaseException:
            _abandon(exchange)
            raise

    def _next(self, exchange: Exchange, action: Action) -> Action | None:
        self._note(action)
        try:
            if not self.interrupted and self.draw(st.integers(0, 12)) == 0:
                self.interrupted = True
                if isinstance(action, AwaitSlot) and not isinstance(action.queued.waiting, FakeSlot):
                    self.waiting -= 1  # whoever waits for a first slot gives that up
                return exchange.interrupt(self.draw(st.sampled_from((ClientLeft(), Revoked(), Shutdown()))))
            try:
                result = self._result(action)
            except (RouterError, Preempted, ZeroDivisionError) as error:
                return exchange.fail(error)
            return exchange.resume(result)
        except ZeroDivisionError:
            return None  # a fault of our own comes out at the end

    def _note(self, action: Action) -> None:
        if isinstance(action, Record):
            self.records += 1
        elif isinstance(action, Release):
            for upstream in action.upstreams:
                upstream.released += 1  # type: ignore[attr-defined]

    def _result(self, action: Action) -> Any:  # noqa: PLR0911, PLR0912 - one case for each action
        match action:
            case Verify():
                return self._or(FakeCaller(role="admin", grants=self._grants()), Forbidden, StorageUnavailable)
            case ReadBody():
                return self._or(self.body, InvalidBody)
            case StreamBody(readers):
                return tuple(object() for _ in range(readers))
            case Count():
                return self._or(FakeReservation(settled=self.stage.settled), LimitExceeded)
            case Charge():
                return self._or(self.draw(st.booleans()), LimitExceeded)
            case AwaitCharge():
                return self._or(None, LimitExceeded)
            case Admit() | AwaitSlot():
                return self._slot(action)
            case LookForModels():
                return self.draw(st.booleans())
            case Send(request):
                return self.stage.sent(request)
            case AwaitHead(upstream):
                return self._head(upstream)
            case Receive():
                self._or(None, *UPSTREAM_ERRORS, timeout=True)
                return Piece(self.draw(st.sampled_from(PIECES)), self.draw(st.integers(0, 3)) == 0)
            case ReceiveAny(upstreams, seconds):
                return self._arrival(upstreams, seconds)
            case Release() | WriteHead() | Write() | Finish() | Cut() | Record():
                return None
            case _:
                assert_never(action)

    def _grants(self) -> Grants:
        return self.draw(st.sampled_from((Grants(), Grants(tokens_per_day=10), Grants(expires_at=1.0))))

    def _or(self, good: Any, *errors: type[RouterError], timeout: bool = False) -> Any:
        chance = self.draw(st.integers(0, 15))
        if chance == 0:
            raise self.draw(st.sampled_from(errors))("no")
        if chance == 1 and timeout:
            raise UpstreamTimeout("late", phase="idle")
        if chance == 2 and self.draw(st.integers(0, 10)) == 0:
            raise ZeroDivisionError
        return good

    def _slot(self, action: Admit | AwaitSlot) -> Any:
        if isinstance(action, AwaitSlot):
            waiting = action.queued.waiting
            if isinstance(waiting, FakeSlot):
                return Refused(NoServerFits("full")) if self.draw(st.booleans()) else waiting
            action = waiting  # type: ignore[assignment]
            self.waiting -= 1
        assert isinstance(action, Admit)
        chance = self.draw(st.integers(0, 9))
        if chance == 0:
            return Refused(self.draw(st.sampled_from((NoServerFits, ModelNotFound)))("no"))
        if chance == 1:
            self.waiting += 1
            return Queued(self.draw(st.integers(0, 2)), 0.5, action, self._leave)
        return self.stage.slot(action)

    def _wait(self) -> None:
        self.waiting += 1

    def _leave(self) -> None:
        self.waiting -= 1

    def _head(self, upstream: Any) -> bool:
        self._or(None, *UPSTREAM_ERRORS, timeout=True)
        if upstream.request.preemption is not None and self.draw(st.integers(0, 4)) == 0:
            raise Preempted
        if self.draw(st.integers(0, 4)) == 0:
            self.stage.clock.now += 1
            return False
        upstream.status, upstream.headers = self.draw(st.sampled_from(STATUSES)), ((b"content-type", b"x"),)
        return True

    def _arrival(self, upstreams: tuple[Any, ...], seconds: float | None) -> Arrival | None:
        if seconds is not None and self.draw(st.integers(0, 5)) == 0:
            self.stage.clock.now += seconds
            return None
        upstream: FakeUpstream = self.draw(st.sampled_from(upstreams))
        upstream.status = upstream.status or self.draw(st.sampled_from(STATUSES))
        if self.draw(st.integers(0, 8)) == 0:
            return Arrival(upstream, self.draw(st.sampled_from(UPSTREAM_ERRORS))("gone"))
        data = self.draw(st.sampled_from((*PIECES, b"{}")))
        return Arrival(upstream, Piece(data, self.draw(st.integers(0, 2)) == 0))


@settings(max_examples=4 * settings.default.max_examples)
@given(st.data(), st.sampled_from(REQUESTS), st.sampled_from(TARGETS), st.booleans())
def test_one_record_and_nothing_held(
    data: st.DataObject, request: tuple[str, str, bytes], target: bytes, beats: bool
) -> None:
    """For any results, failures and interruptions: one record; each slot, place and upstream given back once."""
    hosts = {"far": {"host": "far.example", "port": 443, "api": "openai", "api_key_env": "KEY"}}
    models = {"explicit_assignments": {"remote": "far"}, "fallbacks": {"llama3.1:8b": "remote"}}
    stage = Stage(external_hosts=hosts, models=models, load_keepalive=1.0 if beats else None, allow_account_routes=True)
    driver = Driver(stage, data.draw)
    method, path, body = request
    fields = ((b"x-router-target", target),) if target else ()
    driver.run(stage.exchange(method, path, *fields), body)
    assert driver.records == 1
    assert [slot.closed for slot in stage.slots] == [1] * len(stage.slots)
    assert [upstream.released for upstream in stage.upstreams] == [1] * len(stage.upstreams)
    assert len(stage.settled) <= 1
    assert driver.waiting == 0
