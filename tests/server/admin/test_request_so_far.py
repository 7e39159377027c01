"""A request in progress as it is told: from the row that it would leave, or from what another worker tells."""

from __future__ import annotations

from typing import Any

import pytest

from ollama_router_server.admin.views.active import ActiveView
from ollama_router_server.admin.views.request_so_far import detail_so_far


def active(**told: Any) -> ActiveView:
    """One that waits since 4 seconds."""
    plain: dict[str, Any] = {
        "id": "1",
        "started_at": 100.0,
        "user": "alice",
        "model": "llama3.2:3b",
        "server": None,
        "method": "POST",
        "path": "/api/chat",
        "state": "waiting",
        "doing": "waiting for a slot on big",
        "seconds": 4.0,
        "attempts": 0,
        "decided_seconds": None,
        "first_byte_seconds": None,
        "queue_position": 2,
        "starts_in_seconds": (8.0, 14.0),
        "bytes_out": 0,
    }
    return ActiveView(**{**plain, **told})


def test_what_another_worker_has_is_told_without_its_decision() -> None:
    """All of its time so far was in the queue; nobody knows yet how it ends."""
    shown = detail_so_far(active(speaker="webui"), None)
    assert shown.sentence == "In progress for 4.0 s: 2nd in line, starts in 8 to 14 s, waiting for a slot on big."
    assert [(one.name, one.ms) for one in shown.phases] == [("queue", 4_000.0)]
    assert (shown.outcome, shown.status, shown.decision, shown.tries) == ("in_progress", 0, None, [])
    assert (shown.user, shown.speaker) == ("alice", "webui")


def test_what_is_being_written_has_its_parts_and_an_attempt_that_goes_on() -> None:
    """Until the first token it was read, since then it is written."""
    told = active(
        state="answering", server="big", doing="writing, 30 tokens, 15/s", attempts=1, streamed=True, tokens=30,
        decided_seconds=1.0, first_byte_seconds=2.0,
    )  # fmt: skip
    shown = detail_so_far(told, None)
    assert shown.sentence == "In progress for 4.0 s: writing, 30 tokens, 15/s, on big."
    assert [(one.name, one.ms) for one in shown.phases] == [
        ("queue", 1_000.0),
        ("prefill", 1_000.0),
        ("decode", 2_000.0),
    ]
    assert shown.tries is not None
    assert [(one.server, one.end) for one in shown.tries] == [("big", "in_progress")]


@pytest.mark.parametrize(("place", "word"), [(1, "1st"), (3, "3rd"), (4, "4th"), (12, "12th"), (22, "22nd")])
def test_a_place_is_a_word(place: int, word: str) -> None:
    """As people count; a turn that is due is at any moment."""
    told = detail_so_far(active(queue_position=place, starts_in_seconds=(0.0, 1.0)), None)
    assert f": {word} in line, starts at any moment, " in told.sentence
