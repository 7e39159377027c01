"""Several progress streams as one, with one honest end."""

from __future__ import annotations

import pytest

from ollama_router_core.responses.progress import MergedProgress

LAYER = {"status": "pulling 0123", "digest": "sha256:0123", "total": 100}


def test_success_is_said_once_and_only_when_all_said_it() -> None:
    """A client that stops reading at the first `success` must not be misled."""
    merged = MergedProgress("pull", ["one", "two"])
    assert merged.line("one", {"status": "success"}) is None
    merged.end("one")
    assert merged.line("two", {"status": "success"}) is None
    merged.end("two")
    assert merged.conclusion() == {"status": "success"}


def test_an_error_names_the_server_and_what_was_done_elsewhere() -> None:
    """One failed, one did it: neither is hidden."""
    merged = MergedProgress("pull", ["one", "two"])
    merged.line("one", {"error": "no space left on device"})
    merged.end("one")
    merged.line("two", {"status": "success"})
    merged.end("two")
    assert merged.conclusion() == {"error": "pull failed on one: no space left on device (done on two)"}


@pytest.mark.parametrize("error", [None, "connection lost"])
def test_a_stream_that_just_ends_has_failed(error: str | None) -> None:
    """Without `success` nothing was achieved, whatever came before."""
    merged = MergedProgress("create", ["one"])
    merged.line("one", {"status": "writing manifest"})
    merged.end("one", error)
    assert "create failed on one" in merged.conclusion()["error"]


def test_a_layer_is_as_far_as_on_the_slowest_server() -> None:
    """The bar never runs ahead of what is true everywhere, and never goes back."""
    merged = MergedProgress("pull", ["one", "two"])
    shown = [
        merged.line("one", {**LAYER}),
        merged.line("one", {**LAYER, "completed": 60}),
        merged.line("two", {**LAYER, "completed": 20}),
        merged.line("one", {**LAYER, "completed": 100}),
        merged.line("two", {**LAYER, "completed": 50}),
    ]
    assert [line["completed"] for line in shown if line is not None] == [0, 20, 50]
    assert all(line["total"] == 100 for line in shown if line is not None)


def test_servers_that_are_done_or_failed_hold_up_no_layer() -> None:
    """Who has the layer already says nothing about it; who failed never will."""
    merged = MergedProgress("pull", ["done", "failed", "slow"])
    merged.line("done", {"status": "success"})
    merged.line("failed", {"error": "x"})
    shown = merged.line("slow", {**LAYER, "completed": 70})
    assert shown is not None
    assert shown["completed"] == 70


def test_the_same_status_is_written_once() -> None:
    """Three servers pulling one manifest are one line."""
    merged = MergedProgress("pull", ["one", "two"])
    assert merged.line("one", {"status": "pulling manifest"}) == {"status": "pulling manifest"}
    assert merged.line("two", {"status": "pulling manifest"}) is None


@pytest.mark.parametrize("line", [{}, {"status": 7}, {"digest": "d", "total": "x", "completed": None}, {"total": -1}])
def test_strange_lines_do_no_harm(line: dict[str, object]) -> None:
    """A server may say anything."""
    merged = MergedProgress("pull", ["one"])
    merged.line("one", line)
    merged.end("one")
    assert "error" in merged.conclusion()
