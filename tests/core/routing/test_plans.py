"""Plans: what facts alone decide is worked out once, and anew only where the facts changed."""

from __future__ import annotations

from dataclasses import replace

from ollama_router_core.routing.plans import Planner
from support.fleets import GIB, installed, loaded, make_config, make_facts, make_fleet, make_request

DISK = (installed("llama3.1:8b", 5 * GIB),)
CONFIG = make_config({"a": {"max_memory_gb": 48.0}, "b": {"max_memory_gb": 48.0}})
REQUEST = make_request("llama3.1:8b")


def fleet():
    """Two servers that have the model."""
    return make_fleet(make_facts("a", DISK), make_facts("b", DISK))


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
        after = before.with_server(
            replace(before.servers["a"], loaded={row.name: row for row in (loaded("llama3.1:8b", 6 * GIB),)})
        )
        planner = Planner(CONFIG)
        old, new = planner.plan(REQUEST, before).able, planner.plan(REQUEST, after).able
        assert old[1] is new[1]
        assert old[0] is not new[0]
        assert new[0].loaded is not None

    def test_other_models_on_one_disk_concern_every_server(self):
        """What one server tells of a model is used for those that did not tell yet."""
        before = make_fleet(make_facts("a", None), make_facts("b", DISK))
        after = before.with_server(replace(before.servers["b"], installed={}))
        planner = Planner(CONFIG)
        assert planner.plan(REQUEST, before).able[0].size == 5 * GIB
        assert planner.plan(REQUEST, after).able[0].size != 5 * GIB
        assert planner.plan(REQUEST, before).able[0].size == 5 * GIB
