"""A `FleetState` with its owner's clock: the fleet interface of an exchange."""

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
    """The base of both adapters, which add the polling of servers. Not thread-safe.

    Attributes:
        state: the fleet state, with all its rules.
        now: the snapshot's clock, in seconds.
    """

    def __init__(self, state: FleetState, now: Callable[[], float]) -> None:
        self.state = state
        self.now = now
        self._replies: dict[tuple[str, str], bytes] = {}
        self._watched: Callable[[], Iterable[Watched]] = tuple

    # --- facts ------------------------------------------------------------------------------------------------------

    @property
    def snapshot(self) -> FleetSnapshot:
        """The current fleet state, with this process's requests in flight."""
        return self.state.snapshot(self.now())

    @property
    def servers(self) -> Mapping[str, ServerFacts]:
        """Facts of each enabled server by name; the mapping is replaced, never mutated."""
        return self.state.servers

    @property
    def health(self) -> Health:
        """Breakers, the retry budget, drains."""
        return self.state.health

    @property
    def prefixes(self) -> Prefixes:
        """The conversations whose prompts servers have cached."""
        return self.state.prefixes

    @property
    def prompts(self) -> PromptPrices:
        """Learned prompt token counts of each model."""
        return self.state.prompts

    def learn_prompt(self, model: CanonicalName, size: PromptSize, tokens: int) -> None:
        """Learn the token count of a prompt."""
        self.state.prompts.learn(model, size, tokens)

    def is_stub(self, model: CanonicalName) -> bool:
        """Return whether some server has this model only as a stub of Ollama's hosted service."""
        return self.state.is_stub(model)

    def writes_text(self, model: CanonicalName | None) -> bool:
        """Return whether some server reports that this model can generate text."""
        return writes_text(self.state.servers, model)

    def update(self, name: str, change: Callable[[ServerFacts], ServerFacts]) -> bool:
        """Replace the facts of a server; return whether the models in its memory changed."""
        return self.state.update(name, change, self.now())

    def remember(self, name: str, path: str, body: bytes | None) -> None:
        """Keep a server's last reply on a path, for when the server is slow; None deletes it."""
        if body is None:
            self._replies.pop((name, path), None)
        else:
            self._replies[name, path] = body

    def last_reply(self, name: str, path: str) -> bytes | None:
        """Return a server's last reply on a path."""
        return self._replies.get((name, path))

    def forget_replies(self, kept: Collection[str]) -> None:
        """Delete the replies of all servers except these."""
        self._replies = {key: body for key, body in self._replies.items() if key[0] in kept}

    # --- polling ----------------------------------------------------------------------------------------------------

    def measure_soon(self, name: str) -> None:
        """Poll a server's loaded models in the background, where the owner polls."""

    def refresh_soon(self, name: str | None = None) -> None:
        """Poll the models of one server, or of all, in the background, where the owner polls."""

    def refresh_unknown(self, model: CanonicalName | None) -> None:
        """Poll all models after a request found no server for one, at most once in five seconds."""
        if model is not None and self.state.may_refresh(self.now()):
            self.refresh_soon()

    # --- stalled runners --------------------------------------------------------------------------------------------

    def watch(self, watched: Callable[[], Iterable[Watched]]) -> None:
        """Set the source of requests by which each poll evaluates a server's runners."""
        self._watched = watched

    def load_probe_after_poll(self, name: str) -> LoadProbe | None:
        """Evaluate the runners of a polled server; return the load probe to send now, if any."""
        self.state.runners.suspect(name, self._watched(), self.now())
        return self.state.runners.probe_due(name, self.now())

    def load_probe_ended(self, probe: LoadProbe, error: str | None) -> None:
        """Record the result of a load probe; `error` is None on success."""
        self.state.runners.probe_ended(probe, error, self.now())

    # --- traffic ----------------------------------------------------------------------------------------------------

    @property
    def shares(self) -> bool:
        """Whether other processes may free or take slots of servers."""
        return False

    def begin(self, name: str, model: CanonicalName | None = None) -> None:
        """Count a request for a model as in flight on a server."""
        self.state.begin(name, model)

    def end(self, name: str, model: CanonicalName | None = None) -> None:
        """Count a request as ended."""
        self.state.end(name, self.now(), model)

    def moved(self, old: str, new: str, model: CanonicalName | None = None) -> None:
        """Move a request's count to its server's new name."""
        self.state.begin(new, model)
        self.state.end(old, self.now(), model)

    def running(self, name: str) -> int:
        """Return this process's requests in flight on a server."""
        return self.state.in_flight.running(name)

    def beside(self, name: str) -> Mapping[CanonicalName, int]:
        """Return this process's requests in flight on a server, by model."""
        return self.state.in_flight.beside(name)

    def running_for(self, name: str, model: CanonicalName) -> int:
        """Return the requests that a model's runner serves on a server."""
        return self.state.running_for(name, model)

    def permit(self, server: str, *, forced: bool = False, model: CanonicalName | None = None) -> BreakerPermit | None:
        """Permit one request now; see `FleetState.permit`."""
        return self.state.permit(server, self.now(), forced=forced, model=model)

    def take_retry(self, waiting: int) -> bool:
        """Take one retry if the budget allows; `waiting` requests count as in flight."""
        return self.state.take_retry(waiting)

    def retry_after(self) -> float | None:
        """Return seconds until the first suspended server may be probed, None when none is suspended."""
        return self.state.health.retry_after(self.now())

    def sent(self, name: str, model: CanonicalName, load: Load) -> bool:
        """Record a sent request that needs a model in memory; return whether it starts the only load there."""
        return self.state.sent(name, model, load, self.now())

    def evicted(self, name: str, model: CanonicalName) -> None:
        """Record that a model was unloaded to make room."""
        self.state.evicted(name, model, self.now())

    def learn(self, server: str, model: CanonicalName, sample: Sample) -> None:
        """Learn speeds and slots from the metrics of a finished request."""
        self.state.learn(server, model, sample, self.now())

    def was_cached(self, conversation: int, server: str, tokens: int) -> None:
        """Learn from a conversation's turn that the server had `tokens` of its prompt cached."""
        self.state.prefixes.was_cached(conversation, server, tokens)

    def holds(self, server: str, model: CanonicalName, conversation: int, tokens: int) -> None:
        """Record that a server has the prompt of a conversation's last turn cached."""
        self.state.holds(server, model, conversation, tokens)
