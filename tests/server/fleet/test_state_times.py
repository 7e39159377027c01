"""Since when a server is in its state, as a process saw it begin."""

from __future__ import annotations

from functools import partial

from ollama_router_core.fleet.notices import ServerDown, ServerReturned, ServerSuspended, ServerUp
from ollama_router_server.fleet.state_times import StateTimes


def test_each_state_has_its_own_beginning() -> None:
    """A drain outlasts that its server is down; one that is ordered again goes on; what nobody saw has no time."""
    moments = iter(range(8))
    times = StateTimes(lambda: next(moments))
    changes = [
        partial(times.notice, ServerUp("a", "0.1")),
        partial(times.drained, "a", on=True),
        partial(times.notice, ServerDown("a", "gone")),
        partial(times.drained, "a", on=True),
        partial(times.notice, ServerUp("a", "0.1")),
        partial(times.drained, "a", on=False),
        partial(times.notice, ServerSuspended("a", 9.0, 3.0, 1, refused=True)),
        partial(times.notice, ServerReturned("a")),
    ]
    seen = []
    for change in changes:
        change()
        known = {state: times.since("a", state) for state in ("up", "down", "draining", "suspended")}
        seen.append({state: since for state, since in known.items() if since is not None})
    assert seen == [
        {"up": 0},
        {"draining": 1},
        {"draining": 1, "down": 2},
        {"draining": 1, "down": 2},
        {"draining": 1, "up": 3},
        {"up": 4},
        {"suspended": 5},
        {"up": 6},
    ]
    assert times.since("b", "up") is None
