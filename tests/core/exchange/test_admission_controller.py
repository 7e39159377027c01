"""Who gets a slot, who waits and who is refused: the rules that proxy and client share, without I/O."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from ollama_router_core.api.endpoint_matching import match_endpoint
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.requests import parse_request
from ollama_router_core.client.fleet_book import FleetBook
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import Overloaded
from ollama_router_core.exchange.actions import Admit
from ollama_router_core.exchange.admission_controller import AdmissionController
from ollama_router_core.exchange.events import Preemption, Queued, Refused
from ollama_router_core.exchange.server_slot import ServerSlot, Waiter
from ollama_router_core.exchange.waiting import Waiting
from ollama_router_core.fleet.observations import observe_load_finished, observe_tags
from ollama_router_core.fleet.runners import Load

REQUEST = parse_request(match_endpoint("POST", "/api/chat"), b'{"model": "m", "messages": []}')
CHAT = Admit(REQUEST, user="", conversation=None)
BATCH = Admit(REQUEST, user="", conversation=None, waiting=Waiting(batch=True))
TAGS = json.dumps({"models": [{"name": "m", "size": 1, "digest": "d"}]}).encode()


class Clock:
    """Moved by hand."""

    now = 100.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    def wall(self) -> float:
        """Seconds since 1970."""
        return 1_700_000_000.0


@pytest.fixture
def clock() -> Clock:
    """Moved by hand."""
    return Clock()


def _controller(clock: Clock, **queue: Any) -> AdmissionController:
    """Two servers with one slot each, up and with the model; `a` is preferred."""
    servers = {
        name: {"host": name, "max_concurrent": 1, "num_parallel": 1, "priority": place}
        for place, name in enumerate("ab", 1)
    }
    config = Config.model_validate({"servers": servers, "queue": queue})
    fleet = FleetBook(config, clock)
    for name in servers:
        fleet.probe_answered(name, 200, b'{"version": "0.32.0"}', seconds=0.01)
        fleet.update(name, lambda facts: observe_tags(facts, body=TAGS, now=clock.now))
    return AdmissionController(config, fleet, clock.monotonic)


def _slot(outcome: object) -> ServerSlot:
    assert isinstance(outcome, ServerSlot)
    return outcome


def _queued(outcome: object) -> Queued:
    assert isinstance(outcome, Queued)
    return outcome


def _waiter(outcome: object) -> Waiter:
    waiter = _queued(outcome).waiting
    assert isinstance(waiter, Waiter)
    return waiter


def _nothing() -> None:
    """Nobody is woken."""


def test_a_slot_is_given_while_there_is_one_and_passed_on(clock: Clock) -> None:
    """Two slots, three requests: the third waits, is woken by the first that closes, and holds that server."""
    controller, woken = _controller(clock), []
    first, second = (_slot(controller.admit(CHAT, _nothing)) for _ in range(2))
    assert {first.server, second.server} == {"a", "b"}
    waiter = _waiter(controller.admit(CHAT, lambda: woken.append("third")))
    assert (controller.waiting, waiter.outcome) == (1, None)
    first.close()
    assert woken == ["third"]
    assert _slot(waiter.outcome).server == first.server
    assert controller.fleet.snapshot.in_flight == {"a": 1, "b": 1}


def test_closing_twice_is_once(clock: Clock) -> None:
    """A slot comes back once, with the retries that its request took."""
    controller = _controller(clock)
    slot, _ = (_slot(controller.admit(CHAT, _nothing)) for _ in range(2))
    assert slot.may_retry("b")
    slot.close()
    slot.close()
    assert controller.fleet.snapshot.in_flight == {"a": 0, "b": 1}
    assert sum(controller.take_retry() for _ in range(9)) == 3


def test_a_server_with_a_free_slot_needs_no_retry_budget(clock: Clock) -> None:
    """A budget bounds what retries add to servers that are busy; it must not lose a request that an idle one takes."""
    controller = _controller(clock)
    slot = _slot(controller.admit(CHAT, _nothing))
    while controller.take_retry():
        pass
    assert slot.may_retry("b")
    controller.fleet.health.failed("b", clock.now, refused=False)
    assert not slot.may_retry("b")
    controller.fleet.health.succeeded("b", clock.now)
    assert slot.may_retry("b")
    _slot(controller.admit(CHAT, _nothing))
    assert not slot.may_retry("b")


def test_a_slot_moves_with_its_request(clock: Clock) -> None:
    """Trying the next server frees the first one for whoever waits there."""
    controller = _controller(clock)
    slot = _slot(controller.admit(CHAT, _nothing))
    assert slot.permit("a") is not None
    assert slot.move("b") is None
    assert slot.permit("b") is not None
    assert slot.server == "b"
    assert controller.fleet.snapshot.in_flight == {"a": 0, "b": 1}


def test_leaving_gives_a_slot_to_the_next(clock: Clock) -> None:
    """Also one that was given in the same moment."""
    controller = _controller(clock)
    first, _ = (_slot(controller.admit(CHAT, _nothing)) for _ in range(2))
    leaving, staying = (_queued(controller.admit(CHAT, _nothing)) for _ in range(2))
    first.close()
    leaving.leave()
    assert _slot(_waiter(staying).outcome).server == first.server
    assert controller.waiting == 0


def test_waiting_ends_and_says_why_it_was_necessary(clock: Clock) -> None:
    """The queue wants to be looked at when `max_wait` is over; the refusal has the decision that made it wait."""
    controller, told = _controller(clock, max_wait=5.0), []
    controller.on_change(lambda: told.append(controller.next_look()))
    for _ in range(2):
        controller.admit(CHAT, _nothing)
    waiter = _waiter(controller.admit(CHAT, _nothing))
    assert told == [clock.now + 5.0]
    clock.now += 5.0
    controller.look()
    refused = waiter.outcome
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, Overloaded)
    assert refused.decision is not None
    assert refused.decision.error is not None
    assert controller.next_look() is None


def test_a_full_queue_refuses_at_once(clock: Clock) -> None:
    """With a time to come back."""
    controller = _controller(clock, max_waiting=1)
    for _ in range(3):
        controller.admit(CHAT, _nothing)
    refused = controller.admit(CHAT, _nothing)
    assert isinstance(refused, Refused)
    assert refused.error.retry_after is not None


class Claims:
    """Slots that another process may have; the test answers."""

    def __init__(self, fleet: FleetBook) -> None:
        self._fleet = fleet
        self.asked: list[tuple[str, CanonicalName | None, int, Callable[[bool], None]]] = []
        self.arrived: list[float | None] = []

    def claim(
        self,
        name: str,
        model: CanonicalName | None,
        limit: int,
        done: Callable[[bool], None],
        *,
        arrived: float | None = None,
    ) -> None:
        """Note the question; the request counts as begun."""
        self.arrived.append(arrived)
        self._fleet.begin(name, model)
        self.asked.append((name, model, limit, done))

    def answer(self, *, granted: bool) -> None:
        """Answer the oldest."""
        name, model, _, done = self.asked.pop(0)
        if not granted:
            self._fleet.end(name, model)
        done(granted)


def _load(controller: AdmissionController, clock: Clock) -> None:
    """The model is in memory of both servers."""
    assert isinstance(controller.fleet, FleetBook)
    for name in "ab":
        controller.fleet.update(
            name, lambda facts: observe_load_finished(facts, name=CanonicalName("m:latest"), load=Load(), now=clock.now)
        )


def test_a_batch_request_is_told_to_leave_and_waits_in_its_turn(clock: Clock) -> None:
    """The one that came waits until the slot is given back, which is one step with the other's place in the queue."""
    controller = _controller(clock, max_preemptions=1)
    _load(controller, clock)
    first, second = (_slot(controller.admit(BATCH, _nothing)) for _ in range(2))
    clock.now += 1.0
    told: list[str] = []
    for slot in (first, second):
        assert slot.preemption is not None
        slot.preemption.on_request(lambda slot=slot: told.append(slot.server))
    waiter = _waiter(controller.admit(CHAT, _nothing))
    (server,) = told
    assert waiter.outcome is None
    leaving = first if first.server == server else second
    again = leaving.requeue()
    assert (again.position, _slot(waiter.outcome).server) == (1, server)
    assert controller.fleet.snapshot.in_flight == {"a": 1, "b": 1}
    with pytest.raises(ValueError, match="closed"):
        leaving.requeue()
    _slot(waiter.outcome).close()
    back = _slot(_waiter(again).outcome)
    assert back.preemption is None  # once is as often as the setting says
    back.close()
    (second if leaving is first else first).close()
    assert controller.fleet.snapshot.in_flight == {"a": 0, "b": 0}


def test_one_whose_answer_has_begun_is_not_told(clock: Clock) -> None:
    """Of two the one that is still silent leaves, though the other began later; then nobody does."""
    controller = _controller(clock, max_preemptions=1)
    _load(controller, clock)
    silent = _slot(controller.admit(BATCH, _nothing))
    clock.now += 1.0
    answers = _slot(controller.admit(BATCH, _nothing))
    answers.answering()
    for expected in (True, True):
        _waiter(controller.admit(CHAT, _nothing))
        asked = [slot.preemption is not None and slot.preemption.requested for slot in (silent, answers)]
        assert asked == [expected, False]


def test_who_goes_on_elsewhere_by_itself_is_not_told_to_leave_there(clock: Clock) -> None:
    """Its first server broke off: whoever wanted that slot has it, and nobody wants the one it moved to."""
    controller = _controller(clock, max_preemptions=1)
    _load(controller, clock)
    slot = _slot(controller.admit(BATCH, _nothing))
    assert slot.preemption is not None
    slot.preemption.request()
    assert slot.move("b") is None
    assert not slot.preemption.requested


def test_what_is_told_to_leave_before_it_was_sent_leaves_when_it_is() -> None:
    """The driver says how it is done only then."""
    preemption, told = Preemption(), list[int]()
    preemption.request()
    preemption.on_request(lambda: told.append(1))
    assert told == [1]


def _shared_config(**queue: Any) -> Config:
    servers = {name: {"host": name, "max_concurrent": 1, "num_parallel": 1} for name in "ab"}
    return Config.model_validate({"servers": servers, "queue": queue})


@pytest.fixture
def shared(clock: Clock) -> tuple[AdmissionController, Claims]:
    """As `_controller`, where slots are claimed."""
    fleet = _controller(clock).fleet
    assert isinstance(fleet, FleetBook)
    claims = Claims(fleet)
    return AdmissionController(_shared_config(), fleet, clock.monotonic, claims=claims), claims


def test_a_slot_of_all_routers_is_asked_for_first(shared: tuple[AdmissionController, Claims]) -> None:
    """Meanwhile nobody else gets it; granted, the request has it, and gives it back once."""
    controller, claims = shared
    woken: list[str] = []
    waiter = _waiter(controller.admit(CHAT, lambda: woken.append("first")))
    assert (waiter.outcome, controller.waiting, len(claims.asked)) == (None, 0, 1)
    claims.answer(granted=True)
    slot = _slot(waiter.outcome)
    assert woken == ["first"]
    assert controller.fleet.snapshot.in_flight[slot.server] == 1
    slot.close()
    assert controller.fleet.snapshot.in_flight[slot.server] == 0


def test_a_slot_that_a_preemption_frees_is_asked_for_as_any_other(
    shared: tuple[AdmissionController, Claims], clock: Clock
) -> None:
    """Another router may have it first: then it is asked for again, for the interactive request."""
    controller, claims = shared
    controller.reconfigure(_shared_config(max_preemptions=1))
    _load(controller, clock)
    batch = [_waiter(controller.admit(BATCH, _nothing)) for _ in range(2)]
    for _ in batch:
        claims.answer(granted=True)
    slots = [_slot(waiter.outcome) for waiter in batch]
    clock.now += 1.0
    waiter = _waiter(controller.admit(CHAT, _nothing))
    (leaving,) = [slot for slot in slots if slot.preemption is not None and slot.preemption.requested]
    again = _waiter(leaving.requeue())
    claims.answer(granted=False)
    assert (waiter.outcome, again.outcome) == (None, None)
    claims.answer(granted=True)
    assert _slot(waiter.outcome).server == leaving.server
    assert again.outcome is None


@pytest.mark.parametrize("granted", [True, False])
def test_who_is_preempted_while_its_slot_is_asked_for_leaves_with_its_first_step(
    shared: tuple[AdmissionController, Claims], clock: Clock, *, granted: bool
) -> None:
    """It has nothing to leave before; one that gets no slot has left already, and is not told when it gets another."""
    controller, claims = shared
    controller.reconfigure(_shared_config(max_preemptions=1))
    _load(controller, clock)
    batch = [_waiter(controller.admit(BATCH, _nothing)) for _ in range(2)]
    _waiter(controller.admit(CHAT, _nothing))
    for _ in batch:
        claims.answer(granted=granted)
    while claims.asked:
        claims.answer(granted=True)
    slots = [waiter.outcome for waiter in batch]
    told = [isinstance(one, ServerSlot) and one.preemption is not None and one.preemption.requested for one in slots]
    assert sum(told) == granted


def test_a_slot_that_another_router_has_is_waited_for(shared: tuple[AdmissionController, Claims], clock: Clock) -> None:
    """The request is back in its place, before those that came later, and gets the next that is free."""
    controller, claims = shared
    first = _waiter(controller.admit(CHAT, _nothing))
    second = _waiter(controller.admit(CHAT, _nothing))
    for _ in range(2):
        claims.answer(granted=True)
    held = _slot(first.outcome), _slot(second.outcome)
    clock.now += 1.0
    third = _waiter(controller.admit(CHAT, _nothing))
    clock.now += 1.0
    fourth = _waiter(controller.admit(CHAT, _nothing))
    assert controller.waiting == 2
    held[0].close()
    claims.answer(granted=False)
    assert third.outcome is None
    claims.answer(granted=True)
    assert _slot(third.outcome)
    assert fourth.outcome is None


def test_who_is_denied_a_slot_is_woken_to_its_position(
    shared: tuple[AdmissionController, Claims], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It only asked so far, and stands in the line from then on."""
    controller, claims = shared
    woken: list[int] = []
    waiter = _waiter(controller.admit(CHAT, lambda: woken.append(controller.rank(waiter))))
    assert controller.rank(waiter) == 0
    seen = replace(controller.fleet.snapshot, elsewhere={"a": 1, "b": 1}, in_flight={"a": 1, "b": 1})
    monkeypatch.setattr(FleetBook, "snapshot", property(lambda _: seen))
    claims.answer(granted=False)
    assert woken == [1]


def test_a_client_that_leaves_while_its_slot_is_asked_for_holds_nothing(
    shared: tuple[AdmissionController, Claims],
) -> None:
    """A slot that is granted then is given back; one that is not leaves nobody in the queue."""
    controller, claims = shared
    for granted in (True, False):
        _queued(controller.admit(CHAT, _nothing)).leave()
        claims.answer(granted=granted)
        assert (controller.waiting, sum(controller.fleet.snapshot.in_flight.values())) == (0, 0)


def _moving(controller: AdmissionController, claims: Claims) -> tuple[ServerSlot, str, Queued]:
    """A slot on one server, the other one, and the request's wait for a slot there."""
    waiter = _waiter(controller.admit(CHAT, _nothing))
    claims.answer(granted=True)
    slot = _slot(waiter.outcome)
    other = "b" if slot.server == "a" else "a"
    return slot, other, _queued(slot.move(other))


def test_a_retry_on_another_server_is_counted_by_a_claim_of_its_own(
    shared: tuple[AdmissionController, Claims],
) -> None:
    """Granted, the slot is there; its permit is the other server's."""
    controller, claims = shared
    slot, other, moving = _moving(controller, claims)
    assert _waiter(moving).outcome is None
    claims.answer(granted=True)
    assert _waiter(moving).outcome is slot
    permit = slot.permit(other)
    assert permit is not None
    assert (slot.server, permit.server) == (other, other)
    assert {name: count for name, count in controller.fleet.snapshot.in_flight.items() if count} == {other: 1}


def test_a_retry_waits_for_a_slot_of_the_next_server(shared: tuple[AdmissionController, Claims], clock: Clock) -> None:
    """It asks again with each look, and is told after ten seconds that there is none, also with an empty queue."""
    controller, claims = shared
    slot, other, moving = _moving(controller, claims)
    claims.answer(granted=False)
    assert (_waiter(moving).outcome, controller.waiting) == (None, 0)
    assert controller.next_look() is not None
    clock.now += 10.0
    controller.look()
    claims.answer(granted=False)
    assert isinstance(_waiter(moving).outcome, Refused)
    assert controller.next_look() is None
    assert slot.server != other
    slot.close()
    assert not any(controller.fleet.snapshot.in_flight.values())


def test_a_retry_goes_on_when_a_reload_removes_the_limit_it_waits_for(
    shared: tuple[AdmissionController, Claims],
) -> None:
    """Nobody grants slots of a server without a limit, so the next look moves the request there."""
    controller, claims = shared
    slot, other, moving = _moving(controller, claims)
    claims.answer(granted=False)
    controller.reconfigure(Config.model_validate({"servers": {name: {"host": name} for name in "ab"}}))
    controller.look()
    assert _waiter(moving).outcome is slot
    assert slot.server == other
    assert {name: count for name, count in controller.fleet.snapshot.in_flight.items() if count} == {other: 1}


def test_a_client_that_leaves_while_its_retry_is_asked_for_holds_nothing(
    shared: tuple[AdmissionController, Claims],
) -> None:
    """A slot that is granted then is given back."""
    controller, claims = shared
    slot, _, moving = _moving(controller, claims)
    moving.leave()
    slot.close()
    claims.answer(granted=True)
    assert not any(controller.fleet.snapshot.in_flight.values())
