"""Plans: what facts alone decide is worked out once, and anew only where the facts changed."""

from __future__ import annotations

from msgspec.structs import replace

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.fleet.snapshot import FleetSnapshot, ServerFacts
from ollama_router_core.fleet.speeds import Sample, SpeedBook, model_weight
from ollama_router_core.routing.plans import Planner
from support.fleets import GIB, installed, loaded, make_config, make_facts, make_fleet, make_request

DISK = (installed("llama3.1:8b", 5 * GIB),)
CONFIG = make_config({"a": {"max_memory_gb": 48.0}, "b": {"max_memory_gb": 48.0}})
REQUEST = make_request("llama3.1:8b")


def fleet():
    """Two servers that have the model."""
    return make_fleet(make_facts("a", DISK), make_facts("b", DISK))


def with_server(snapshot: FleetSnapshot, facts: ServerFacts) -> FleetSnapshot:
    """The snapshot with other facts of one server."""
    return replace(snapshot, servers={**snapshot.servers, facts.name: facts})


class TestPlans:
    """A plan is kept while its facts are."""

    def test_the_same_facts_give_the_same_plan(self):
        """Nothing is worked out twice."""
        snapshot = fleet()
        planner = Planner(CONFIG)
        assert planner.plan(REQUEST, snapshot) is planner.plan(REQUEST, snapshot)

    def test_a_server_that_changes_leaves_the_candidates_of_others_as_they_are(self):
        """A poll of one server costs one candidate."""
        before = fleet()
        after = with_server(
            before, replace(before.servers["a"], loaded={row.name: row for row in (loaded("llama3.1:8b", 6 * GIB),)})
        )
        planner = Planner(CONFIG)
        old, new = planner.plan(REQUEST, before).able, planner.plan(REQUEST, after).able
        assert old[1] is new[1]
        assert old[0] is not new[0]
        assert new[0].loaded is not None

    def test_other_models_on_one_disk_concern_every_server(self):
        """What one server tells of a model is used for those that did not tell yet."""
        before = make_fleet(make_facts("a", None), make_facts("b", DISK))
        after = with_server(before, replace(before.servers["b"], installed={}))
        planner = Planner(CONFIG)
        assert planner.plan(REQUEST, before).able[0].size == 5 * GIB
        assert planner.plan(REQUEST, after).able[0].size != 5 * GIB
        assert planner.plan(REQUEST, before).able[0].size == 5 * GIB


class TestSpeeds:
    """What is expected of a server is kept while nothing was learned that changes it."""

    def test_answers_of_another_server_change_what_is_expected_here(self):
        """How long a model's answers are is learned from all servers, and an estimate that was kept is not stale."""
        model, book = canonical_name("llama3.1:8b"), SpeedBook()
        candidate = Planner(CONFIG).plan(REQUEST, fleet()).able[0]
        assert candidate.speed(model, book).answer_tokens == 200.0
        for _ in range(20):
            sample = Sample(output_tokens=1000, output_ns=10_000_000_000)
            book = book.observe("b", model, model_weight(model, DISK[0]), sample)
            expected = book.expect("a", model, candidate.weight)
            assert abs(candidate.speed(model, book).answer_tokens / expected.answer_tokens - 1.0) <= 0.021
        assert candidate.speed(model, book).answer_tokens > 900.0

    def test_what_does_not_matter_here_is_not_worked_out_again(self):
        """Two hundred servers are not weighed anew because one answer ended."""
        model, book = canonical_name("llama3.1:8b"), SpeedBook()
        candidate = Planner(CONFIG).plan(REQUEST, fleet()).able[0]
        known = candidate.speed(model, book)
        sample = Sample(output_tokens=200, output_ns=2_000_000_000)
        assert candidate.speed(model, book.observe("b", model, candidate.weight, sample)) is known
