"""The last hour of each server: what failed on it, also before another answered, and how fast it wrote."""

from __future__ import annotations

import json
from typing import Any

from ollama_router_server.telemetry.server_hour import ServerHour, ServerHours, servers_of
from support.records import make_record

NOW = 1_700_000_100.0
TRIED = json.dumps({"attempts": [{"server": "mid", "end": "lost"}, {"server": "old", "end": "preempted"}]})


def told(*rows: dict[str, Any], now: float = NOW) -> dict[str, ServerHour]:
    """The hour of requests that ended now, or when they say."""
    hours = ServerHours()
    for number, row in enumerate(rows):
        hours.count(make_record(number, **{"started_at": NOW, "total_ms": 0.0, **row}))
    return dict(servers_of(hours.rows(now), now))


def test_what_failed_is_counted_where_it_failed() -> None:
    """An attempt in vain at its server, the last one at the last; a client that left is no failure."""
    found = told(
        {"attempts": 3, "decision": TRIED},
        {"status": 502, "error": "gone"},
        {"status": 499},
        {"server": None, "status": 503, "attempts": 0},
    )
    assert {name: (one.requests, one.failed) for name, one in found.items()} == {"big": (3, 1), "mid": (0, 1)}


def test_a_speed_is_of_answers_whose_time_was_told() -> None:
    """Tokens by the time they took to write; where no server told, there is none."""
    known = {"completion_tokens": 30, "decode_ms": 500.0}
    found = told(known, {"completion_tokens": 900, "decode_ms": None}, {"server": "other"})
    assert (found["big"].tokens_per_second, found["other"].tokens_per_second) == (60.0, None)


def test_no_more_than_an_hour_is_told_and_kept() -> None:
    """What ended before is forgotten once something ends, and not told meanwhile."""
    assert told({}, now=NOW + 3_600) == {}
    hours = ServerHours()
    for number in range(100):
        hours.count(make_record(number, started_at=NOW + number * 300, total_ms=0.0))
    assert [row[2] for row in hours.rows(NOW + 99 * 300)] == [1] * 12
