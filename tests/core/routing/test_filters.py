"""Each filter alone: a stable code, and a text with the numbers."""

from __future__ import annotations

from ollama_router_core.routing.decision import Decision
from ollama_router_core.routing.selector import decide
from support.fleets import GIB, installed, make_config, make_facts, make_fleet, make_request


def refusal(decision: Decision, server: str) -> tuple[str, str]:
    """The code and text of the reason against a server."""
    verdict = next(one for one in decision.verdicts if one.server == server)
    assert verdict.verdict == "refused"
    return verdict.reasons[0].code, verdict.text


def ask(facts_of_a, *, server=None, request=None, now=0.0, **fleet):
    """Decide with one server `a` and report why it was refused."""
    config = make_config({"a": server or {}})
    decision = decide(request or make_request(), make_fleet(facts_of_a, **fleet), config, now=now)
    return refusal(decision, "a")


HAS_8B = (installed("llama3.1:8b"),)


class TestFilters:
    """A filter refuses with a stable code and a text that names the numbers."""

    def test_disabled_server(self):
        """`enabled: false` takes nothing."""
        assert ask(make_facts("a", HAS_8B), server={"enabled": False})[0] == "disabled"

    def test_draining_server(self):
        """A draining server takes nothing new."""
        assert ask(make_facts("a", HAS_8B), draining=frozenset({"a"}))[0] == "draining"

    def test_missing_model(self):
        """A known list without the model refuses."""
        assert ask(make_facts("a", (installed("other"),)))[0] == "model_missing"

    def test_unknown_list_gets_the_benefit_of_the_doubt(self):
        """A server that is up and whose list is not known yet may be asked."""
        config = make_config({"a": {}})
        assert decide(make_request(), make_fleet(make_facts("a", None)), config, now=0.0).server == "a"

    def test_down_server_says_why(self):
        """The text of a down server carries the probe's error."""
        code, text = ask(make_facts("a", HAS_8B, up=False, error="connection refused"))
        assert code == "down"
        assert "connection refused" in text

    def test_server_never_probed(self):
        """Before its first probe a server takes nothing."""
        assert ask(make_facts("a", HAS_8B, up=None))[0] == "not_probed"

    def test_suspended_until_its_breaker_lets_it_back(self):
        """The refusal names the seconds that are left, and ends with them."""
        code, text = ask(make_facts("a", HAS_8B), suspended={"a": 42.0}, now=30.0)
        assert code == "suspended"
        assert "12 s" in text
        config = make_config({"a": {}})
        fleet = make_fleet(make_facts("a", HAS_8B), suspended={"a": 42.0})
        assert decide(make_request(), fleet, config, now=42.0).server == "a"

    def test_missing_capability(self):
        """A model that is known not to see is not asked to."""
        models = (installed("llama3.1:8b", capabilities=frozenset({"completion"})),)
        request = make_request(needs=frozenset({"completion", "vision"}))
        code, text = ask(make_facts("a", models), request=request)
        assert code == "incapable"
        assert "vision" in text

    def test_unknown_capabilities_do_not_refuse(self):
        """Old servers do not say what a model can do."""
        config = make_config({"a": {}})
        request = make_request(needs=frozenset({"tools"}))
        assert decide(request, make_fleet(make_facts("a", HAS_8B)), config, now=0.0).server == "a"

    def test_memory_names_need_and_limit(self):
        """The text has both numbers."""
        code, text = ask(make_facts("a", (installed("llama3.1:8b", 10 * GIB),)), server={"max_memory_gb": 8.0})
        assert code == "memory"
        assert "10.0 GiB" in text
        assert "limit 8.0 GiB" in text

    def test_exactly_the_limit_fits(self):
        """The limit itself is allowed, as in the original."""
        config = make_config({"a": {"max_memory_gb": 10.0}})
        fleet = make_fleet(make_facts("a", (installed("llama3.1:8b", 10 * GIB),)))
        assert decide(make_request(), fleet, config, now=0.0).server == "a"

    def test_full_server(self):
        """`max_concurrent` requests in flight fill a server."""
        code, text = ask(make_facts("a", HAS_8B), server={"max_concurrent": 2}, in_flight={"a": 2})
        assert code == "full"
        assert "2 of 2" in text

    def test_a_server_that_is_down_and_lacks_the_model_says_the_latter(self):
        """What will not change by itself is named first."""
        assert ask(make_facts("a", (installed("other"),), up=False))[0] == "model_missing"
