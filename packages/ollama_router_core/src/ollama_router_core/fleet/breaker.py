"""Circuit breakers of servers and of their models, and the retry budget of the fleet.

    closed     --5 failures in a row-->         open for 10 s x 2^n (+ up to 20 %), at most 300 s
    open       --time is up-->                  half-open: exactly one request is permitted
    half-open  --it succeeds-->                 closed, with a slow start of 30 s; else open again, n + 1
    closed     --no failures-->                 n decreases by one every 60 s

Refused connections, timeouts, broken exchanges, 502, 503 and 504 are failures of a server; 429, other 4xx and client
disconnects are not. A 500 is a failure of the model there; a model that cannot be loaded is suspended immediately.
Sources: Envoy's outlier detection, linkerd's consecutive-failures breaker, HAProxy's slowstart.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping
from typing import Any, Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

__all__ = [
    "FAILURES",
    "FIRST",
    "LONGEST",
    "SLOW_START",
    "Breaker",
    "BreakerState",
    "RetryBudget",
    "counts_as_failure",
]

_FAILURES = frozenset({502, 503, 504})
Subject = TypeVar("Subject", bound=Hashable)


def counts_as_failure(status: int) -> bool:
    """Return whether a status counts as a failure of the server; transport errors always do."""
    return status in _FAILURES


FAILURES, FIRST, LONGEST, JITTER, FORGIVE, SLOW_START = 5, 10.0, 300.0, 0.2, 60.0, 30.0
"""Counts and seconds of the table above; `JITTER` is a share."""
_RETRY_SHARE, _LEAST_RETRIES = 0.2, 3


class BreakerState(Struct, frozen=True, kw_only=True):
    """The state of one subject. `until` is when it may be probed, None when closed; `probing` during the one probe.

    `ejections` set the length of the next suspension; `calm_since` is when they last decreased or the server returned.
    `refused`: the last failure was a refused connection, so that panic mode does not help.
    """

    failures: int = 0
    ejections: int = 0
    until: float | None = None
    probing: bool = False
    calm_since: float = 0.0
    back_since: float | None = None
    refused: bool = False


_CLOSED = BreakerState()


class Breaker(Generic[Subject]):
    """The breakers of all servers, or of all models on servers, for `FleetSnapshot`."""

    def __init__(self) -> None:
        self._states: dict[Subject, BreakerState] = {}

    def state(self, server: Subject) -> BreakerState:
        """Return the state of one subject."""
        return self._states.get(server, _CLOSED)

    def failed(
        self, server: Subject, now: float, *, jitter: float = 0.0, refused: bool = False, at_once: bool = False
    ) -> bool:
        """Count a failure; return whether it opens the breaker, which `at_once` forces.

        `jitter` in [0, 1] extends the suspension by up to 20 %, so that servers lost together do not return together.
        """
        state = self._calmed(self.state(server), now)
        if state.until is not None and not state.probing:
            return False  # sent before the suspension: already counted
        failures = state.failures + 1
        state = replace(state, failures=failures, refused=refused, calm_since=now)
        out = at_once or state.probing or failures >= FAILURES
        if out:
            state = self._ejected(state, now, jitter)
        self._states[server] = state
        return out

    def succeeded(self, server: Subject, now: float) -> None:
        """Count a success: it resets the failures in a row; a successful probe closes the breaker."""
        state = self.state(server)
        if state.until is not None and not state.probing:
            return
        if state.probing:
            self._states[server] = _closed(state, now)
        elif state.failures or state.ejections:
            self._states[server] = replace(self._calmed(state, now), failures=0, refused=False)

    def abandoned(self, server: Subject) -> None:
        """End a request without a result; if it was the probe, another request may probe."""
        state = self.state(server)
        if state.probing:
            self._states[server] = replace(state, probing=False)

    def opened_elsewhere(self, server: Subject, *, until: float, ejections: int, refused: bool) -> None:
        """Apply a suspension from another process, unless a probe of this one is in progress."""
        state = self.state(server)
        if not state.probing and until > (state.until or 0.0):
            self._states[server] = replace(
                state,
                failures=0,
                ejections=max(ejections, state.ejections),
                until=until,
                back_since=None,
                refused=refused,
            )

    def closed_elsewhere(self, server: Subject, now: float) -> None:
        """Apply a successful probe of another process: close the breaker, with a slow start."""
        state = self.state(server)
        if state.until is not None:
            self._states[server] = _closed(state, now)

    def admit(self, server: Subject, now: float) -> bool:
        """Admit a request before it is sent; False during a suspension or another request's probe.

        On a half-open server the request becomes the probe; `failed`, `succeeded` or `abandoned` must follow.
        """
        state = self.state(server)
        if state.until is None:
            return True
        if state.probing or now < state.until:
            return False
        self._states[server] = replace(state, probing=True)
        return True

    def probe(self, server: Subject) -> bool:
        """Start a probe by the router during a suspension; False while another probe is in progress.

        `failed`, `succeeded` or `abandoned` must follow.
        """
        state = self.state(server)
        if state.until is None or state.probing:
            return False
        self._states[server] = replace(state, probing=True)
        return True

    def suspended(self, servers: Collection[Subject], now: float) -> Mapping[Subject, float]:
        """Return suspended servers with the end of the suspension, for `FleetSnapshot.suspended`.

        A server stays suspended during its probe. If all would be suspended, those that accept connections are used
        (panic): a struggling server is better than none. `servers` are those otherwise usable.
        """
        out = {server: until for server in servers if (until := self._until(server, now)) is not None}
        if out and len(out) == len(set(servers)):
            return {server: until for server, until in out.items() if self.state(server).refused}
        return out

    def slots(self, most: Mapping[Subject, int], now: float) -> Mapping[Subject, int]:
        """Return the slots of servers in slow start: from 1, increasing to `most`."""
        found: dict[Subject, int] = {}
        for server, state in self._states.items():
            since = None if state.back_since is None else now - state.back_since
            if since is not None and since < SLOW_START and server in most:
                found[server] = max(1, math.floor(most[server] * since / SLOW_START))
        return found

    def retry_after(self, servers: Collection[Subject], now: float) -> float | None:
        """Return seconds until the first of these may be probed; None if none is suspended."""
        times = [until - now for server in servers if (until := self._until(server, now)) is not None]
        return max(0.0, min(times)) if times else None

    def to_json(self, subject: Subject, now: float) -> dict[str, Any]:
        """Return one subject's state for status pages."""
        state = self.state(subject)
        return {
            "failures_in_a_row": state.failures,
            "ejections": state.ejections,
            "tried_again_in_seconds": None if state.until is None else round(max(0.0, state.until - now), 1),
        }

    def forget(self, subjects: Collection[Subject]) -> None:
        """Delete the state of these subjects."""
        for subject in subjects:
            self._states.pop(subject, None)

    def _until(self, server: Subject, now: float) -> float | None:
        state = self.state(server)
        if state.until is None:
            return None
        if state.probing:
            return max(state.until, now + FIRST)
        return state.until if now < state.until else None

    def _ejected(self, state: BreakerState, now: float, jitter: float) -> BreakerState:
        length = min(LONGEST, FIRST * 2.0**state.ejections)
        length = min(LONGEST, length * (1.0 + JITTER * jitter))
        return replace(
            state, failures=0, ejections=state.ejections + 1, until=now + length, probing=False, back_since=None
        )

    def _calmed(self, state: BreakerState, now: float) -> BreakerState:
        if state.until is not None:
            return state
        steps = int((now - state.calm_since) // FORGIVE)
        if steps <= 0:
            return state
        ejections = max(0, state.ejections - steps)
        return replace(state, ejections=ejections, calm_since=state.calm_since + steps * FORGIVE)


def _closed(state: BreakerState, now: float) -> BreakerState:
    """Close a breaker, with a slow start."""
    return BreakerState(ejections=state.ejections, calm_since=now, back_since=now)


class RetryBudget:
    """Limits retries to 20 % of the active requests, but at least three.

    `take` before each retry, `give_back` after it.
    """

    def __init__(self) -> None:
        self._retrying = 0

    def take(self, active_requests: int) -> bool:
        """Take one retry if the budget allows; `active_requests` counts requests in flight or waiting."""
        if self._retrying >= max(_LEAST_RETRIES, math.floor(_RETRY_SHARE * active_requests)):
            return False
        self._retrying += 1
        return True

    def give_back(self) -> None:
        """Give back a finished retry."""
        self._retrying -= 1
