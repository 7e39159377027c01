"""Each strategy alone: what it prefers, and how it says so."""

from __future__ import annotations

import pytest

from ollama_router_core.fleet.prefixes import HeldPrefix
from ollama_router_core.fleet.speeds import Sample, SpeedBook, model_weight
from ollama_router_core.routing.expected_time import expected_time
from ollama_router_core.routing.selector import decide
from ollama_router_core.routing.strategies import priority_with_memory
from support.fleets import GIB, installed, loaded, make_config, make_facts, make_fleet, make_request

HAS_8B = (installed("llama3.1:8b"),)


def winner(servers, *facts, request=None, **more):
    """The chosen server's name."""
    fleet = {key: more.pop(key) for key in ("in_flight", "active", "suspended") if key in more}
    tiebreak = more.pop("tiebreak", 0)
    return decide(
        request or make_request(), make_fleet(*facts, **fleet), make_config(servers, **more), now=0.0, tiebreak=tiebreak
    ).server


TWO = {"a": {"priority": 1}, "b": {"priority": 1}}


class TestPriorityWithMemory:
    """The default strategy: priority, then warm, then room, then load."""

    def test_smallest_priority_number_wins(self):
        """Also against a warm server of a lower rank."""
        servers = {"a": {"priority": 2}, "b": {"priority": 1}}
        warm = make_facts("a", HAS_8B, (loaded("llama3.1:8b"),))
        assert winner(servers, warm, make_facts("b", HAS_8B)) == "b"

    @pytest.mark.parametrize("tiebreak", range(4))
    def test_warm_wins_inside_a_priority(self, tiebreak):
        """Whatever the tie-break says."""
        warm = make_facts("b", HAS_8B, (loaded("llama3.1:8b"),))
        assert winner(TWO, make_facts("a", HAS_8B), warm, tiebreak=tiebreak) == "b"

    @pytest.mark.parametrize("tiebreak", range(4))
    def test_loading_counts_as_warm(self, tiebreak):
        """A burst must not load a model on every server."""
        loading = make_facts("b", HAS_8B, loading={"llama3.1:8b": 0.0})
        assert winner(TWO, make_facts("a", HAS_8B), loading, tiebreak=tiebreak) == "b"

    @pytest.mark.parametrize("tiebreak", range(4))
    def test_another_context_is_not_warm(self, tiebreak):
        """A different num_ctx reloads the model, so the server with room and fewer requests is as good."""
        other = make_facts("b", HAS_8B, (loaded("llama3.1:8b", context_length=4096),))
        request = make_request(num_ctx=32_768)
        assert (
            winner(TWO, make_facts("a", HAS_8B), other, request=request, in_flight={"b": 1}, tiebreak=tiebreak) == "a"
        )

    @pytest.mark.parametrize("tiebreak", range(4))
    def test_room_wins_over_eviction(self, tiebreak):
        """Loading beside others is better than throwing one out."""
        servers = {name: {"priority": 1, "max_memory_gb": 8.0} for name in "ab"}
        crowded = make_facts("a", HAS_8B, (loaded("other", 6 * GIB),))
        assert winner(servers, crowded, make_facts("b", HAS_8B), tiebreak=tiebreak) == "b"

    @pytest.mark.parametrize("tiebreak", range(4))
    def test_fewest_in_flight_wins_among_equals(self, tiebreak):
        """Load decides when warmth does not."""
        facts = (make_facts("a", HAS_8B), make_facts("b", HAS_8B))
        assert winner(TWO, *facts, in_flight={"a": 3, "b": 1}, tiebreak=tiebreak) == "b"

    def test_tiebreak_spreads_equals(self):
        """Different tie-breaks lead to both of two equal servers."""
        facts = (make_facts("a", HAS_8B), make_facts("b", HAS_8B))
        assert {winner(TWO, *facts, tiebreak=number) for number in range(16)} == {"a", "b"}

    def test_a_busy_server_gives_way_once_the_wait_is_worth_a_load(self):
        """Behind a short answer or two the preferred server is sooner, behind many the next."""
        servers = {"a": {"priority": 1}, "b": {"priority": 2}}
        facts = (make_facts("a", HAS_8B, (loaded("llama3.1:8b"),)), make_facts("b", HAS_8B))
        request = make_request(prompt_tokens=10, max_tokens=10)

        def chosen(running):
            at_work = {"in_flight": {"a": running}, "active": {"a": {"llama3.1:8b": running}}}
            return winner(servers, *facts, request=request, **at_work)

        assert [chosen(running) for running in (0, 1, 2)] == ["a", "a", "a"]
        assert chosen(20) == "b"

    def test_a_load_at_a_server_at_work_counts(self):
        """An idle server of a lower rank loads the model without disturbing anybody."""
        servers = {"a": {"priority": 1}, "b": {"priority": 2}}
        facts = (make_facts("a", HAS_8B), make_facts("b", HAS_8B))
        assert winner(servers, *facts) == "a"
        assert winner(servers, *facts, in_flight={"a": 1}) == "b"

    def test_where_all_are_at_work_priority_wins_among_those_that_are_as_busy(self):
        """Nothing is gained elsewhere."""
        servers = {"a": {"priority": 1}, "b": {"priority": 2}}
        facts = (make_facts("a", HAS_8B), make_facts("b", HAS_8B))
        assert winner(servers, *facts, in_flight={"a": 2, "b": 1}) == "a"

    def test_says_why_the_preferred_server_was_passed_over(self):
        """In seconds, beside its priority."""
        config = make_config({"a": {"priority": 1}, "b": {"priority": 2}})
        fleet = make_fleet(make_facts("a", HAS_8B), make_facts("b", HAS_8B), in_flight={"a": 1})
        passed_over = decide(make_request(), fleet, config, now=0.0).verdicts[1]
        assert passed_over.server == "a"
        assert "priority 1, busy, would start in ~" in passed_over.text

    def test_a_decision_and_its_reason_estimate_each_server_at_work_once(self, monkeypatch):
        """The reason of the chosen one is worded from the estimate that it was ranked by."""
        asked = []

        def counted(candidate, *arguments, **more):
            asked.append(candidate.name)
            return expected_time(candidate, *arguments, **more)

        monkeypatch.setattr(priority_with_memory, "expected_time", counted)
        facts = [make_facts(name, HAS_8B, (loaded("llama3.1:8b"),)) for name in "ab"]
        fleet = make_fleet(*facts, in_flight={"a": 1, "b": 1})
        assert decide(make_request(), fleet, make_config(TWO), now=0.0).reason
        assert sorted(asked) == ["a", "b"]

    def test_slow_server_only_when_nothing_else_is_left(self):
        """A probe beyond server_busy_threshold_ms puts a server behind every other, whatever its priority."""
        servers = {"a": {"priority": 1}, "b": {"priority": 9}}
        slow = make_facts("a", HAS_8B, probe_ms=1500.0)
        assert winner(servers, slow, make_facts("b", HAS_8B)) == "b"
        assert winner(servers, slow, make_facts("b", HAS_8B, up=False)) == "a"

    @pytest.mark.parametrize("strategy", ["priority_with_memory", "least_loaded", "round_robin", "fastest"])
    def test_a_server_that_never_told_its_models_comes_last(self, strategy):
        """Another program may answer there with 404 to everything: it must not take what a real server could."""
        config = make_config({"a": {"priority": 1}, "b": {"priority": 9}}, routing_strategy=strategy)
        fleet = make_fleet(make_facts("a", None), make_facts("b", HAS_8B, probe_ms=1500.0))
        decision = decide(make_request(), fleet, config, now=0.0)
        assert decision.ranking == ("b", "a")
        assert "does not report its models" in decision.verdicts[1].text


class TestLeastLoaded:
    """Fewest in flight, as a share of the slots."""

    def test_fewest_in_flight_wins_over_priority(self):
        """Load first."""
        servers = {"a": {"priority": 1}, "b": {"priority": 9}}
        facts = (make_facts("a", HAS_8B), make_facts("b", HAS_8B))
        assert winner(servers, *facts, in_flight={"a": 1}, routing_strategy="least_loaded") == "b"

    def test_share_of_slots_counts(self):
        """3 of 8 is less than 2 of 4."""
        servers = {"a": {"max_concurrent": 4}, "b": {"max_concurrent": 8}}
        facts = (make_facts("a", HAS_8B), make_facts("b", HAS_8B))
        assert winner(servers, *facts, in_flight={"a": 2, "b": 3}, routing_strategy="least_loaded") == "b"


class TestRoundRobin:
    """The caller's counter moves the start on."""

    def test_each_in_turn(self):
        """Three servers, six requests: each twice, in order."""
        servers = {name: {} for name in "abc"}
        facts = [make_facts(name, HAS_8B) for name in "abc"]
        got = [winner(servers, *facts, routing_strategy="round_robin", tiebreak=count) for count in range(6)]
        assert got == ["a", "b", "c", "a", "b", "c"]

    def test_a_server_that_is_down_loses_its_turn(self):
        """The others share what would have been its."""
        servers = {name: {} for name in "abc"}
        facts = [make_facts("a", HAS_8B), make_facts("b", HAS_8B, up=False), make_facts("c", HAS_8B)]
        got = {winner(servers, *facts, routing_strategy="round_robin", tiebreak=count) for count in range(6)}
        assert got == {"a", "c"}


class TestFastest:
    """Least expected time to finish, with the time it costs others."""

    def race(self, *facts, servers=None, request=None, **fleet):
        """The decision between servers."""
        config = make_config(
            servers or {one.name: {"max_memory_gb": 24.0} for one in facts}, routing_strategy="fastest"
        )
        return decide(request or make_request(prompt_tokens=1_000), make_fleet(*facts, **fleet), config, now=10.0)

    def test_loaded_beats_cold(self):
        """A load takes seconds."""
        warm = make_facts("b", HAS_8B, (loaded("llama3.1:8b"),))
        assert self.race(make_facts("a", HAS_8B), warm).server == "b"

    def test_nearly_loaded_beats_cold(self):
        """What is left of a load that has begun is less than a new one: a burst does not load everywhere."""
        loading = make_facts("b", HAS_8B, loading={"llama3.1:8b": 8.0})
        assert self.race(make_facts("a", HAS_8B), loading).server == "b"

    def test_another_context_is_cold(self):
        """Where the model is loaded at the wrong context the load stands in the terms."""
        other = make_facts("a", HAS_8B, (loaded("llama3.1:8b", context_length=4096),))
        decision = self.race(other, request=make_request(num_ctx=32_768))
        assert decision.verdicts[0].expected.load > 1.0

    def test_a_busy_warm_server_loses_when_the_idle_one_is_quicker(self):
        """Residency is not occupancy: with five ahead a load elsewhere pays, with one it does not."""
        warm = make_facts("a", HAS_8B, (loaded("llama3.1:8b"),))
        idle = make_facts("b", HAS_8B)
        for ahead, winner_ in ((0, "a"), (5, "b")):
            traffic = {"in_flight": {"a": ahead}, "active": {"a": {"llama3.1:8b": ahead}}}
            assert self.race(warm, idle, **traffic).server == winner_

    def test_learned_speeds_decide_between_warm_servers(self):
        """The quicker box wins once it is known to be."""
        book = SpeedBook()
        for server, rate in (("a", 20), ("b", 80)):
            sample = Sample(prompt_tokens=1000, prompt_ns=10**9, output_tokens=rate * 5, output_ns=5 * 10**9)
            for _ in range(5):
                book = book.observe(server, "llama3.1:8b", model_weight("llama3.1:8b"), sample)
        warm = [make_facts(name, HAS_8B, (loaded("llama3.1:8b"),)) for name in "ab"]
        decision = self.race(*warm, speeds=book)
        assert decision.server == "b"
        assert "(5 requests)" in decision.reason

    @pytest.mark.parametrize("tiebreak", range(4))
    def test_of_equals_nobody_is_evicted(self, tiebreak):
        """A model that nobody asked for of late costs nothing to evict, and yet stays where there is room elsewhere."""
        full = make_facts("a", HAS_8B, (loaded("idle", 22 * GIB),))
        servers = {name: {"max_memory_gb": 24.0} for name in "ab"}
        more = {"routing_strategy": "fastest", "tiebreak": tiebreak}
        assert winner(servers, full, make_facts("b", HAS_8B), **more) == "b"

    def test_an_eviction_costs_what_others_lose(self):
        """The server whose resident model is in demand is spared."""
        held = [
            make_facts("a", HAS_8B, (loaded("busy", 22 * GIB),)),
            make_facts("b", HAS_8B, (loaded("dull", 22 * GIB),)),
        ]
        for demand, winner_ in (("busy:latest", "b"), ("dull:latest", "a")):
            assert self.race(*held, demand={demand: 1.0}).server == winner_

    def test_a_held_prefix_is_a_term_not_a_rule(self):
        """It decides between equals, and does not make up for a long queue."""
        warm = [make_facts(name, HAS_8B, (loaded("llama3.1:8b"),)) for name in "ab"]
        config = make_config({name: {} for name in "ab"}, routing_strategy="fastest")
        request = make_request(prompt_tokens=10_000)
        for holder in "ab":
            prefix = HeldPrefix(holder, 9000)
            assert decide(request, make_fleet(*warm), config, now=0.0, prefix=prefix).server == holder
        queue = make_fleet(*warm, in_flight={"a": 5}, active={"a": {"llama3.1:8b": 5}})
        assert decide(request, queue, config, now=0.0, prefix=HeldPrefix("a", 9000)).server == "b"

    def test_reasons_carry_the_terms_in_seconds(self):
        """For people in the text, for programs in the JSON."""
        decision = self.race(make_facts("a", HAS_8B))
        codes = [reason.code for reason in decision.verdicts[0].reasons]
        assert codes[:2] == ["expected", "terms"]
        assert "load" in decision.reason
        expected = decision.to_json()["candidates"][0]["expected"]
        parts = ("wait", "load", "prefill", "affinity")
        assert expected["ready_seconds"] == pytest.approx(sum(expected[f"{name}_seconds"] for name in parts), abs=0.01)

    def test_the_clients_own_limit_shortens_the_answer(self):
        """A request for ten tokens is done sooner."""
        long, short = (
            self.race(make_facts("a", HAS_8B), request=make_request(max_tokens=most)).verdicts[0].expected.decode
            for most in (None, 10)
        )
        assert short < long
