"""A `FleetState` with its owner's clock: what an exchange asks about servers and tells about its requests."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.prompts import PromptSize
from ollama_router_core.fleet.health import BreakerPermit, Health
from ollama_router_core.fleet.load_probes import LoadProbe
from ollama_router_core.fleet.prefixes import Prefixes
from ollama_router_core.fleet.prompt_prices import PromptPrices
from ollama_router_core.fleet.runners import Load
from ollama_router_core.fleet.snapshot import FleetSnapshot, ServerFacts, writes_text
from ollama_router_core.fleet.speeds import Sample
from ollama_router_core.fleet.stalls import Watched
from ollama_router_core.fleet.state import FleetState

__all__ = ["ClockedFleet"]


class ClockedFleet:
    """The base of both adapters, which add how servers are asked. Not for two threads at once.

    Attributes:
        state: what is believed and in flight; every rule about it is there.
        now: seconds of the clock of the snapshot's times.
    """

    def __init__(self, state: FleetState, now: Callable[[], float]) -> None:
        self.state = state
        self.now = now
        self._replies: dict[tuple[str, str], bytes] = {}
        self._watched: Callable[[], Iterable[Watched]] = tuple

    # --- what is believed -------------------------------------------------------------------------------------------

    @property
    def snapshot(self) -> FleetSnapshot:
        """The fleet as believed now, this process's requests in flight included."""
        return self.state.snapshot(self.now())

    @property
    def servers(self) -> Mapping[str, ServerFacts]:
        """Facts by name of each enabled server; the mapping is replaced, never changed."""
        return self.state.servers

    @property
    def health(self) -> Health:
        """Breakers, the retry budget, drains."""
        return self.state.health

    @property
    def prefixes(self) -> Prefixes:
        """Which conversations' prompts servers still hold."""
        return self.state.prefixes

    @property
    def prompts(self) -> PromptPrices:
        """How many tokens prompts are for each model."""
        return self.state.prompts

    def learn_prompt(self, model: CanonicalName, size: PromptSize, tokens: int) -> None:
        """Learn from the tokens that were counted of a prompt."""
        self.state.prompts.learn(model, size, tokens)

    def is_stub(self, model: CanonicalName) -> bool:
        """Say whether some server has this model only as one of Ollama's hosted service."""
        return self.state.is_stub(model)

    def writes_text(self, model: CanonicalName | None) -> bool:
        """Say whether some server told that this model can write text."""
        return writes_text(self.state.servers, model)

    def update(self, name: str, change: Callable[[ServerFacts], ServerFacts]) -> bool:
        """Replace the facts about a server; returns whether other models are now in its memory."""
        return self.state.update(name, change, self.now())

    def remember(self, name: str, path: str, body: bytes | None) -> None:
        """Keep what a server answered on a path, for when it is slow; None forgets it."""
        if body is None:
            self._replies.pop((name, path), None)
        else:
            self._replies[name, path] = body

    def last_reply(self, name: str, path: str) -> bytes | None:
        """Return what a server last answered on a path."""
        return self._replies.get((name, path))

    def forget_replies(self, kept: Collection[str]) -> None:
        """Forget what other servers than these answered."""
        self._replies = {key: body for key, body in self._replies.items() if key[0] in kept}

    # --- runners that stand still -----------------------------------------------------------------------------------

    def watch(self, watched: Callable[[], Iterable[Watched]]) -> None:
        """Judge the runners of a server with each poll by the requests that wait or are answered there."""
        self._watched = watched

    def load_probe_after_poll(self, name: str) -> LoadProbe | None:
        """Judge those that wait at a server which was polled; return the probe of a runner that is to be sent now."""
        self.state.runners.suspect(name, self._watched(), self.now())
        return self.state.runners.probe_due(name, self.now())

    def load_probe_ended(self, probe: LoadProbe, error: str | None) -> None:
        """Take in what came of a probe: `error` says why it was not answered."""
        self.state.runners.probe_ended(probe, error, self.now())

    # --- traffic ----------------------------------------------------------------------------------------------------

    def begin(self, name: str, model: CanonicalName | None = None) -> None:
        """Count a request that goes to a server, for a model."""
        self.state.begin(name, model)

    def end(self, name: str, model: CanonicalName | None = None) -> None:
        """Count it out."""
        self.state.end(name, self.now(), model)

    def moved(self, old: str, new: str, model: CanonicalName | None = None) -> None:
        """Count a request under the name that its server has now, as another server has its own."""
        self.state.begin(new, model)
        self.state.end(old, self.now(), model)

    def running(self, name: str) -> int:
        """Return this process's requests in flight on a server."""
        return self.state.in_flight.running(name)

    def beside(self, name: str) -> Mapping[CanonicalName, int]:
        """Return them by their models."""
        return self.state.in_flight.beside(name)

    def running_for(self, name: str, model: CanonicalName) -> int:
        """Return those that the runner of a model serves there."""
        return self.state.running_for(name, model)

    def permit(self, server: str, *, forced: bool = False, model: CanonicalName | None = None) -> BreakerPermit | None:
        """Permit one request now; see `FleetState.permit`."""
        return self.state.permit(server, self.now(), forced=forced, model=model)

    def take_retry(self, waiting: int) -> bool:
        """Take one retry if the budget has one; `waiting` requests count as in flight too."""
        return self.state.take_retry(waiting)

    def retry_after(self) -> float | None:
        """Return seconds until the first suspended server may be probed, None when none is suspended."""
        return self.state.health.retry_after(self.now())

    def sent(self, name: str, model: CanonicalName, load: Load) -> bool:
        """Note a request that needs a model in memory; returns whether it begins the only load there."""
        return self.state.sent(name, model, load, self.now())

    def evicted(self, name: str, model: CanonicalName) -> None:
        """Note that a model was unloaded to make room."""
        self.state.evicted(name, model, self.now())

    def learn(self, server: str, model: CanonicalName, sample: Sample) -> None:
        """Learn speeds and slots from the metrics of a finished request."""
        self.state.learn(server, model, sample, self.now())

    def was_cached(self, conversation: int, server: str, tokens: int) -> None:
        """Learn from the next turn of a conversation, of whose prompt the server found `tokens` in its cache."""
        self.state.prefixes.was_cached(conversation, server, tokens)

    def holds(self, server: str, model: CanonicalName, conversation: int, tokens: int) -> None:
        """Note that a server holds the prompt of a conversation's last turn."""
        self.state.holds(server, model, conversation, tokens)
