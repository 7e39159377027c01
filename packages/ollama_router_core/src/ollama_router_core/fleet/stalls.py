"""Stalled runners of servers that are up, detected by responses that do not begin.

A frozen runner and loads that wait for a model which never expires (`keep_alive: -1`, in use) look alike: the routes
`/api/version`, `/api/tags` and `/api/ps` answer immediately, and a request gets no byte.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from msgspec import Struct

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.fleet.snapshot import EMPTY, ModelSpeed, ServerFacts

__all__ = ["AnswersSeen", "Progress", "Wait", "Watched", "patience", "stall_words", "stalled"]

_MARGIN = 4.0
"""Factor on the expected seconds of a wait, as speeds are rough before they are learned."""


class Wait(Struct, frozen=True):
    """A request sent to a server at `since` without a byte of a response yet.

    `beside` counts the requests in flight there when it was sent, itself included, by model.
    """

    server: str
    request: RouteRequest
    since: float
    beside: Mapping[CanonicalName, int] = EMPTY


class Progress(Struct, frozen=True):
    """A response in progress from a server, with the pieces so far. `id` is the request id."""

    server: str
    model: CanonicalName
    id: str
    pieces: int


Watched = Wait | Progress
"""What a request in progress shows of its runner."""


class AnswersSeen:
    """The progress of each server's responses at its last poll."""

    def __init__(self) -> None:
        self._pieces: dict[str, dict[str, int]] = {}

    def moved(self, server: str, answers: Collection[Progress]) -> frozenset[CanonicalName]:
        """Return the models with progress since the last poll of their server."""
        before = self._pieces.get(server, {})
        self._pieces[server] = {one.id: one.pieces for one in answers}
        return frozenset(one.model for one in answers if one.pieces > before.get(one.id, one.pieces))


def patience(wait: Wait, speed_of: Callable[[CanonicalName], ModelSpeed]) -> float:
    """Return the seconds to wait for a first byte: all earlier requests in turn, each with a load.

    For a non-streamed response that is its end. The prompts of other requests are assumed to be as long as its own.
    """
    request, own = wait.request, wait.request.model or CanonicalName("")
    speed = speed_of(own)
    seconds = speed.load_seconds + request.prompt_tokens / speed.prefill_rate
    if not request.stream:
        seconds += (request.max_tokens or speed.answer_tokens) / speed.decode_rate
    for model, count in wait.beside.items():
        before = count - (model == own)
        seconds += before * _turn(speed_of(model), request.prompt_tokens) if before > 0 else 0.0
    return _MARGIN * seconds


def _turn(speed: ModelSpeed, prompt_tokens: int) -> float:
    """Return the seconds of a whole request, including a load."""
    return speed.load_seconds + prompt_tokens / speed.prefill_rate + speed.answer_tokens / speed.decode_rate


def stalled(
    waits: Iterable[Wait], signs: Mapping[CanonicalName, float], expected: Callable[[Wait], float], now: float
) -> dict[CanonicalName, float]:
    """Return the models of one server without output for longer than `expected`, with the seconds.

    `signs` has the last activity of each model there: activity after a request was sent excuses its wait.
    """
    found: dict[CanonicalName, float] = {}
    for wait in waits:
        model = wait.request.model
        if model is None or signs.get(model, float("-inf")) >= wait.since:
            continue
        if now - wait.since > expected(wait):
            found[model] = max(now - wait.since, found.get(model, 0.0))
    return found


def stall_words(model: CanonicalName, seconds: float, facts: ServerFacts) -> str:
    """Describe a stall for an operator, with its cause and remedy."""
    kept = _kept_for_ever(model, facts)
    if kept:
        names = ", ".join(sorted(kept))
        return (
            f"no byte for {seconds:.0f} s: loads there wait for {names}, which is in use and stays in memory forever"
            f" (keep_alive -1); `ollama stop {min(kept)}` on that server ends it"
        )
    return f"no byte for {seconds:.0f} s, although probes succeed: its runner may be frozen; restart Ollama there"


def _kept_for_ever(model: CanonicalName, facts: ServerFacts) -> Collection[CanonicalName]:
    """Return the models without expiry that a load may wait for; empty if the model is in memory itself."""
    if model in facts.loaded:
        return ()
    return [name for name, row in facts.loaded.items() if row.expires_at is None]
