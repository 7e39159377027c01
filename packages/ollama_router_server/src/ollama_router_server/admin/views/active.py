"""Requests in flight as shown to people: what each does now, and what a queued one waits for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from msgspec.structs import replace

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.errors import RouterError, amount
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.decision import Decision
from ollama_router_core.routing.explanation import Question
from ollama_router_core.routing.filters import FULL
from ollama_router_server.admin.view import View
from ollama_router_server.admin.views.servers import server_model
from ollama_router_server.services import Services

__all__ = ["ActiveView", "active_views", "turn"]

_MOST_DECIDED: Final = 5
"""The most kinds of queued requests explained per view: each costs a decision among all servers."""
_MOST_NAMED: Final = 3
_LEAST_SECONDS: Final = 0.5
"""The least seconds of output for a meaningful speed."""
_MAKES_READY: Final = {
    "loaded": "a slot on {}",
    "loading": "the load that {} is at",
    "cold": "a load on {}",
    "reload": "a load on {}",
    "evicts": "a load on {} in place of others",
}


class ActiveView(View):
    """A request in flight: `waiting` for a server, `sent` to one, or `answering`.

    `starts_in_seconds` is the least and the most until it starts, equal if fewer than 20 earlier waits are known; below
    0 it is overdue. `doing` describes its activity, or what it waits for. `pin` is the server that it names, null if
    the router may choose; `speaker` is the user whose token speaks for `user`, null if it is the user's own. `tokens`
    counts the output so far, null if it is not counted. `decided_seconds` and `first_byte_seconds` are the seconds
    until a server was chosen, and until its response started.
    """

    id: str
    started_at: float
    user: str | None
    speaker: str | None = None
    model: str | None
    pin: str | None = None
    context: int | None = None
    server: str | None
    method: str
    path: str | None
    state: Literal["waiting", "sent", "answering"]
    doing: str
    seconds: float
    attempts: int
    decided_seconds: float | None
    first_byte_seconds: float | None
    queue_position: int | None
    starts_in_seconds: tuple[float, float] | None
    streamed: bool = False
    tokens: int | None = None
    bytes_out: int


def active_views(services: Services, rows: Sequence[dict[str, Any]], user: str | None = None) -> list[ActiveView]:
    """Show requests in flight in all workers, oldest first; of one user, or of all."""
    doing = _Doing(services)
    return [ActiveView(**row, doing=doing.of(row)) for row in rows if user is None or row["user"] == user]


def turn(starts_in: tuple[float, float] | None) -> str:
    """Return when a request starts, in words: a range, about one time, or any moment."""
    if starts_in is None:
        return "–"  # noqa: RUF001 - as all that is not there
    least, most = (max(round(one), 0) for one in starts_in)
    if most <= 1:
        return "any moment"
    if least == most:
        return f"about {most} s"
    return f"{least} to {most} s" if least else f"within {most} s"


class _Doing:
    """Describes what requests do now, with one decision for all queued requests of a kind."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._snapshot: FleetSnapshot = services.fleet.snapshot
        self._now = services.clock.monotonic()
        self._waits: dict[tuple[str | None, int | None, str | None], str] = {}

    def of(self, row: dict[str, Any]) -> str:
        match row["state"]:
            case "waiting":
                return self._waiting(row["model"], row["context"], row["pin"])
            case "sent":
                return self._sent(row)
            case _:
                return _answering(row)

    def _waiting(self, model: str | None, context: int | None, pin: str | None) -> str:
        key = model, context, pin
        if key not in self._waits and len(self._waits) < _MOST_DECIDED:
            self._waits[key] = self._decided(model, context, pin)
        return self._waits.get(key, "waiting")

    def _decided(self, model: str | None, context: int | None, pin: str | None) -> str:
        if model is None:
            return "waiting"
        services = self._services
        try:
            route, _ = Question(model=model, context=context).request(services.config)
        except RouterError:
            return "waiting"
        return _waited_for(services.admission.view.decide(replace(route, pin=pin)))

    def _sent(self, row: dict[str, Any]) -> str:
        loading = self._loading(row["server"], row["model"])
        if loading is not None:
            return loading
        if row["tokens"] is None:
            return "sent"
        return "reading" if row["streamed"] else "reading or writing"

    def _loading(self, server: str | None, model: str | None) -> str | None:
        facts = None if server is None else self._snapshot.servers.get(server)
        if facts is None or model is None:
            return None
        name = canonical_name(model)
        since = facts.loading.get(name)
        if since is None:
            return None
        installed = (facts.installed or {}).get(name)
        passed = f"loading, {max(0.0, self._now - since):.0f}"
        if installed is None:
            return f"{passed} s"
        return f"{passed} of about {server_model(facts, installed, self._snapshot).load_seconds:.0f} s"


def _answering(row: dict[str, Any]) -> str:
    if not row["tokens"]:
        return "answering"
    told = f"writing, {amount(row['tokens'], 'token')}"
    seconds = row["seconds"] - row["first_byte_seconds"]
    return f"{told}, {row['tokens'] / seconds:.0f}/s" if seconds >= _LEAST_SECONDS else told


def _waited_for(decision: Decision) -> str:
    """Describe what is waited for: a slot on a full server, or the preparation of the best one."""
    full = [one.server for one in decision.verdicts if one.verdict == "refused" and one.reasons[0].code == FULL]
    if decision.server is None and full:
        more = f" or {len(full) - _MOST_NAMED} more" if len(full) > _MOST_NAMED else ""
        return f"waiting for a slot on {' or '.join(full[:_MOST_NAMED])}{more}"
    codes = {reason.code for one in decision.verdicts[:1] for reason in one.reasons}
    told = next((text for code, text in _MAKES_READY.items() if code in codes), None)
    return "waiting" if decision.server is None or told is None else f"waiting for {told.format(decision.server)}"
