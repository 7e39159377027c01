"""Detects stalled runners, from waiting requests, responses in progress and load probes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Protocol

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.health import Health
from ollama_router_core.fleet.in_flight_counts import InFlightCounts
from ollama_router_core.fleet.load_probes import LoadProbe, LoadProbes
from ollama_router_core.fleet.memory.placement import share_on_cpu
from ollama_router_core.fleet.runners import runner_names, runner_of
from ollama_router_core.fleet.snapshot import EMPTY, ModelWeight, ServerFacts
from ollama_router_core.fleet.speeds import SpeedBook, model_weight
from ollama_router_core.fleet.stalls import AnswersSeen, Progress, Wait, Watched, patience, stall_words, stalled

__all__ = ["RunnerWatch", "weight_there"]


class _FleetView(Protocol):
    """The facts of the servers, and this process's requests in flight."""

    servers: Mapping[str, ServerFacts]
    speeds: SpeedBook
    in_flight: InFlightCounts


class RunnerWatch:
    """Suspects and clears runners; `health` suspends the models of suspected ones.

    Attributes:
        config: whether suspected runners are probed, and the probe interval.
    """

    def __init__(self, config: Config, health: Health, fleet: _FleetView) -> None:
        self.config = config
        self._health = health
        self._fleet = fleet
        self._probes = LoadProbes()
        self._answers = AnswersSeen()

    def suspect(self, name: str, watched: Iterable[Watched], now: float) -> None:
        """Evaluate the requests that wait for a first byte on a server that is up.

        A model without output for much longer than expected is suspended there. Progress of another response clears
        its runner.
        """
        facts = self._fleet.servers.get(name)
        if facts is None or not facts.up:
            return
        requests = [one for one in watched if one.server == name]
        for moved in self._answers.moved(name, [one for one in requests if isinstance(one, Progress)]):
            self._record_progress(facts, moved, now)
        waits = [one for one in requests if isinstance(one, Wait)]
        signs = {model: self._last_sign(facts, model) for one in waits if (model := one.request.model) is not None}
        for model, seconds in stalled(waits, signs, partial(self._patience, facts), now).items():
            if self._probes.is_running(name, model):
                continue  # its result decides
            words = stall_words(model, seconds, facts)
            self._health.models.failed(name, model, words, now, at_once=True)
            request = next(wait.request for wait in waits if wait.request.model == model)
            self._probes.suspect(name, request, words, now)

    def probe_due(self, name: str, now: float) -> LoadProbe | None:
        """Return the load probe to send to a server now, if any is due and `load_probe` is set."""
        facts, models = self._fleet.servers.get(name), self._health.models
        if facts is None or not self.config.load_probe:
            return None
        beside = self._fleet.in_flight.beside(name)
        return self._probes.due(
            name,
            now,
            is_out=lambda model: models.until(name, model) is not None,
            take=partial(models.probe, name),
            seconds=lambda request: self._patience(facts, Wait(name, request, now, beside)),
        )

    def probe_ended(self, probe: LoadProbe, error: str | None, now: float) -> None:
        """Record a load probe's result: success clears the runner, an error extends the suspension."""
        name, model = probe.server, probe.model
        if error is None:
            self._health.showed_life(name, model, now)
            self._probes.ended(probe, again=None)
            return
        if not self._probes.has(name, model):
            return  # the runner showed activity: the probe waited behind a long response
        models, interval = self._health.models, self.config.health_check_interval
        models.failed(name, model, f"{probe.words}; load probe: {error}", now, at_once=True)
        until = models.until(name, model) or now
        self._probes.ended(probe, again=max(now + interval, until - 2 * interval))

    def _record_progress(self, facts: ServerFacts, model: CanonicalName, now: float) -> None:
        """Record progress of a response, which clears all names that its runner serves."""
        self._health.signs[facts.name, model] = now
        for name in runner_names(facts, model):
            if self._probes.clear(facts.name, name):
                self._health.showed_life(facts.name, name, now)

    def _last_sign(self, facts: ServerFacts, model: CanonicalName) -> float:
        """Return the time of the last activity of a model's runner, under any of its names."""
        signs = self._health.signs
        return max(signs.get((facts.name, name), float("-inf")) for name in runner_names(facts, model))

    def _patience(self, facts: ServerFacts, wait: Wait) -> float:
        """Return the seconds that a request may wait for its first byte, at least three probe intervals."""
        least, speeds = 3.0 * self.config.health_check_interval, self._fleet.speeds
        return max(least, patience(wait, lambda model: speeds.expect(facts.name, model, weight_there(facts, model))))


def weight_there(facts: ServerFacts, model: CanonicalName) -> ModelWeight:
    """Return a model's weight as loaded on a server."""
    on_cpu = share_on_cpu(facts, runner_of(facts, model))
    return model_weight(model, (facts.installed or EMPTY).get(model), on_cpu=on_cpu)
