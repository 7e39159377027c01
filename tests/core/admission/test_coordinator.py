"""The line in the router: who waits, who goes next and where to, who is refused."""

from __future__ import annotations

import heapq
import time

import pytest
from msgspec.structs import replace

from ollama_router_core.admission import Admission, Dispatch, Refusal, Ticket
from ollama_router_core.errors import ModelNotFound, ModelTooLarge, Overloaded
from ollama_router_core.fleet.capacity import Capacity, HeldModel
from ollama_router_core.fleet.prefixes import Prefixes
from support.fleets import GIB, installed, loaded, make_config, make_facts, make_fleet, make_request

SMALL, LARGE = "llama3.1:8b", "llama3.3:70b"
DISK = (installed(SMALL, 5 * GIB), installed(LARGE, 45 * GIB), installed("other", 5 * GIB))


def ticket(number, model=SMALL, user="alice", arrived=0.0, conversation=None, **fields):
    """A request in a line."""
    request = make_request(model, prompt_tokens=fields.pop("prompt_tokens", 1000), **fields)
    return Ticket(number=number, request=request, arrived=arrived, user=user, conversation=conversation)


def numbers(outcomes):
    """Which tickets were sent."""
    return [outcome.ticket.number for outcome in outcomes if isinstance(outcome, Dispatch)]


def make(servers=None, strategy="fastest", **queue):
    """An admission over servers with 48 GiB each."""
    servers = servers or {"a": {"max_memory_gb": 48.0}}
    return Admission(make_config(servers, routing_strategy=strategy, queue=queue))


WARM = make_fleet(make_facts("a", DISK, (loaded(SMALL, 5 * GIB),)))


class TestBoundsForEveryStrategy:
    """One bounded line, with an honest answer for those outside it."""

    def full(self, **queue):
        """A server with one slot, taken."""
        admission = make({"a": {"max_concurrent": 1}}, "priority_with_memory", **queue)
        assert numbers(admission.arrive(ticket(0), WARM, 0.0)) == [0]
        return admission

    def test_waits_while_every_slot_is_taken_and_goes_when_one_is_free(self):
        """Late: the choice is made when the slot frees."""
        admission = self.full()
        assert admission.arrive(ticket(1, arrived=1.0), WARM, 1.0) == ()
        assert admission.waiting == 1
        (sent,) = admission.finished(0, WARM, 3.5)
        assert (sent.ticket.number, sent.server, sent.waited, sent.position) == (1, "a", 2.5, 1)
        assert "waited 2.5 s" in sent.reason

    @pytest.mark.parametrize("strategy", ["priority_with_memory", "fastest"])
    def test_a_slot_that_another_process_frees_is_seen_with_the_next_change(self, strategy):
        """This process need not have a request of its own there."""
        admission = make({"a": {"max_concurrent": 1}}, strategy)
        busy = replace(WARM, elsewhere={"a": 1}, in_flight={"a": 1})
        assert admission.arrive(ticket(1), busy, 0.0) == ()
        assert admission.changed(busy, 0.1) == ()
        assert numbers(admission.changed(WARM, 0.2)) == [1]

    @pytest.mark.parametrize("strategy", ["priority_with_memory", "fastest"])
    def test_a_slot_that_was_denied_is_wanted_again_when_it_is_free(self, strategy):
        """Also where all is as it was before it was asked for: another process had it for a moment, and is done."""
        admission = make({"a": {"max_concurrent": 1}}, strategy)
        busy = replace(WARM, elsewhere={"a": 1}, in_flight={"a": 1})
        first = ticket(1)
        assert admission.arrive(first, busy, 0.0) == ()
        assert numbers(admission.changed(WARM, 0.1)) == [1]
        assert numbers(admission.denied(first, busy, 0.2)) == []
        assert numbers(admission.changed(WARM, 0.3)) == [1]

    @pytest.mark.parametrize("strategy", ["priority_with_memory", "fastest"])
    def test_a_slot_that_was_free_before_the_line_began_is_seen_when_it_is_free_again(self, strategy):
        """Though all is then as it was when it was looked at last: nobody waited, and nobody has waited since."""
        admission = make({"a": {"max_concurrent": 1}}, strategy)
        busy = replace(WARM, elsewhere={"a": 1}, in_flight={"a": 1})
        assert admission.changed(WARM, 0.0) == ()
        assert admission.arrive(ticket(1), busy, 0.1) == ()
        assert numbers(admission.changed(WARM, 0.2)) == [1]

    @pytest.mark.parametrize("strategy", ["priority_with_memory", "fastest"])
    def test_a_drain_that_began_before_the_line_and_ends_is_seen(self, strategy):
        """Though all is then as it was when it was looked at last: nobody waited when the drain began."""
        admission = make({"a": {"max_concurrent": 1}, "b": {"max_concurrent": 1}}, strategy)
        both = make_fleet(*(make_facts(name, DISK, (loaded(SMALL, 5 * GIB),)) for name in "ab"))
        draining = replace(both, draining=frozenset({"b"}))
        assert admission.changed(both, 0.0) == ()
        assert numbers(admission.arrive(ticket(0), draining, 0.1)) == [0]
        assert admission.arrive(ticket(1), draining, 0.1) == ()
        assert numbers(admission.changed(both, 0.2)) == [1]

    @pytest.mark.parametrize("strategy", ["priority_with_memory", "fastest"])
    def test_who_is_next_is_not_refused_for_the_time_that_its_own_answer_takes(self, strategy):
        """Its wait is what is left of the one that runs, however long a usual one is."""
        admission = make({"a": {"max_concurrent": 1}}, strategy)
        admission.arrive(ticket(0), WARM, 0.0)
        admission.first_byte(0, WARM, 0.1)
        assert isinstance(admission.arrive(replace(ticket(1), max_wait=0.5), WARM, 0.1)[0], Refusal)
        assert admission.arrive(replace(ticket(2, arrived=4.5), max_wait=0.5), WARM, 4.5) == ()

    def test_where_a_ticket_stands_now(self):
        """Behind those who joined before it and still wait, for as long as these and what runs take."""
        admission = self.full()
        admission.arrive(ticket(1), WARM, 0.0)
        admission.arrive(ticket(2, "other"), WARM, 0.0)
        admission.arrive(ticket(3), WARM, 0.0)
        (first, soon), (third, later) = (admission.line.place(number, WARM, 1.0) for number in (1, 3))
        assert (first, third) == (1, 3)
        assert 0 < soon < later
        admission.left(1, WARM, 1.0)
        assert [admission.line.place(number, WARM, 1.0)[0] for number in (2, 3)] == [1, 2]
        assert admission.line.place(1, WARM, 1.0) == (0, 0.0)

    @pytest.mark.parametrize("strategy", ["priority_with_memory", "fastest"])
    @pytest.mark.parametrize(
        "slots", [{"max_concurrent": 1}, {"num_parallel": 1}, {"max_concurrent": 1, "num_parallel": 4}]
    )
    def test_the_turn_comes_closer_with_time(self, strategy, slots):
        """The next one waits for what is left of the running request, the others for those before them, too."""
        admission = make({"a": slots}, strategy)
        admission.arrive(ticket(0), WARM, 0.0)
        admission.first_byte(0, WARM, 0.1)
        for number, needs in ((1, ()), (2, ("tools",)), (3, ())):
            admission.arrive(ticket(number, arrived=0.2, needs=frozenset({"completion", *needs})), WARM, 0.2)
        places = [[admission.line.place(number, WARM, now) for number in (1, 2, 3)] for now in (0.2, 1.2, 2.2)]
        assert [rank for rank, _ in places[-1]] == [1, 2, 3]
        seconds = [[wait for _, wait in at] for at in places]
        assert all(at == sorted(at) and at[2] > 2 * at[0] for at in seconds)
        assert [at[0] for at in seconds] == pytest.approx([seconds[0][0] - passed for passed in (0, 1, 2)])

    @pytest.mark.parametrize("strategy", ["priority_with_memory", "fastest"])
    def test_what_other_processes_have_on_a_server_is_waited_for_too(self, strategy):
        """They fill its slots: as long as it takes usually, or until one of this process's own is over."""
        admission = make({"a": {"max_concurrent": 2}}, strategy)
        admission.arrive(ticket(0), WARM, 0.0)
        one, two = (replace(WARM, elsewhere={"a": count}, in_flight={"a": count}) for count in (1, 2))
        assert admission.arrive(ticket(1), two, 0.0) == ()
        begun, later = (admission.line.place(1, one, now)[1] for now in (0.0, 1.0))
        assert later == pytest.approx(begun - 1.0)
        admission.finished(0, two, 1.0)
        assert admission.line.place(1, two, 1.0) == (1, begun)

    @pytest.mark.parametrize("strategy", ["priority_with_memory", "fastest"])
    def test_a_batch_is_not_before_others(self, strategy):
        """Whoever comes after it is told its place and turn as without it; the batch is told of both."""
        admission = make({"a": {"max_concurrent": 1}}, strategy)
        admission.arrive(ticket(0), WARM, 0.0)
        admission.arrive(ticket(1), WARM, 0.0)
        alone = admission.line.place(1, WARM, 0.0)
        for number in (2, 3):
            admission.arrive(replace(ticket(number), batch=True), WARM, 0.0)
        admission.left(1, WARM, 0.0)
        admission.arrive(ticket(4), WARM, 0.0)
        assert admission.line.position(4) == 1
        assert admission.line.place(4, WARM, 0.0) == alone
        (second, soon), (third, later) = (admission.line.place(number, WARM, 0.0) for number in (2, 3))
        assert (second, third) == (2, 3)
        assert alone[1] < soon < later

    def test_what_waits_for_a_model_is_told_in_one_line(self):
        """Whoever reads it could not tell apart the kinds that servers care about."""
        admission = self.full()
        admission.arrive(ticket(1, arrived=1.0), WARM, 1.0)
        admission.arrive(ticket(2, arrived=2.0, needs=frozenset({"completion", "tools"})), WARM, 2.0)
        (line,) = admission.line.groups(WARM, 3.0)
        assert (line.model, line.waiting, line.batch, line.longest) == (SMALL, 2, 0, 2.0)
        assert line.expected > 0

    def test_what_waits_longest_and_for_whom(self):
        """The full servers that could take it: a slot of one of them is what it needs."""
        admission = self.full()
        assert admission.line.longest_wait(WARM, 0.0) == (None, frozenset())
        admission.arrive(ticket(1, arrived=1.0), WARM, 1.0)
        admission.arrive(ticket(2, arrived=2.0), WARM, 2.0)
        assert admission.line.longest_wait(WARM, 3.0) == (1.0, frozenset({"a"}))
        admission.left(1, WARM, 3.0)
        assert admission.line.longest_wait(WARM, 3.0) == (2.0, frozenset({"a"}))

    def test_a_batch_waits_less_long_than_anybody_and_has_no_slot_kept(self):
        """What others compare; it is told how long it really waits."""
        admission = self.full()
        admission.arrive(replace(ticket(1, arrived=1.0), batch=True), WARM, 1.0)
        since, servers = admission.line.longest_wait(WARM, 500.0)
        assert (admission.line.since, servers) == (1.0, frozenset())
        assert since is not None
        assert since > 1e6
        admission.arrive(ticket(2, arrived=2.0), WARM, 2.0)
        assert admission.line.longest_wait(WARM, 500.0) == (2.0, frozenset({"a"}))
        assert admission.line.since == 1.0

    def test_who_had_a_turn_is_in_the_line_of_all_routers_since_then(self):
        """So a user with many requests at one router is no longer first there than one with a single one elsewhere."""
        admission, sent = self.full(), ticket(9, user="hog", arrived=1.0)
        for number, user in ((1, "hog"), (2, "hog"), (3, "bob")):
            admission.arrive(ticket(number, user=user, arrived=float(number)), WARM, float(number))
        assert [admission.in_line_since(one) for one in (sent, ticket(3, user="bob", arrived=3.0))] == [1.0, 3.0]
        admission.granted(sent, 10.0)
        assert admission.in_line_since(sent) == 10.0
        assert admission.line.heads(WARM, 11.0) == {"a": 3.0}
        admission.left(3, WARM, 11.0)
        assert admission.line.heads(WARM, 11.0) == {"a": 10.0}
        assert admission.in_line_since(ticket(4, user="hog", arrived=12.0)) == 12.0
        admission.granted(replace(ticket(5, user="eve", arrived=2.0), batch=True), 11.0)
        assert admission.in_line_since(ticket(6, user="eve", arrived=2.0)) == 2.0
        assert admission.in_line_since(replace(sent, batch=True)) == float("inf")

    def test_the_first_for_each_full_server(self):
        """Those of a batch are first for none; a server with a free slot has no line."""
        admission = self.full()
        assert admission.line.heads(WARM, 0.0) == {}
        admission.arrive(replace(ticket(1, arrived=1.0), batch=True), WARM, 1.0)
        assert admission.line.heads(WARM, 1.0) == {}
        for number in (2, 3):
            admission.arrive(ticket(number, arrived=float(number)), WARM, float(number))
        assert admission.line.heads(WARM, 4.0) == {"a": 2.0}
        admission.left(2, WARM, 4.0)
        assert admission.line.heads(WARM, 4.0) == {"a": 3.0}
        admission.left(0, WARM, 5.0)
        assert admission.line.heads(WARM, 5.0) == {}

    def test_the_line_is_full(self):
        """503 with Retry-After."""
        admission = self.full(max_waiting=1)
        admission.arrive(ticket(1), WARM, 0.0)
        (refusal,) = admission.arrive(ticket(2), WARM, 0.0)
        assert isinstance(refusal, Refusal)
        assert isinstance(refusal.error, Overloaded)
        assert 1.0 <= refusal.error.retry_after <= 30.0

    def test_a_user_with_many_waiting_makes_place_for_one_with_none(self):
        """A full line is shared: the hog's latest request goes."""
        admission = self.full(max_waiting=3)
        for number in (1, 2, 3):
            admission.arrive(ticket(number, user="hog"), WARM, 0.0)
        (refusal,) = admission.arrive(ticket(4, user="victim"), WARM, 0.0)
        assert refusal.ticket.number == 3
        assert admission.waiting == 3

    def test_a_user_has_a_limit_of_his_own(self):
        """Where the operator set one."""
        admission = self.full(max_waiting_per_user=1)
        assert admission.arrive(ticket(1), WARM, 0.0) == ()
        assert isinstance(admission.arrive(ticket(2), WARM, 0.0)[0], Refusal)
        assert admission.arrive(ticket(3, user="bob"), WARM, 0.0) == ()

    def test_who_would_be_refused_is_turned_away_without_a_look(self):
        """A full line of the same kind: the refusal that `arrive` gives, for nobody who may take another's place."""
        admission = self.full(max_waiting=2)
        admission.arrive(ticket(1), WARM, 0.0)
        assert admission.shedding.turn_away(ticket(2), WARM, 0.0) is None, "there is room"
        admission.arrive(ticket(2), WARM, 0.0)
        error = admission.shedding.turn_away(ticket(3), WARM, 0.0)
        (refusal,) = admission.arrive(ticket(3), WARM, 0.0)
        assert isinstance(error, Overloaded)
        assert (str(error), error.retry_after) == (str(refusal.error), refusal.error.retry_after)
        assert admission.waiting == 2

    def test_nobody_is_turned_away_without_a_look_who_might_get_in(self):
        """Who may take another's place, and who asks for what nobody waits for."""
        admission = self.full(max_waiting=3)
        for number in (1, 2, 3):
            admission.arrive(ticket(number, user="hog"), WARM, 0.0)
        assert admission.shedding.turn_away(ticket(4, user="hog"), WARM, 0.0) is not None
        assert admission.shedding.turn_away(ticket(5, user="victim"), WARM, 0.0) is None
        assert admission.shedding.turn_away(ticket(6, "other", user="hog"), WARM, 0.0) is None

    def test_a_user_at_his_own_limit_is_turned_away_while_others_may_wait(self):
        """The limit of one user is no full line."""
        admission = self.full(max_waiting_per_user=1)
        admission.arrive(ticket(1), WARM, 0.0)
        assert isinstance(admission.shedding.turn_away(ticket(2), WARM, 0.0), Overloaded)
        assert admission.shedding.turn_away(ticket(3, user="bob"), WARM, 0.0) is None

    def test_nobody_waits_for_longer_than_allowed(self):
        """At the time that `next_tick` gives, the wait ends."""
        admission = self.full(max_wait=30.0)
        admission.arrive(ticket(1, arrived=5.0), WARM, 5.0)
        at = admission.next_tick(5.0)
        assert at == 35.0
        (refusal,) = admission.tick(WARM, at)
        assert (refusal.ticket.number, refusal.waited) == (1, 30.0)
        assert admission.next_tick(at) is None

    def test_a_client_that_leaves_leaves_the_line(self):
        """Its turn goes to the next."""
        admission = self.full()
        admission.arrive(ticket(1), WARM, 0.0)
        admission.arrive(ticket(2), WARM, 0.0)
        assert admission.left(1, WARM, 1.0) == ()
        assert numbers(admission.finished(0, WARM, 2.0)) == [2]

    def test_a_client_that_leaves_its_server_frees_the_slot(self):
        """For whoever waits."""
        admission = self.full()
        admission.arrive(ticket(1), WARM, 0.0)
        assert numbers(admission.left(0, WARM, 1.0)) == [1]

    def test_users_take_turns(self):
        """A hog with a hundred waiting: the victim is next but one at most."""
        admission = self.full(max_waiting=200)
        for number in range(1, 101):
            admission.arrive(ticket(number, user="hog"), WARM, 0.0)
        admission.arrive(ticket(999, user="victim"), WARM, 0.0)
        order, last = [], 0
        for _ in range(2):
            (last,) = numbers(admission.finished(last, WARM, 1.0))
            order.append(last)
        assert 999 in order

    def test_what_no_server_can_ever_take_does_not_wait(self):
        """404 and 400 come at once."""
        admission = make({"a": {"max_memory_gb": 8.0}}, "priority_with_memory")
        assert isinstance(admission.arrive(ticket(0, "nowhere"), WARM, 0.0)[0].error, ModelNotFound)
        assert isinstance(admission.arrive(ticket(1, LARGE), WARM, 0.0)[0].error, ModelTooLarge)

    @pytest.mark.parametrize("strategy", ["priority_with_memory", "fastest"])
    def test_when_the_last_server_goes_down_those_who_wait_are_told(self, strategy):
        """Not left to wait for their limit."""
        admission = make({"a": {"max_concurrent": 1}}, strategy)
        admission.arrive(ticket(0), WARM, 0.0)
        admission.arrive(ticket(1), WARM, 0.0)
        down = make_fleet(make_facts("a", DISK, up=False))
        (refusal,) = admission.changed(down, 1.0)
        assert refusal.ticket.number == 1
        assert admission.waiting == 0

    def test_an_assignment_waits_for_nobody(self):
        """Short-circuits the line as everything else."""
        config = make_config({"a": {"max_concurrent": 1}}, model_config={"explicit_assignments": {SMALL: "a"}})
        admission = Admission(config)
        assert numbers(admission.arrive(ticket(0), WARM, 0.0)) == [0]
        assert numbers(admission.arrive(ticket(1), WARM, 0.0)) == [1]

    def test_failover_moves_the_load(self):
        """A request that went on to another server counts there."""
        admission = make({"a": {}, "b": {}}, "priority_with_memory")
        fleet = make_fleet(make_facts("a", DISK), make_facts("b", DISK))
        (sent,) = admission.arrive(ticket(0), fleet, 0.0)
        other = sent.ranking[1]
        admission.moved(0, other, 0.1)
        assert admission.traffic(fleet, 0.1).in_flight == {other: 1}


class TestWaits:
    """How long, and for how many."""

    def test_one_model_leaves_room_for_the_others(self):
        """Its own bound is reached; another model's request joins the queue."""
        servers = {"a": {"max_memory_gb": 48.0, "max_concurrent": 1}}
        admission = make(servers, "least_loaded", max_waiting=8, max_waiting_per_model=2)
        admission.arrive(ticket(0), WARM, 0.0)
        for number in (1, 2):
            assert admission.arrive(ticket(number), WARM, 0.0) == ()
        (refused,) = admission.arrive(ticket(3), WARM, 0.0)
        assert isinstance(refused.error, Overloaded)
        assert admission.arrive(ticket(4, "other"), WARM, 0.0) == ()

    def test_the_tick_that_was_asked_for_ends_the_wait(self):
        """Whatever floating point makes of the sum of arrival and patience."""
        servers = {"a": {"max_memory_gb": 48.0, "max_concurrent": 1}}
        for start in (0.1, 0.7, 1.1, 1e6 + 0.3):
            admission = make(servers, "least_loaded", max_wait=60.2)
            admission.arrive(ticket(0, arrived=start), WARM, start)
            admission.arrive(ticket(1, arrived=start), WARM, start)
            at = admission.next_tick(start)
            (refused,) = admission.tick(WARM, at)
            assert isinstance(refused, Refusal)
            assert admission.next_tick(at) is None

    def test_a_request_may_wait_for_less_than_the_others(self):
        """Its own time ends first, though it came later."""
        servers = {"a": {"max_memory_gb": 48.0, "max_concurrent": 1}}
        admission = make(servers, "least_loaded", max_wait=60.0)
        admission.arrive(ticket(0), WARM, 0.0)
        admission.arrive(ticket(1), WARM, 0.0)
        admission.arrive(replace(ticket(2, arrived=1.0), max_wait=5.0), WARM, 1.0)
        assert admission.next_tick(1.0) == 6.0
        (refused,) = admission.tick(WARM, 6.0)
        assert refused.ticket.number == 2
        assert admission.next_tick(6.0) == 60.0

    def test_a_wait_that_cannot_end_in_time_is_refused_at_once(self):
        """The estimate is in the text; who may wait for longer waits."""
        servers = {"a": {"max_memory_gb": 48.0, "max_concurrent": 1}}
        admission = make(servers)
        admission.arrive(ticket(0), WARM, 0.0)
        admission.arrive(ticket(1), WARM, 0.0)
        (refused,) = admission.arrive(replace(ticket(2), max_wait=0.5), WARM, 0.0)
        assert "expected wait" in str(refused.error)
        assert refused.error.retry_after >= 1.0
        assert admission.arrive(replace(ticket(3), max_wait=500.0), WARM, 0.0) == ()

    def test_the_line_by_model(self):
        """How many wait for what, since when, and for a user only what is theirs."""
        servers = {"a": {"max_memory_gb": 48.0, "max_concurrent": 1}}
        admission = make(servers, "least_loaded")
        admission.arrive(ticket(0), WARM, 0.0)
        admission.arrive(ticket(1), WARM, 1.0)
        admission.arrive(ticket(2, user="bob", arrived=2.0), WARM, 2.0)
        admission.arrive(ticket(3, "other", user="bob", arrived=3.0), WARM, 3.0)
        everything = admission.line.groups(WARM, 5.0)
        assert [(one.waiting, one.longest) for one in everything] == [(2, 5.0), (1, 2.0)]
        assert [(one.waiting, one.longest) for one in admission.line.groups(WARM, 5.0, "bob")] == [(1, 3.0), (1, 2.0)]
        assert admission.line.groups(WARM, 5.0, "carol") == ()


@pytest.mark.parametrize("strategy", ["fastest", "least_loaded"])
class TestPriorities:
    """Batch requests take what no other waits for."""

    def test_an_interactive_request_goes_before_batch_ones_that_came_earlier(self, strategy):
        """However long they have waited; it waits for the one that runs, no longer."""
        admission = make({"a": {"max_memory_gb": 48.0, "max_concurrent": 1}}, strategy, max_wait=1e6)
        for number in range(20):
            admission.arrive(replace(ticket(number, user="night"), batch=True), WARM, 0.0)
        admission.arrive(ticket(20, arrived=3000.0), WARM, 3000.0)
        assert numbers(admission.finished(0, WARM, 3001.0)) == [20]
        assert len(numbers(admission.finished(20, WARM, 3002.0))) == 1

    def test_batch_requests_use_what_is_idle(self, strategy):
        """At once, when nobody else is there."""
        admission = make(strategy=strategy)
        assert numbers(admission.arrive(replace(ticket(0), batch=True), WARM, 0.0)) == [0]


class TestFastest:
    """Bound late: slots of loaded models first, loads where they pay."""

    def test_a_loaded_model_with_a_free_slot_at_once(self):
        """Nothing to wait for."""
        (sent,) = make().arrive(ticket(0), WARM, 0.0)
        assert (sent.server, sent.unload, sent.waited, sent.position) == ("a", (), 0.0, 0)

    def test_waits_for_the_slot_of_its_model(self):
        """`num_parallel` is what the server runs at once; the rest waits here, where it can still go elsewhere."""
        admission = make()
        admission.arrive(ticket(0), WARM, 0.0)
        assert admission.arrive(ticket(1), WARM, 0.0) == ()
        assert numbers(admission.finished(0, WARM, 1.0)) == [1]

    def test_one_more_than_is_proven_is_sent_where_two_wait(self):
        """Nobody told the slots: whether it waits there tells them. A single one waits here."""
        admission, fleet = make(), replace(WARM, proven={"a": 1})
        admission.arrive(ticket(0), fleet, 0.0)
        assert [numbers(admission.arrive(ticket(number), fleet, 0.0)) for number in (1, 2, 3, 4)] == [[], [1], [], []]

    def test_slots_are_tried_with_slow_requests_in_a_longer_line(self):
        """A trial may have to wait behind one: two who wait are not enough for prompts of 20,000 tokens."""
        admission, fleet = make(), replace(WARM, proven={"a": 1})
        slow = [ticket(number, prompt_tokens=20_000) for number in range(60)]
        admission.arrive(slow[0], fleet, 0.0)
        sent = [numbers(admission.arrive(one, fleet, 0.0)) for one in slow[1:]]
        assert sent[:2] == [[], []]
        assert [len(one) for one in sent if one] == [1]

    def test_a_batch_tries_no_slots(self):
        """What it would try with stands before whoever comes next; beside an interactive request that one goes."""
        admission, fleet = make(), replace(WARM, proven={"a": 1})
        night = [replace(ticket(number, user="night"), batch=True) for number in range(4)]
        assert [numbers(admission.arrive(one, fleet, 0.0)) for one in night] == [[0], [], [], []]
        assert numbers(admission.arrive(ticket(4), fleet, 0.0)) == [4]

    def test_a_batch_does_not_keep_its_model_from_making_room(self):
        """However many of it wait: the load that somebody waits for comes next, and nothing of the batch before it."""
        admission = make({"a": {"max_memory_gb": 48.0, "num_parallel": 1}}, max_wait=1e6)
        for number in range(50):
            admission.arrive(replace(ticket(number, user="night"), batch=True), WARM, 0.0)
        assert numbers(admission.arrive(ticket(50, LARGE, arrived=1.0), WARM, 1.0)) == []
        (sent,) = admission.finished(0, WARM, 2.0)
        assert (sent.ticket.number, sent.unload) == (50, (SMALL,))

    @pytest.mark.parametrize("late", [False, True])
    def test_a_batch_takes_no_second_slot_of_its_load_before_those_who_wait_behind_it(self, late):
        """A report shows its model before its answer begins; whoever needs the room can claim it only then."""
        admission = make({"a": {"max_memory_gb": 48.0, "num_parallel": 2}}, max_wait=1e6)
        cold, later = make_fleet(make_facts("a", DISK)), 0.3 if late else 0.0
        night = [replace(ticket(number, user="night"), batch=True) for number in range(2)]
        person = ticket(9, LARGE, arrived=0.1)
        assert numbers(admission.arrive(night[0], cold, 0.0)) == [0]
        came = [(0.1, person, cold), (later, replace(night[1], arrived=later), WARM if late else cold)]
        came.sort(key=lambda one: one[0])
        assert [numbers(admission.arrive(one, fleet, at)) for at, one, fleet in came] == [[], []]
        assert numbers(admission.changed(WARM, 0.4)) == []
        assert numbers(admission.first_byte(0, WARM, 20.0)) == []
        assert numbers(admission.finished(0, WARM, 30.0)) == [9]

    def test_a_batch_takes_the_second_slot_of_its_load_where_those_who_wait_cannot_go(self):
        """They wait for another server."""
        servers = {"a": {"max_memory_gb": 48.0, "num_parallel": 2}, "b": {"max_memory_gb": 48.0, "max_concurrent": 1}}
        admission = make(servers, max_wait=1e6)
        large = make_facts("b", (installed(LARGE, 45 * GIB),), (loaded(LARGE, 45 * GIB),))
        cold = make_fleet(make_facts("a", DISK[:1]), large)
        night = [replace(ticket(number, user="night"), batch=True) for number in range(2)]
        assert [numbers(admission.arrive(one, cold, 0.0)) for one in night] == [[0], []]
        assert [numbers(admission.arrive(ticket(number, LARGE), cold, 0.1)) for number in (8, 9)] == [[8], []]
        warm = make_fleet(make_facts("a", DISK[:1], (loaded(SMALL, 5 * GIB),)), large)
        assert numbers(admission.changed(warm, 0.2)) == [1]

    def test_a_proven_slot_is_used_at_once(self):
        """By one after the other."""
        admission, fleet = make(), replace(WARM, proven={"a": 2})
        assert [numbers(admission.arrive(ticket(number), fleet, 0.0)) for number in (0, 1, 2)] == [[0], [1], []]

    @pytest.mark.parametrize("slots", [{"num_parallel": 1}, {"num_parallel": 2}])
    def test_told_slots_are_not_tried_beyond(self, slots):
        """Whatever is proven."""
        admission, fleet = make({"a": slots}), replace(WARM, proven={"a": 8})
        found = [one for number in range(6) for one in numbers(admission.arrive(ticket(number), fleet, 0.0))]
        assert len(found) == slots["num_parallel"]

    @pytest.mark.parametrize(("ahead", "server"), [(100, None), (100_000, "b")])
    def test_a_slot_that_is_taken_for_long_is_worth_a_second_load(self, ahead, server):
        """What runs where the model is loaded has to end before anybody else begins there."""
        admission = make({name: {"max_memory_gb": 48.0} for name in "ab"})
        fleet = make_fleet(make_facts("a", DISK, (loaded(SMALL, 5 * GIB),)), make_facts("b", DISK))
        admission.arrive(ticket(0, prompt_tokens=ahead), fleet, 0.0)
        outcomes = admission.arrive(ticket(1, prompt_tokens=500), fleet, 0.0)
        assert [one.server for one in outcomes] == ([server] if server else [])

    def test_an_idle_server_loads_at_once(self):
        """No reason to wait."""
        empty = make_fleet(make_facts("a", DISK))
        (sent,) = make().arrive(ticket(0), empty, 0.0)
        assert sent.server == "a"
        assert "load" in sent.reason

    def test_a_burst_does_not_load_everywhere(self):
        """Three requests for one small model: two loads at most, and who is left waits for one of them."""
        servers = {name: {"max_memory_gb": 48.0} for name in "abcd"}
        admission = make(servers)
        fleet = make_fleet(*(make_facts(name, DISK) for name in servers))
        sent = [numbers(admission.arrive(ticket(number), fleet, 0.0)) for number in range(3)]
        assert sent[0] == [0]
        assert sum(map(len, sent)) <= 2

    def test_a_long_queue_is_worth_a_second_load(self):
        """Residency is not occupancy: forty waiting justify another server."""
        servers = {name: {"max_memory_gb": 48.0} for name in "ab"}
        admission = make(servers, max_waiting=100)
        fleet = make_fleet(make_facts("a", DISK, (loaded(SMALL, 5 * GIB),)), make_facts("b", DISK))
        outcomes = [one for number in range(40) for one in admission.arrive(ticket(number), fleet, 0.0)]
        assert {one.server for one in outcomes} == {"a", "b"}

    def test_the_least_missed_makes_room(self):
        """The victim is unloaded by name: Ollama left alone might pick the popular one."""
        held = (loaded(SMALL, 20 * GIB), loaded("other", 20 * GIB))
        fleet = make_fleet(make_facts("a", (*DISK, installed("third", 15 * GIB)), held))
        admission = make(max_waiting=100)
        for number in range(20):
            admission.arrive(ticket(number), fleet, number / 10)
            admission.finished(number, fleet, number / 10)
        outcomes = admission.arrive(ticket(100, "third", arrived=3.0), fleet, 3.0)
        assert [(one.ticket.number, one.unload) for one in outcomes] == [(100, ("other:latest",))]

    def test_a_model_partly_in_main_memory_takes_its_share_of_the_gpu(self):
        """One victim is enough: the main memory of the model that stays is not what limits."""
        partly = replace(loaded(SMALL, 40 * GIB), size_vram=24 * GIB)
        fleet = make_fleet(make_facts("a", (*DISK, installed("third", 15 * GIB)), (partly, loaded("other", 20 * GIB))))
        admission = make(max_waiting=100)
        for number in range(20):
            admission.arrive(ticket(number), fleet, number / 10)
            admission.finished(number, fleet, number / 10)
        outcomes = admission.arrive(ticket(100, "third", arrived=3.0), fleet, 3.0)
        assert [(one.ticket.number, one.unload) for one in outcomes] == [(100, ("other:latest",))]

    def test_a_busy_victim_is_waited_for_and_gets_nothing_new(self):
        """A promise: the large model loads as soon as the small one is idle, though more small ones wait."""
        admission = make(max_wait=10_000.0)
        admission.arrive(ticket(0), WARM, 0.0)
        assert admission.arrive(ticket(1, LARGE), WARM, 0.0) == ()
        admission.tick(WARM, 200.0)
        admission.arrive(ticket(2, arrived=200.0), WARM, 200.0)
        outcomes = admission.finished(0, WARM, 200.5)
        assert [(one.ticket.number, one.unload) for one in outcomes] == [(1, (SMALL,))]

    def test_the_turn_whose_conversation_a_slot_holds_goes_first(self):
        """What is held by then, not by its arrival, is not read again: its work is the shorter one."""
        prefixes, admission = Prefixes(), make()
        fleet = make_fleet(make_facts("a", DISK, (loaded(SMALL, 5 * GIB),)), prefixes=prefixes)
        admission.arrive(ticket(0, conversation=7), fleet, 0.0)
        for number, conversation in ((1, 5), (2, 7), (3, None)):
            admission.arrive(ticket(number, conversation=conversation, prompt_tokens=9000 + number), fleet, 0.0)
        prefixes.answered(7, "a", SMALL, tokens=8000, slots=1)
        (sent,) = admission.finished(0, fleet, 5.0)
        assert sent.ticket.number == 2
        assert "holds 8,000 tokens of the conversation cached" in sent.reason
        prefixes.answered(9, "a", SMALL, tokens=8000, slots=1)
        assert numbers(admission.finished(2, fleet, 6.0)) == [1]

    def test_a_load_lasts_until_it_is_seen_to_be_over(self):
        """It may wait for room at the server: others sent after it would only wait behind it."""
        empty, admission = make_fleet(make_facts("a", DISK)), make()
        assert numbers(admission.arrive(ticket(0), empty, 0.0)) == [0]
        assert admission.arrive(ticket(1, "other"), empty, 0.0) == ()
        assert admission.tick(empty, 200.0) == ()
        shown = make_fleet(make_facts("a", DISK, (loaded(SMALL, 5 * GIB),), loaded_at=200.5))
        assert numbers(admission.changed(shown, 200.5)) == [1]

    def test_an_answer_shows_that_a_load_is_over(self):
        """Before any report does."""
        empty, admission = make_fleet(make_facts("a", DISK)), make()
        admission.arrive(ticket(0), empty, 0.0)
        admission.arrive(ticket(1, "other"), empty, 0.0)
        assert numbers(admission.first_byte(0, empty, 1.0)) == [1]

    def test_a_model_that_may_have_to_go_gets_nothing_new(self):
        """Where room is a guess the server unloads what is idle first; a request for that would become a load."""
        admission = make({"a": {}})
        admission.arrive(ticket(0), WARM, 0.0)
        admission.arrive(ticket(1, LARGE), WARM, 0.0)
        assert numbers(admission.tick(WARM, 50.0)) == [1]
        assert admission.arrive(ticket(2, arrived=50.0), WARM, 50.0) == ()
        assert admission.finished(0, WARM, 51.0) == ()
        both = make_facts("a", DISK, (loaded(SMALL, 5 * GIB), loaded(LARGE, 45 * GIB)), loaded_at=100.0)
        assert numbers(admission.changed(make_fleet(both), 100.0)) == [2]

    def test_a_model_that_may_be_gone_gets_nothing_before_the_server_was_asked(self):
        """Another came a moment ago, perhaps in its place; a server that does not tell in time is believed."""
        came = loaded("other", 0)
        facts = make_facts("a", DISK, (loaded(SMALL, 5 * GIB), came), noted={came.name: 10.0})
        admission, fleet = make({"a": {}}), make_fleet(facts)
        assert admission.arrive(ticket(0, arrived=10.1), fleet, 10.1) == ()
        assert numbers(admission.arrive(ticket(1, "other", arrived=10.1), fleet, 10.1)) == [1]
        both = make_fleet(make_facts("a", DISK, (loaded(SMALL, 5 * GIB), loaded("other", 5 * GIB))))
        assert numbers(admission.changed(both, 10.2)) == [0]
        assert numbers(make({"a": {}}).arrive(ticket(0, arrived=12.1), fleet, 12.1)) == [0]
        assert numbers(make().arrive(ticket(0, arrived=10.1), fleet, 10.1)) == [0], "that both fit is known"

    def test_a_model_beside_which_another_surely_fits_goes_on_during_its_load(self):
        """Until the load takes longer than it should: then it waits for something."""
        admission = make(max_waiting=100)
        admission.arrive(ticket(0), WARM, 0.0)
        assert numbers(admission.arrive(ticket(1, "other"), WARM, 0.0)) == [1]
        admission.arrive(ticket(2), WARM, 0.0)
        admission.arrive(ticket(3), WARM, 0.0)
        assert numbers(admission.finished(0, WARM, 1.0)) == [2]
        assert admission.finished(2, WARM, 300.0) == ()

    def test_what_must_go_is_named_though_how_much_fits_is_a_guess(self):
        """With as much memory as there may be there would be no room; beyond that the server chooses."""
        seen = Capacity().observe({"x": HeldModel(45 * GIB, 45 * GIB)}, {"y": HeldModel(20 * GIB, 20 * GIB)}, 0.0)
        held = (loaded("other", 30 * GIB), loaded("small", 5 * GIB))
        fleet = make_fleet(make_facts("a", DISK, held, capacity=seen))
        assert not seen.room(None).measured
        (sent,) = make({"a": {}}).arrive(ticket(0, LARGE), fleet, 0.0)
        assert sent.unload == ("other:latest",)

    def test_an_idle_server_that_is_the_only_one_loads_at_once(self):
        """However popular what has to go is: its reload comes in any case, later no cheaper."""
        admission = make(max_waiting=100)
        for number in range(40):
            admission.arrive(ticket(number), WARM, number / 10)
            admission.finished(number, WARM, number / 10)
        (sent,) = admission.arrive(ticket(100, LARGE, arrived=4.0), WARM, 4.0)
        assert (sent.ticket.number, sent.unload) == (100, (SMALL,))

    def test_an_idle_server_loads_at_once_what_nobody_serves(self):
        """Also where another server, which is busy, could load it later for less."""
        small, large = loaded(SMALL, 5 * GIB), loaded("other", 40 * GIB)
        fleet = make_fleet(make_facts("a", DISK, (small,)), make_facts("b", DISK, (large, small)))
        admission = make({name: {"max_memory_gb": 48.0} for name in "ab"}, max_waiting=100)
        for number in range(40):
            admission.arrive(ticket(number, arrived=number / 10), fleet, number / 10)
            admission.finished(number, fleet, number / 10)
        (busy,) = admission.arrive(ticket(40, arrived=4.0), fleet, 4.0)
        (sent,) = admission.arrive(ticket(100, LARGE, arrived=4.0), fleet, 4.0)
        assert (sent.ticket.number, sent.server) == (100, {"a": "b", "b": "a"}[busy.server])

    def test_of_two_models_that_take_turns_each_serves_all_that_wait(self):
        """The way back is part of the price of a change."""
        admission = make(max_waiting=100)
        for number in range(4):
            admission.arrive(ticket(number), WARM, 0.0)
        admission.arrive(ticket(10, LARGE, arrived=1.0), WARM, 1.0)
        sent = [numbers(admission.finished(number, WARM, 5.0 + number)) for number in range(4)]
        assert sent == [[1], [2], [3], [10]]

    def test_nobody_starves(self):
        """A large model that waits beside a stream of small requests gets its turn in minutes."""
        admission, now, number, running = make(max_waiting=1000, max_wait=10_000.0), 0.0, 2, 1
        admission.arrive(ticket(1), WARM, now)
        assert admission.arrive(ticket(0, LARGE), WARM, now) == ()
        sent = []
        while 0 not in sent and now < 600.0:
            now += 0.5
            outcomes = list(admission.arrive(ticket(number, arrived=now), WARM, now))
            number += 1
            outcomes += admission.finished(running, WARM, now)
            outcomes += admission.tick(WARM, now)
            sent = numbers(outcomes)
            running = sent[-1] if sent else running
        assert 0 in sent

    def test_another_context_is_a_load(self):
        """And the model's own memory makes the room."""
        held = (loaded(SMALL, 5 * GIB, context_length=4096),)
        fleet = make_fleet(make_facts("a", DISK, held))
        (sent,) = make().arrive(ticket(0, num_ctx=32_768), fleet, 0.0)
        assert sent.unload == (SMALL,)

    def test_short_work_first(self):
        """Among requests of one user that arrived together."""
        admission = make()
        admission.arrive(ticket(0), WARM, 0.0)
        admission.arrive(ticket(1, prompt_tokens=25_000), WARM, 0.0)
        admission.arrive(ticket(2, prompt_tokens=250), WARM, 0.0)
        assert numbers(admission.finished(0, WARM, 1.0)) == [2]

    def test_age_beats_shortness(self):
        """Long work that has waited goes before short work that has not."""
        admission = make()
        admission.arrive(ticket(0), WARM, 0.0)
        admission.arrive(ticket(1, prompt_tokens=25_000), WARM, 0.0)
        admission.arrive(ticket(2, prompt_tokens=250, arrived=900.0), WARM, 900.0)
        assert numbers(admission.finished(0, WARM, 900.0)) == [1]

    def test_a_hog_does_not_crowd_out_a_victim(self):
        """One request of a user beside fifty of another goes first."""
        admission = make(max_waiting=100)
        admission.arrive(ticket(0, user="hog"), WARM, 0.0)
        for number in range(1, 51):
            admission.arrive(ticket(number, user="hog", prompt_tokens=250), WARM, 0.0)
        admission.arrive(ticket(99, user="victim", prompt_tokens=1_000), WARM, 0.0)
        assert numbers(admission.finished(0, WARM, 1.0)) == [99]

    def test_a_server_that_is_out_gets_nothing(self):
        """Suspended, draining: the other one, however cold."""
        servers = {name: {"max_memory_gb": 48.0} for name in "ab"}
        fleet = make_fleet(make_facts("a", DISK, (loaded(SMALL, 5 * GIB),)), make_facts("b", DISK))
        for out in (replace(fleet, suspended={"a": 10.0}), replace(fleet, draining=frozenset({"a"}))):
            (sent,) = make(servers).arrive(ticket(0), out, 0.0)
            assert sent.server == "b"

    def test_nothing_fits_and_the_operator_wants_the_first(self):
        """`first_enabled` is sent at once: nothing to wait for."""
        config = make_config(
            {"a": {"max_memory_gb": 1.0}}, routing_strategy="fastest", when_nothing_fits="first_enabled"
        )
        (sent,) = Admission(config).arrive(ticket(0), WARM, 0.0)
        assert sent.server == "a"

    def test_an_assignment_is_followed_at_once(self):
        """Also where others wait for slots."""
        config = make_config(
            {"a": {}}, routing_strategy="fastest", model_config={"explicit_assignments": {"other": "a"}}
        )
        admission = Admission(config)
        assert numbers(admission.arrive(ticket(0), WARM, 0.0)) == [0]
        assert numbers(admission.arrive(ticket(1), WARM, 0.0)) == []
        assert numbers(admission.arrive(ticket(2, "other"), WARM, 0.0)) == [2]
        assert numbers(admission.arrive(ticket(3, "other"), WARM, 0.0)) == [3]

    def test_demand_is_known(self):
        """For eviction prices."""
        admission = make()
        for number in range(12):
            admission.arrive(ticket(number), WARM, 0.0)
        assert admission.traffic(WARM, 0.0).demand[SMALL] == pytest.approx(0.1)
        assert admission.traffic(WARM, 120.0).demand[SMALL] < 0.05

    def test_dispatch_among_a_thousand_waiting_on_twenty_servers(self):
        """A freed slot finds its next request in about a millisecond; the bound leaves room for a noisy machine."""
        models = tuple(installed(f"m{number}:7b", 5 * GIB) for number in range(40))
        servers = {f"s{number}": {"max_memory_gb": 24.0} for number in range(20)}
        held = {name: models[at * 2 : at * 2 + 2] for at, name in enumerate(servers)}
        fleet = make_fleet(*(make_facts(n, models, tuple(loaded(m.name, 5 * GIB) for m in held[n])) for n in servers))
        admission = make(servers, max_waiting=2000)
        for number in range(1040):
            admission.arrive(ticket(number, models[number % 40].name, user=f"u{number % 7}"), fleet, 0.0)
        times = []
        for number in range(30):
            start = time.perf_counter()
            admission.finished(number, fleet, 0.0)
            times.append(time.perf_counter() - start)
        assert sorted(times)[15] < 0.02


def overloaded(strategy, factor, *, seconds=120.0, took=1.0, slots=8):
    """Waits of those accepted, and refusals, at so many times what two servers can do; in virtual time."""
    servers = {name: {"max_concurrent": slots // 2, "num_parallel": slots // 2} for name in "ab"}
    admission = make(servers, strategy)
    fleet = make_fleet(*(make_facts(name, DISK, (loaded(SMALL, 5 * GIB),)) for name in servers))
    every, ends, waits, refusals = took / slots / factor, [], [], []

    def note(outcomes, now):
        for outcome in outcomes:
            if isinstance(outcome, Dispatch):
                waits.append(now - outcome.ticket.arrived)
                heapq.heappush(ends, (now + took, outcome.ticket.number))
            else:
                refusals.append((now - outcome.ticket.arrived, outcome.error))

    for number in range(int(seconds / every)):
        now = number * every
        while ends and ends[0][0] <= now:
            at, done = heapq.heappop(ends)
            note(admission.first_byte(done, fleet, at), at)
            note(admission.finished(done, fleet, at), at)
        note(admission.tick(fleet, now), now)
        note(admission.arrive(ticket(number, arrived=now), fleet, now), now)
    return sorted(waits), refusals


@pytest.mark.parametrize("strategy", ["priority_with_memory", "least_loaded", "fastest"])
def test_ten_times_too_much_is_refused_at_once_and_delays_nobody_more(strategy):
    """A short line: what is accepted waits at ten times the load as long as at twice; the rest gets Retry-After."""
    twice, _ = overloaded(strategy, 2)
    tenfold, refusals = overloaded(strategy, 10)
    assert tenfold[len(tenfold) * 99 // 100] <= 1.2 * twice[len(twice) * 99 // 100]
    assert len(refusals) > 0.8 * 120 * 8 * 10
    assert sorted(wait for wait, _ in refusals)[len(refusals) * 99 // 100] < 0.1
    assert all(isinstance(error, Overloaded) and 1.0 <= error.retry_after <= 30.0 for _, error in refusals)
