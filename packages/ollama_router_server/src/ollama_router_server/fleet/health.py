"""What our own traffic says about each server's health: breakers, the retry budget, who is drained."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import structlog

from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.breaker import Breaker, RetryBudget, counts_as_failure

__all__ = ["BreakerPermit", "Health"]

_log = structlog.get_logger("health")

_USUAL_MOST = 16
"""Requests at once that a slow start leads up to where the config sets no limit."""
_OK = 200
_TOO_MANY = 429


class BreakerPermit:
    """One request's way to one server; exactly one of its ends counts, the first.

    `probe` is True when the request is the one that finds out whether a server is back.
    """

    __slots__ = ("_ended", "_health", "probe", "server")

    def __init__(self, health: Health, server: str, *, probe: bool) -> None:
        self.server = server
        self.probe = probe
        self._health = health
        self._ended = False

    def head(self, status: int) -> None:
        """The head of an answer came. It decides a probe, as its answer may take minutes; else only faults count."""
        if status == _OK and not self.probe:
            return
        if counts_as_failure(status):
            self.failed()
        elif status == _TOO_MANY:
            self.left()
        elif self.probe:
            self.done()
            self.probe, self._ended = False, False  # it may still break off

    def done(self) -> None:
        """The answer came to its end."""
        if not self._ended:
            self._ended = True
            self._health.succeeded(self.server)

    def failed(self, *, refused: bool = False) -> None:
        """The server is at fault: no connection, silence, an answer that broke off."""
        if not self._ended:
            self._ended = True
            self._health.failed(self.server, refused=refused)

    def left(self) -> None:
        """The client went, or the request never got as far as the server: this says nothing about the server."""
        if not self._ended:
            self._ended = True
            if self.probe:
                self._health.abandoned(self.server)


class Health:
    """All servers' breakers. `now` gives seconds of the clock that the fleet's snapshots use."""

    def __init__(self, config: Config, now: Callable[[], float]) -> None:
        self._config = config
        self._now = now
        self._breaker = Breaker()
        self._troubled: set[str] = set()
        self._up: Collection[str] = tuple(name for name, server in config.servers.items() if server.enabled)
        self.retries = RetryBudget()
        self.draining = frozenset(name for name, server in config.servers.items() if server.drain)

    def reconfigure(self, config: Config) -> None:
        """Another config: what is known about servers that stay is kept; a changed `drain` holds."""
        old, new = self._config.servers, config.servers
        for name, server in new.items():
            if name not in old or old[name].drain != server.drain:
                self.drain(name, on=server.drain)
        self.draining = self.draining.intersection(new)
        self._troubled &= new.keys()
        self._config = config

    @property
    def troubled(self) -> bool:
        """Whether any server failed lately; as long as none did, nothing here has to be asked."""
        return bool(self._troubled)

    def trusts(self, server: str) -> bool:
        """Whether a server has not failed lately: requests to it need no leave."""
        return server not in self._troubled

    def passage(self, server: str) -> BreakerPermit | None:
        """Leave to send one request now; None while another one holds the probe or the server is left alone."""
        if server not in self._troubled:
            return BreakerPermit(self, server, probe=False)
        now = self._now()
        if self._breaker.admit(server, now):
            return BreakerPermit(self, server, probe=self._breaker.state(server).probing)
        if server in self._breaker.suspended(self._usable(), now):
            return None
        return BreakerPermit(self, server, probe=False)  # panic: all are out, and this one at least takes connections

    def suspended(self, up: Collection[str]) -> Mapping[str, float]:
        """For `FleetSnapshot.suspended`; `up` are the servers that answer their probes."""
        self._up = up
        return self._breaker.suspended(self._usable(), self._now())

    def slots(self, in_flight: Mapping[str, int]) -> Mapping[str, int]:
        """For `FleetSnapshot.slots`: few after a return, one more than now for a server that may be probed."""
        now = self._now()
        most = {name: self._config.servers[name].max_concurrent or _USUAL_MOST for name in self._troubled}
        slots = dict(self._breaker.slots(most, now))
        for name in tuple(self._troubled):
            state = self._breaker.state(name)
            if state.until is not None:
                slots[name] = in_flight.get(name, 0) + 1
            elif name not in slots and not state.failures:
                self._troubled.discard(name)
        return slots

    def retry_after(self) -> float | None:
        """Seconds until the first suspended server is tried again, None when none is."""
        return self._breaker.retry_after(self._troubled, self._now()) if self._troubled else None

    def to_json(self, server: str) -> dict[str, Any]:
        """One server's state for status pages."""
        state, now = self._breaker.state(server), self._now()
        left = None if state.until is None else max(0.0, state.until - now)
        return {
            "breaker": self.state_of(server),
            "failures_in_a_row": state.failures,
            "ejections": state.ejections,
            "tried_again_in_seconds": None if left is None else round(left, 1),
            "draining": server in self.draining,
        }

    def state_of(self, server: str) -> str:
        """`closed`, `open`, or `half_open`: the next request finds out."""
        until = self._breaker.state(server).until
        if until is None:
            return "closed"
        return "open" if until > self._now() else "half_open"

    def drain(self, server: str, *, on: bool) -> None:
        """Send a server nothing new, or end that."""
        self.draining = self.draining | {server} if on else self.draining - {server}

    def failed(self, server: str, *, refused: bool) -> None:
        """An exchange failed by the server's fault. External hosts have no breaker: nothing could stand in."""
        if server not in self._config.servers:
            return
        self._troubled.add(server)
        jitter = zlib.crc32(f"{server}{self._breaker.state(server).ejections}".encode()) / 2**32
        if self._breaker.failed(server, self._now(), jitter=jitter, refused=refused):
            until = self._breaker.state(server).until or 0.0
            _log.warning("server_suspended", server=server, seconds=round(until - self._now(), 1))

    def succeeded(self, server: str) -> None:
        """An exchange went well."""
        if server in self._troubled:
            was_out = self._breaker.state(server).until is not None
            self._breaker.succeeded(server, self._now())
            if was_out and self._breaker.state(server).until is None:
                _log.info("server_returned", server=server)

    def abandoned(self, server: str) -> None:
        """A probe ended without a finding."""
        self._breaker.abandoned(server)

    def _usable(self) -> Collection[str]:
        return [name for name in self._up if name not in self.draining]
