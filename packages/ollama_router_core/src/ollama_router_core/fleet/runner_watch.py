"""Which runners stand still: what waiting requests and answers in progress tell of them, and the probes that decide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Protocol

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.health import Health
from ollama_router_core.fleet.in_flight_counts import InFlightCounts
from ollama_router_core.fleet.load_probes import LoadProbe, LoadProbes
from ollama_router_core.fleet.memory import share_on_cpu
from ollama_router_core.fleet.runners import runner_names, runner_of
from ollama_router_core.fleet.snapshot import EMPTY, ModelWeight, ServerFacts
from ollama_router_core.fleet.speeds import SpeedBook, model_weight
from ollama_router_core.fleet.stalls import AnswersSeen, Progress, Wait, Watched, patience, stall_words, stalled

__all__ = ["RunnerWatch", "weight_there"]


class _Believed(Protocol):
    """What is believed about the servers, and what this process has in flight there."""

    servers: Mapping[str, ServerFacts]
    speeds: SpeedBook
    in_flight: InFlightCounts


class RunnerWatch:
    """Suspects runners and clears them; the models of suspected ones are kept out by `health`.

    Attributes:
        config: says whether suspected runners are probed, and how often servers are.
    """

    def __init__(self, config: Config, health: Health, fleet: _Believed) -> None:
        self.config = config
        self._health = health
        self._fleet = fleet
        self._probes = LoadProbes()
        self._answers = AnswersSeen()

    def suspect(self, name: str, watched: Iterable[Watched], now: float) -> None:
        """Judge the requests that wait for a first byte on a server that answers its probes.

        A model of which nothing came for much longer than expected is not asked for there for a while. An answer that
        goes on excuses who waits for its runner.
        """
        facts = self._fleet.servers.get(name)
        if facts is None or not facts.up:
            return
        told = [one for one in watched if one.server == name]
        for moved in self._answers.moved(name, [one for one in told if isinstance(one, Progress)]):
            self._lives(facts, moved, now)
        here = [one for one in told if isinstance(one, Wait)]
        signs = {model: self._last_sign(facts, model) for one in here if (model := one.request.model) is not None}
        for model, seconds in stalled(here, signs, partial(self._patience, facts), now).items():
            if self._probes.is_running(name, model):
                continue  # its answer decides
            words = stall_words(model, seconds, facts)
            self._health.models.failed(name, model, words, now, at_once=True)
            request = next(wait.request for wait in here if wait.request.model == model)
            self._probes.suspect(name, request, words, now)

    def probe_due(self, name: str, now: float) -> LoadProbe | None:
        """Return the probe of a suspected runner that is to be sent now, if the operator wants such probes."""
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
        """Take in what came of a probe: an answer ends the suspicion, anything else keeps the model out for longer."""
        name, model = probe.server, probe.model
        if error is None:
            self._health.showed_life(name, model, now)
            self._probes.ended(probe, again=None)
            return
        if not self._probes.has(name, model):
            return  # the runner was seen to live meanwhile: the probe has waited behind a long answer
        models, interval = self._health.models, self.config.health_check_interval
        models.failed(name, model, f"{probe.words}; load probe: {error}", now, at_once=True)
        until = models.until(name, model) or now
        self._probes.ended(probe, again=max(now + interval, until - 2 * interval))

    def _lives(self, facts: ServerFacts, model: CanonicalName, now: float) -> None:
        """Note that an answer has gone on: none of the names that its runner serves is under suspicion any more."""
        self._health.signs[facts.name, model] = now
        for name in runner_names(facts, model):
            if self._probes.clear(facts.name, name):
                self._health.showed_life(facts.name, name, now)

    def _last_sign(self, facts: ServerFacts, model: CanonicalName) -> float:
        """Return when anything last came of the runner that serves a model, under any of its names."""
        signs = self._health.signs
        return max(signs.get((facts.name, name), float("-inf")) for name in runner_names(facts, model))

    def _patience(self, facts: ServerFacts, wait: Wait) -> float:
        """Seconds that a request may wait for its first byte, at least three intervals between probes."""
        least, speeds = 3.0 * self.config.health_check_interval, self._fleet.speeds
        return max(least, patience(wait, lambda model: speeds.expect(facts.name, model, weight_there(facts, model))))


def weight_there(facts: ServerFacts, model: CanonicalName) -> ModelWeight:
    """Return a model's weight as a server has it now."""
    on_cpu = share_on_cpu(facts, runner_of(facts, model))
    return model_weight(model, (facts.installed or EMPTY).get(model), on_cpu=on_cpu)
