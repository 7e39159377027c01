"""Since when a server is in its state, as a process saw it begin."""

from __future__ import annotations

from functools import partial

from ollama_router_core.fleet.notices import ServerDown, ServerReturned, ServerSuspended, ServerUp
from ollama_router_server.fleet.state_times import StateTimes


def test_each_state_has_its_own_beginning() -> None:
    """A drain outlasts that its server is down; one that is ordered again goes on; who is found up has no time."""
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
        {},
        {"draining": 0},
        {"draining": 0, "down": 1},
        {"draining": 0, "down": 1},
        {"draining": 0, "up": 2},
        {"up": 3},
        {"suspended": 4},
        {"up": 5},
    ]
    assert times.since("b", "up") is None


def test_who_is_gone_is_forgotten() -> None:
    """A server of the same name that comes later begins anew."""
    times = StateTimes(lambda: 1.0)
    for server in ("stays", "goes"):
        times.notice(ServerDown(server, "gone"))
    times.reconfigure({"stays"})
    assert [times.since(server, "down") for server in ("stays", "goes")] == [1.0, None]
