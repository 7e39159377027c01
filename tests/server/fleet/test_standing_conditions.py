"""What stands becomes an incident at once, and is over once it was quiet for a minute."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_server.fleet.standing_conditions import Standing, StandingConditions
from ollama_router_server.storage.incident_changes import Began, Ended

WELL = Standing(waiting=0, most_waiting=512, lost_rows=0, versions=frozenset({"0.32.15"}), refused={})
FULL = WELL._replace(waiting=512)
EPOCH = 1_700_000_000.0


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (FULL, "line.full"),
        (WELL._replace(lost_rows=3), "log.lost"),
        (WELL._replace(refused={"queue_full": 20}), "requests.refused"),
        (WELL._replace(versions=frozenset({"0.20.1", "0.32.15"})), "versions.differ"),
        (WELL._replace(differing={"qwen3:8b"}), "digests.differ"),
    ],
)
def test_each_condition_begins_at_once_and_ends_after_a_quiet_minute(wrong: Standing, kind: str) -> None:
    """It ended when it was last seen."""
    conditions = StandingConditions()
    assert conditions.see(WELL, EPOCH, 0.0) == []
    (began,) = conditions.see(wrong, EPOCH + 10.0, 10.0)
    assert (type(began), began.kind, began.at) == (Began, kind, EPOCH + 10.0)
    calm = WELL._replace(lost_rows=wrong.lost_rows, refused=wrong.refused)
    assert conditions.see(calm, EPOCH + 69.0, 69.0) == []
    (ended,) = conditions.see(calm, EPOCH + 70.0, 70.0)
    assert (type(ended), ended.kind, ended.at) == (Ended, kind, EPOCH + 10.0)
    assert conditions.see(calm, EPOCH + 200.0, 200.0) == []


def test_what_others_began_ends_here_after_a_quiet_minute() -> None:
    """It need not be seen here; where it is, it goes on, and does not begin a second time."""
    conditions = StandingConditions()
    conditions.go_on("requests.refused", EPOCH, 0.0)
    assert conditions.see(WELL, EPOCH + 1.0, 1.0) == []
    assert conditions.see(WELL._replace(refused={"queue_full": 20}), EPOCH + 30.0, 30.0) == []
    assert conditions.see(WELL._replace(refused={"queue_full": 20}), EPOCH + 95.0, 95.0) == [
        Ended(kind="requests.refused", at=EPOCH + 30.0)
    ]


def test_a_clock_that_is_set_back_keeps_nothing_open() -> None:
    """The quiet minute passes as it does for people, whatever the clock on the wall says."""
    conditions = StandingConditions()
    conditions.see(FULL, EPOCH, 10.0)
    (ended,) = conditions.see(WELL, EPOCH - 3_600.0, 70.0)
    assert (type(ended), ended.at) == (Ended, EPOCH)


def test_a_queue_that_is_off_is_not_full() -> None:
    """With a bound of 0 nobody waits, and everybody is refused at once."""
    assert StandingConditions().see(WELL._replace(most_waiting=0), EPOCH, 0.0) == []


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 100.0)), max_size=60))
def test_begins_and_ends_take_turns(looks: list[tuple[bool, float]]) -> None:
    """However it flickers: no end without a beginning, and of one that goes on at most a report a minute."""
    conditions, at, open_since, reported = StandingConditions(), 0.0, False, float("-inf")
    for full, passed in looks:
        at += passed
        for change in conditions.see(FULL if full else WELL, at, at):
            if isinstance(change, Began):
                assert at - reported >= 60.0 or not open_since
                open_since, reported = True, at
            else:
                assert open_since
                open_since = False
