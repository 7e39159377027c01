"""Models that a server has and cannot serve: out at once or after five failures, and never everywhere."""

from __future__ import annotations

import pytest

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.fleet.model_faults import ModelFaults
from ollama_router_core.fleet.notices import ModelReturned, ModelSuspended, Notice

M, OTHER = CanonicalName("m:latest"), CanonicalName("other:latest")


def faults() -> tuple[ModelFaults, list[Notice]]:
    """None yet, and what will be noticed."""
    told: list[Notice] = []
    return ModelFaults(told.append), told


def both(model: CanonicalName) -> list[str]:
    """Two servers have every model."""
    del model
    return ["a", "b"]


def test_what_cannot_be_loaded_is_out_at_once_in_the_servers_words() -> None:
    """For ten seconds and up to a fifth more; the server's other models are not."""
    found, told = faults()
    found.failed("a", M, "damaged", 0.0, at_once=True)
    out = found.suspended(both, 1.0)
    assert {server: set(models) for server, models in out.items()} == {"a": {M}}
    assert out["a"][M].words == "damaged"
    assert 10 <= out["a"][M].until <= 12
    assert [type(notice) for notice in told] == [ModelSuspended]


def test_five_other_failures_in_a_row_put_a_model_out() -> None:
    """One answer in between ends the row."""
    found, _ = faults()
    for _ in range(4):
        found.failed("a", M, "odd", 0.0, at_once=False)
    found.succeeded("a", M)
    for _ in range(4):
        found.failed("a", M, "odd", 0.0, at_once=False)
    assert not found.suspended(both, 0.0)
    found.failed("a", M, "odd", 0.0, at_once=False)
    assert M in found.suspended(both, 0.0)["a"]


def test_a_model_is_never_out_wherever_it_is() -> None:
    """With every server out for it all are asked."""
    found, _ = faults()
    for server in "ab":
        found.failed(server, M, "damaged", 0.0, at_once=True)
    assert not found.suspended(both, 1.0)
    assert M in found.suspended(lambda _: ["a", "b", "c"], 1.0)["b"]


def test_one_request_tries_again_and_its_failure_doubles_the_time() -> None:
    """While it is under way nobody else is let through; what it finds decides."""
    found, told = faults()
    found.failed("a", M, "damaged", 0.0, at_once=True)
    assert not found.take("a", M, 9.0)
    assert found.take("a", M, 13.0)
    assert not found.take("a", M, 13.0)
    assert M in found.suspended(both, 13.0)["a"]
    found.failed("a", M, "damaged", 14.0, at_once=True)
    assert found.suspended(both, 14.0)["a"][M].until >= 34.0
    assert found.take("a", M, 39.0)
    found.abandoned("a", M)
    assert found.take("a", M, 39.0)
    found.succeeded("a", M)
    assert not found
    assert isinstance(told[-1], ModelReturned)


def test_status_pages_are_told_all_of_it() -> None:
    """By model; other servers' are not."""
    found, _ = faults()
    found.failed("a", M, "damaged", 0.0, at_once=True)
    found.failed("b", OTHER, "odd", 0.0, at_once=False)
    assert found.to_json("b", 1.0) == {
        OTHER: {"error": "odd", "failures_in_a_row": 1, "ejections": 0, "tried_again_in_seconds": None}
    }
    assert found.to_json("a", 1.0)[M]["tried_again_in_seconds"] >= 9


def test_what_is_remembered_is_bounded_and_forgotten_with_its_server() -> None:
    """Names come from requests where a server never listed its models."""
    found, _ = faults()
    for number in range(3000):
        found.failed("a", CanonicalName(f"m{number}:latest"), "no such model", 0.0, at_once=True)
    assert len(found.to_json("a", 0.0)) == 1000
    found.failed("b", M, "damaged", 0.0, at_once=True)
    found.keep(["b"])
    assert not found.to_json("a", 0.0)
    found.forget("b")
    assert not found


def test_one_that_is_forgotten_because_there_are_too_many_is_told_as_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    """What began with a notice ends with one."""
    monkeypatch.setattr("ollama_router_core.fleet.model_faults._MOST", 1)
    found, told = faults()
    found.failed("a", M, "damaged", 0.0, at_once=True)
    found.failed("a", OTHER, "damaged", 1.0, at_once=True)
    assert told[1] == ModelReturned("a", M)
    assert [type(notice) for notice in told] == [ModelSuspended, ModelReturned, ModelSuspended]
