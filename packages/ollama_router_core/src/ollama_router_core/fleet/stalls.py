"""Runners that stand still behind a server that answers its probes: told by answers that do not begin.

A frozen runner, or loads that wait for a model which never goes (`keep_alive: -1`, in use), look the same from outside:
`/api/version`, `/api/tags` and `/api/ps` answer at once, and a request gets no byte.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from msgspec import Struct

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.fleet.snapshot import EMPTY, ModelSpeed, ServerFacts

__all__ = ["AnswersSeen", "Progress", "Wait", "Watched", "patience", "stall_words", "stalled"]

_MARGIN = 4.0
"""Times the expected seconds that a wait may last: speeds are learned, and rough before they are."""


class Wait(Struct, frozen=True):
    """A request that was sent to a server at `since` and has got no byte of an answer.

    `beside` are the requests that were there when it had been sent, itself among them, by their models.
    """

    server: str
    request: RouteRequest
    since: float
    beside: Mapping[CanonicalName, int] = EMPTY


class Progress(Struct, frozen=True):
    """A request whose answer comes from a server: so many pieces so far. `id` is the request's."""

    server: str
    model: CanonicalName
    id: str
    pieces: int


Watched = Wait | Progress
"""What a request in progress tells of the runner that serves it."""


class AnswersSeen:
    """How far the answers of each server were when it was polled last."""

    def __init__(self) -> None:
        self._pieces: dict[str, dict[str, int]] = {}

    def moved(self, server: str, answers: Collection[Progress]) -> frozenset[CanonicalName]:
        """Return the models of which more has come since the last poll of their server."""
        before = self._pieces.get(server, {})
        self._pieces[server] = {one.id: one.pieces for one in answers}
        return frozenset(one.model for one in answers if one.pieces > before.get(one.id, one.pieces))


def patience(wait: Wait, speed_of: Callable[[CanonicalName], ModelSpeed]) -> float:
    """Seconds in which a request should get its first byte: after all that was before it, each loaded anew, in turn.

    Of an answer in one piece that is the end. What others ask for is not known any more: a prompt like its own.
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
    """Seconds of a whole request that finds another model in memory."""
    return speed.load_seconds + prompt_tokens / speed.prefill_rate + speed.answer_tokens / speed.decode_rate


def stalled(
    waits: Iterable[Wait], signs: Mapping[CanonicalName, float], expected: Callable[[Wait], float], now: float
) -> dict[CanonicalName, float]:
    """Return the models of one server of which nothing has come for longer than was `expected`, with the seconds.

    `signs` says when anything last came of a model there: a sign since a request was sent excuses the wait for it.
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
    """Word a stall for an operator: which of the two it is, and the remedy."""
    kept = _kept_for_ever(model, facts)
    if kept:
        names = ", ".join(sorted(kept))
        return (
            f"no byte for {seconds:.0f} s: loads there wait for {names}, which is in use and stays in memory forever"
            f" (keep_alive -1); `ollama stop {min(kept)}` on that server ends it"
        )
    return f"no byte for {seconds:.0f} s, although probes succeed: its runner may be frozen; restart Ollama there"


def _kept_for_ever(model: CanonicalName, facts: ServerFacts) -> Collection[CanonicalName]:
    """Return the models that a load may wait for without end; none for a model that is in memory itself."""
    if model in facts.loaded:
        return ()
    return [name for name, row in facts.loaded.items() if row.expires_at is None]
