"""Passive health of servers, from the router's traffic: breakers, the retry budget, drains.

Times are in seconds of the snapshot's clock.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.breaker import Breaker, RetryBudget, counts_as_failure
from ollama_router_core.fleet.model_faults import Holders, ModelFaults
from ollama_router_core.fleet.notices import Notice, ServerReturned, ServerSuspended
from ollama_router_core.fleet.summary import Suspension

__all__ = ["USUAL_SLOTS", "BreakerPermit", "Health"]

USUAL_SLOTS = 16
"""Assumed slots of a server without a configured limit, at the end of a slow start."""
_OK = 200
_TOO_MANY = 429


class BreakerPermit:
    """The permit to send one request to one server. Only its first end counts.

    `probe`: the request tests whether a suspended server is back. `trial`: it tests whether a suspended model is.
    """

    __slots__ = ("_ended", "_health", "_served", "model", "probe", "server", "trial")

    def __init__(
        self, health: Health, server: str, *, probe: bool, model: CanonicalName | None = None, trial: bool = False
    ) -> None:
        self.server = server
        self.probe = probe
        self.model = model
        self.trial = trial
        self._health = health
        self._ended = self._served = False

    def head(self, status: int, now: float) -> None:
        """Evaluate a response head: it decides a probe, as a body may take minutes; otherwise only failures count."""
        self._served = status == _OK
        if self._served and self.model is not None:
            self._health.signs[self.server, self.model] = now
        if self._served and not (self.probe or self.trial):
            return
        if counts_as_failure(status):
            self.failed(now)
        elif status == _TOO_MANY:
            self.left()
        elif self.probe or self._served:
            self.done(now)
            self.probe, self._ended = False, False  # the body may still fail

    def spare_model(self) -> None:
        """Exclude the model: the request does not need it in memory and does not test it."""
        if self.model is not None:
            self._end_trial()
            self.model = None

    def unable(self, words: str, now: float, *, at_once: bool) -> None:
        """Count a failure of the model, with the server's error text, and a success of the server.

        With `at_once`, suspend the model immediately, as the next request would certainly fail as well.
        """
        if self.model is not None and not self._ended:
            self.trial = self._served = False
            self._health.models.failed(self.server, self.model, words, now, at_once=at_once)
        self.done(now)

    def done(self, now: float) -> None:
        """Count a complete response."""
        if not self._ended:
            self._ended = True
            self._health.succeeded(self.server, now)
            if self._served and self.model is not None:
                self._health.signs[self.server, self.model] = now
            self._end_trial()

    def failed(self, now: float, *, refused: bool = False) -> None:
        """Count a failure of the server: no connection, a timeout, a response cut off."""
        if not self._ended:
            self._ended, self._served = True, False
            self._health.failed(self.server, now, refused=refused)
            self._end_trial()

    def left(self) -> None:
        """End without a result: the client disconnected, or the request never reached the server."""
        if not self._ended:
            self._ended = True
            if self.probe:
                self._health.abandoned(self.server)
            self._end_trial()

    def _end_trial(self) -> None:
        models = self._health.models
        if self.model is None or not models:
            return
        if self._served:
            models.succeeded(self.server, self.model)
        elif self.trial:
            models.abandoned(self.server, self.model)
        self.trial = False


class Health:
    """The breakers of all servers and their models. `notify` is called when one opens or closes."""

    def __init__(self, config: Config, notify: Callable[[Notice], None]) -> None:
        self._config = config
        self._notify = notify
        self._breaker: Breaker[str] = Breaker()
        self.models = ModelFaults(notify)
        self.signs: dict[tuple[str, CanonicalName], float] = {}
        """When a successful response last began or ended, by server and model."""
        self._troubled: set[str] = set()
        self.retries = RetryBudget()
        self.draining = frozenset(name for name, server in config.servers.items() if server.drain)

    def showed_life(self, server: str, model: CanonicalName, now: float) -> None:
        """Record that a model works on a server, as the router found by itself."""
        self.signs[server, model] = now
        self.models.succeeded(server, model)

    def reconfigure(self, config: Config) -> None:
        """Apply a new config: keep the state of remaining servers and apply a changed `drain`."""
        old, new = self._config.servers, config.servers
        for name, server in new.items():
            if name not in old or old[name].drain != server.drain:
                self.drain(name, on=server.drain)
        self.draining = self.draining.intersection(new)
        self._troubled &= new.keys()
        self._breaker.forget(old.keys() - new.keys())
        self.models.keep(new.keys())
        self.signs = {key: at for key, at in self.signs.items() if key[0] in new}
        self._config = config

    @property
    def troubled(self) -> bool:
        """Whether any server or model failed recently; otherwise no breaker needs a check."""
        return bool(self._troubled or self.models)

    def permit(
        self,
        server: str,
        up: Collection[str],
        now: float,
        *,
        forced: bool = False,
        model: CanonicalName | None = None,
        holders: Holders = lambda _: (),
    ) -> BreakerPermit | None:
        """Permit one request now; None while the breaker of the server or model is open or another request probes it.

        `up` are the servers that answer their probes; `holders` returns those of them that have a model. A `forced`
        request, assigned to the server, is always permitted.
        """
        trial = False
        if model is not None and self.models:
            trial = self.models.take(server, model, now)
            if not trial and not forced and model in self.models.suspended(holders, now).get(server, ()):
                return None
        probe = self._permits(server, up, now, forced=forced)
        if probe is None:
            if trial and model is not None:
                self.models.abandoned(server, model)
            return None
        return BreakerPermit(self, server, probe=probe, model=model, trial=trial)

    def _permits(self, server: str, up: Collection[str], now: float, *, forced: bool) -> bool | None:
        """Return whether the request is the server's probe; None if it is not permitted."""
        if server not in self._troubled:
            return False
        if self._breaker.admit(server, now):
            return self._breaker.state(server).probing
        if not forced and server in self._breaker.suspended(self._usable(up), now):
            return None
        return False  # panic: all are suspended, and this one accepts connections

    def suspended(self, up: Collection[str], now: float) -> Mapping[str, float]:
        """Return `FleetSnapshot.suspended`; `up` are the servers that answer their probes."""
        return self._breaker.suspended(self._usable(up), now)

    def slots(self, in_flight: Mapping[str, int], now: float) -> Mapping[str, int]:
        """Return `FleetSnapshot.slots`: few in slow start, one more than in flight for a server to be probed."""
        most = {name: self._config.servers[name].max_concurrent or USUAL_SLOTS for name in self._troubled}
        slots = dict(self._breaker.slots(most, now))
        for name in tuple(self._troubled):
            state = self._breaker.state(name)
            if state.until is not None:
                slots[name] = in_flight.get(name, 0) + 1
            elif name not in slots and not state.failures:
                self._troubled.discard(name)
        return slots

    def fails(self, server: str) -> bool:
        """Return whether the last request to a server failed, or the server is suspended."""
        state = self._breaker.state(server)
        return server in self._troubled and (state.failures > 0 or state.until is not None)

    def retry_after(self, now: float) -> float | None:
        """Return seconds until the first suspended server may be probed, None if none is suspended."""
        return self._breaker.retry_after(self._troubled, now) if self._troubled else None

    def to_json(self, server: str, now: float) -> dict[str, Any]:
        """Return one server's state for status pages."""
        return {
            "breaker": self.state_of(server, now),
            **self._breaker.to_json(server, now),
            "draining": server in self.draining,
            "suspended_models": self.models.to_json(server, now),
        }

    def state_of(self, server: str, now: float) -> str:
        """Return `closed`, `open`, or `half_open`: the next request is the probe."""
        until = self._breaker.state(server).until
        if until is None:
            return "closed"
        return "open" if until > now else "half_open"

    def drain(self, server: str, *, on: bool) -> None:
        """Start or end a drain: a draining server gets no new requests."""
        self.draining = self.draining | {server} if on else self.draining - {server}

    def failed(self, server: str, now: float, *, refused: bool) -> None:
        """Count a failure of the server. External hosts have no breaker, as nothing can replace them."""
        if server not in self._config.servers:
            return
        self._troubled.add(server)
        jitter = zlib.crc32(f"{server}{self._breaker.state(server).ejections}".encode()) / 2**32
        if self._breaker.failed(server, now, jitter=jitter, refused=refused):
            state = self._breaker.state(server)
            until = state.until or now
            self._notify(ServerSuspended(server, until, until - now, state.ejections, refused))

    def succeeded(self, server: str, now: float) -> None:
        """Count a success."""
        if server in self._troubled:
            was_out = self._breaker.state(server).until is not None
            self._breaker.succeeded(server, now)
            if was_out and self._breaker.state(server).until is None:
                self._notify(ServerReturned(server))

    def opened_elsewhere(self, server: str, *, until: float, ejections: int, refused: bool) -> None:
        """Apply a suspension from another process of the router."""
        if server in self._config.servers:
            self._troubled.add(server)
            self._breaker.opened_elsewhere(server, until=until, ejections=ejections, refused=refused)

    def suspensions(self) -> tuple[Suspension, ...]:
        """Return the suspended servers with the end of the suspension."""
        states = [(name, self._breaker.state(name)) for name in sorted(self._troubled)]
        return tuple(
            Suspension(name, state.until, state.ejections, state.refused)
            for name, state in states
            if state.until is not None
        )

    def closed_elsewhere(self, server: str, now: float) -> None:
        """Apply the return of a server from another process of the router."""
        self._breaker.closed_elsewhere(server, now)

    def abandoned(self, server: str) -> None:
        """End a probe without a result."""
        self._breaker.abandoned(server)

    def _usable(self, up: Collection[str]) -> Collection[str]:
        return [name for name in up if name not in self.draining]
