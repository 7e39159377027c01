"""Expected seconds, term by term, with speeds that are known exactly."""

from __future__ import annotations

import pytest

from ollama_router_core.fleet.snapshot import ModelSpeed
from ollama_router_core.routing.candidates import kind_of, make_candidate
from ollama_router_core.routing.expected_time import ExpectedTime, expected_time
from support.fleets import GIB, installed, loaded, make_config, make_facts, make_fleet, make_request

MODEL = "llama3.1:8b"
SPEED = ModelSpeed(load_seconds=20.0, prefill_rate=100.0, decode_rate=10.0, answer_tokens=50.0)
REQUEST = make_request(MODEL, prompt_tokens=200)  # 200 tokens: 2 s to read, 5 s to answer


class KnownSpeeds:
    """The same speed for every model on every server."""

    def expect(self, server, model, weight) -> ModelSpeed:
        """Always the same."""
        return SPEED

    def version(self, server) -> object:
        """Nothing is ever learned."""
        return SPEED


def terms(*loaded_models, on_disk=(), now=100.0, loading=None, **fleet) -> ExpectedTime:
    """The expected time on one server of 24 GiB."""
    disk = (installed(MODEL, 5 * GIB), *on_disk)
    facts = make_facts("a", disk, loaded_models, loading=loading or {})
    snapshot = make_fleet(facts, speeds=KnownSpeeds(), **fleet)
    candidate = make_candidate("a", kind_of(REQUEST), snapshot, make_config({"a": {"max_memory_gb": 24.0}}))
    return expected_time(candidate, REQUEST, snapshot, now=now)


def test_a_warm_idle_server_reads_and_answers():
    """Nothing else."""
    assert terms(loaded(MODEL, 6 * GIB)) == ExpectedTime(wait=0.0, load=0.0, prefill=2.0, decode=5.0)


def test_a_load_that_has_begun_counts_with_what_is_left_of_it():
    """Never less than nothing."""
    assert terms(loading={MODEL: 85.0}).load == pytest.approx(5.0)
    assert terms(loading={MODEL: 10.0}).load == 0.0


def test_loads_are_serial():
    """A cold model waits for what is left of the load before it: 3 GiB take about 2.6 s."""
    other = installed("other", 3 * GIB)
    found = terms(on_disk=(other,), loading={"other:latest": 99.0})
    assert found.load == 20.0
    assert found.wait == pytest.approx(0.5 + 3 * GIB / 1.5e9 - 1.0)


def test_an_eviction_costs_others_their_reload_as_likely_as_they_ask():
    """A busy model is waited for besides."""
    big = loaded("other", 22 * GIB)
    reload = 0.5 + 22 * GIB / 1.5e9
    assert terms(big).harm == 0.0
    assert terms(big, demand={"other:latest": 0.005}).harm == pytest.approx(0.3 * reload)
    assert terms(big, demand={"other:latest": 10.0}).harm == pytest.approx(reload)
    busy = terms(big, in_flight={"a": 1})
    assert busy.wait == pytest.approx(busy.prefill + busy.decode)


def test_requests_beyond_a_models_slots_wait_for_whole_turns():
    """With one slot and two before it, a request waits for both."""
    found = terms(loaded(MODEL, 6 * GIB), in_flight={"a": 2}, active={"a": {MODEL: 2}})
    assert found.wait == pytest.approx(2 * (found.prefill + found.decode))
