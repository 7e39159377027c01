"""Logged requests served once more: what was logged, in virtual time, beside what a config would do."""

from __future__ import annotations

import pytest

from ollama_router_core.config.settings import Config
from ollama_router_core.errors import ConfigError
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.simulation.replay import replay
from ollama_router_core.simulation.what_if import Change


def row(number: int, **changes) -> RequestRecord:
    """A request that came every ten seconds and ran for four: a second to read, three to write."""
    values = {
        "id": f"r{number}", "started_at": 10.0 * number, "user": "ada", "client": None, "method": "POST",
        "path": "/api/chat", "model_asked": "m:8b", "model_served": "m:8b", "server": "one", "status": 200,
        "streamed": True, "queue_ms": 0.0, "ttft_ms": 1000.0, "total_ms": 4000.0, "prompt_tokens": 1000,
        "completion_tokens": 100,
    }  # fmt: skip
    return RequestRecord(**{**values, **changes})


def config(*names: str, **settings) -> Config:
    """One with these servers."""
    return Config.model_validate({"servers": {name: {"host": name} for name in names}, **settings})


def test_what_was_logged_takes_as_long_as_it_took():
    """Speeds are learned from the log; only the first request has to wait for a load that the log does not show."""
    found = replay([row(number) for number in range(40)], FleetSnapshot(), config("one"))
    assert (found.to_json()["measured_p50"], found.to_json()["measured_p95"]) == (4.0, 4.0)
    assert found.logged.summary.completion_p50 == pytest.approx(4.0, rel=0.05)
    assert found.logged.summary.loads == 1


def test_a_server_that_tells_more_than_passed_is_as_fast_as_it_was_seen():
    """Its clock runs ten times as fast as the router's: a simulated server's, or one that is wrong."""
    told = {"load_ms": 20_000.0, "prefill_ms": 10_000.0, "decode_ms": 30_000.0, "ttft_ms": 3000.0, "total_ms": 6000.0}
    rest = {"load_ms": 0.0, "prefill_ms": 10_000.0, "decode_ms": 30_000.0}
    found = replay([row(0, **told), *(row(number, **rest) for number in range(1, 40))], FleetSnapshot(), config("one"))
    assert found.logged.summary.completion_p50 == pytest.approx(4.0, rel=0.05)
    assert found.logged.summary.completion_p95 < 8.0


def test_waiting_in_the_line_is_part_of_what_was_logged():
    """A request goes to its server as long after its arrival as it did."""
    waited = [row(number, queue_ms=3000.0, ttft_ms=4000.0, total_ms=7000.0) for number in range(40)]
    found = replay(waited, FleetSnapshot(), config("one"))
    assert found.logged.summary.completion_p50 == pytest.approx(7.0, rel=0.05)
    assert found.others[0].summary.completion_p50 == pytest.approx(4.0, rel=0.05)


def one_of_three(number: int, slots: int, clock: float) -> RequestRecord:
    """They come at once every minute, to a server that serves all three beside each other or one after the other."""
    place, worked = number % 3, 4000.0 * slots**0.8
    waited = 0.0 if slots == 3 else place * worked
    times = {"ttft_ms": waited + worked / 4, "total_ms": waited + worked}
    told = {"load_ms": 0.0, "prefill_ms": clock * worked / 4, "decode_ms": clock * worked * 3 / 4}
    return row(number, started_at=number // 3 * 60.0 + place * 0.001, **times, **told)


@pytest.mark.parametrize("clock", [1.0, 10.0])
@pytest.mark.parametrize("told", [None, 4])
@pytest.mark.parametrize("slots", [1, 3])
def test_slots_and_what_they_cost_are_read_off_the_log(slots: int, told: int | None, clock: float) -> None:
    """Those who ran beside each other do so again, as slowly, whatever was told and however fast the server's clock."""
    servers = {"one": {"host": "one", "num_parallel": told}}
    rows = [one_of_three(number, slots, clock) for number in range(90)]
    found = replay(rows, FleetSnapshot(), Config.model_validate({"servers": servers}))
    told_p50, told_p95 = found.to_json()["measured_p50"], found.to_json()["measured_p95"]
    assert found.logged.summary.completion_p50 == pytest.approx(told_p50, rel=0.1)
    assert found.logged.summary.completion_p95 == pytest.approx(told_p95, rel=0.1)


def test_what_was_refused_for_want_of_a_server_may_be_served():
    """It counts with its wait in the log's world; its length is that of others. Other errors are left out."""
    told = [row(number) for number in range(20)]
    refused = {"server": None, "model_served": None, "status": 503, "error_code": "overloaded", "total_ms": 30_000.0}
    unknown = {**refused, "status": 404, "error_code": "model_not_found"}
    found = replay([*told, row(20, **refused), row(21, **unknown)], FleetSnapshot(), config("one"))
    assert (found.logged.summary.requests, found.logged.summary.refused) == (21, 1)
    assert found.logged.summary.ttft_max == 30.0
    assert found.others[0].summary.refused == 0


def test_a_server_that_is_gone_is_part_of_the_log_alone():
    """Its requests move; those of external hosts are none of ours."""
    rows = [row(number, server="old" if number % 2 else "one") for number in range(10)]
    hosts = {"cloud": {"host": "cloud.example"}}
    found = replay([*rows, row(10, server="cloud")], FleetSnapshot(), config("one", external_hosts=hosts))
    assert found.logged.servers == {"old": 5, "one": 5}
    assert found.others[0].servers == {"one": 10}
    assert [(one.old, one.new, one.requests) for one in found.others[0].moves] == [("old", "one", 5)]


def test_a_disabled_server_takes_nothing():
    """Its requests of before it was disabled move; nobody can have one more of it, or be without it."""
    servers = {"one": {"host": "one"}, "off": {"host": "off", "enabled": False}}
    own = Config.model_validate({"servers": servers})
    rows = [row(number, server="off" if number % 2 else "one") for number in range(4)]
    found = replay(rows, FleetSnapshot(), own, change=Change(gpus=("l40s",)))
    assert found.logged.servers == {"off": 2, "one": 2}
    assert [one.servers.get("off") for one in found.others] == [None, None]
    namesake = Config.model_validate({"servers": {**servers, "l40s": {"host": "l40s", "enabled": False}}})
    assert replay(rows, FleetSnapshot(), namesake, change=Change(gpus=("l40s",))).others[1].summary.refused == 0
    for change, problem in (Change(more=("off",)), "to duplicate"), (Change(off=("one",)), "would be left"):
        with pytest.raises(ConfigError, match=problem):
            replay(rows, FleetSnapshot(), own, change=change)


def test_pauses_in_which_models_leave_memory_are_cut():
    """A month between two requests costs a load and no month of polls."""
    found = replay([row(0), row(1, started_at=30 * 86_400.0)], FleetSnapshot(), config("one"))
    assert found.others[0].summary.loads == 2


def test_a_change_stands_beside_the_config_as_it_is():
    """Where two requests at a time are too many for one server, a second one halves the wait, and nobody loses."""
    rows = [row(number, started_at=2.5 * number) for number in range(60)]
    found = replay(rows, FleetSnapshot(), config("one"), ["fastest"], Change(more=("one",)))
    now, then = found.others
    assert then.summary.router == "fastest, one more one"
    assert then.summary.ttft_p95 < now.summary.ttft_p95 / 2
    assert found.to_json()["worlds"][2]["worse"] == []


def test_an_empty_log_has_nothing_to_tell():
    """No figure is made up."""
    told = replay([], FleetSnapshot(), config("one")).to_json()
    assert (told["requests"], told["measured_p50"], told["worlds"][0]["ttft_p50"]) == (0, None, None)


def test_every_request_of_another_world_is_placed_at_the_time_when_it_came():
    """Under the name that was logged, whatever pauses were cut; one that is refused has no server."""
    rows = [row(0), row(1, started_at=30 * 86_400.0), row(2, started_at=30 * 86_400.0 + 1.0)]
    patient = replay(rows, FleetSnapshot(), config("one")).others[0].placed
    assert {(one.model, one.server, one.began) for one in patient} == {
        ("m:8b", "one", 0.0), ("m:8b", "one", 30 * 86_400.0), ("m:8b", "one", 30 * 86_400.0 + 1.0),
    }  # fmt: skip
    assert all(one.began <= one.served < one.ended < one.began + 60.0 for one in patient)
    assert sum(one.loaded for one in patient) == 2
    hasty = config("one", queue={"max_wait": 0.5, "max_waiting_per_model": 1}, routing_strategy="fastest")
    crowd = [row(number, started_at=0.001 * number) for number in range(12)]
    refused = [one for one in replay(crowd, FleetSnapshot(), hasty).others[0].placed if one.server is None]
    assert refused
    assert all(one.served == one.ended and not one.loaded for one in refused)
