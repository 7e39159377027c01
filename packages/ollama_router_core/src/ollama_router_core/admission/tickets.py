"""Inputs and outcomes of admission."""

from __future__ import annotations

from msgspec import Struct

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.errors import RequestError, SelectionError

__all__ = ["Dispatch", "Outcome", "Preempt", "Refusal", "Ticket", "WaitingGroup"]


class Ticket(Struct, frozen=True, kw_only=True, eq=False):
    """One request for a server. `number` is unique, `arrived` in seconds of the same clock as `now`.

    `max_wait` is in seconds, None for the queue's default. A `batch` ticket goes after all others.
    `conversation` identifies the conversation of this turn, if the strategy uses it.
    A `preemptible` ticket may be preempted, which has happened `preemptions` times.
    """

    number: int
    request: RouteRequest
    arrived: float
    user: str = ""
    conversation: int | None = None
    tiebreak: int = 0
    max_wait: float | None = None
    batch: bool = False
    preemptible: bool = False
    preemptions: int = 0


class Dispatch(Struct, frozen=True, kw_only=True, eq=False):
    """Send the request now: to `server`, then to the rest of `ranking` while no response has begun.

    First unload the models in `unload` (a generate with `keep_alive: 0`): they are the cheapest to evict, and Ollama
    on its own may evict others. `waited` is in seconds; `position` is the queue position at which the ticket joined,
    0 if it did not wait.
    """

    ticket: Ticket
    server: str
    ranking: tuple[str, ...]
    reason: str
    waited: float
    position: int
    unload: tuple[CanonicalName, ...] = ()


class Refusal(Struct, frozen=True, kw_only=True, eq=False):
    """Answer with `error`, which has a Retry-After if a later retry may succeed."""

    ticket: Ticket
    error: SelectionError | RequestError
    waited: float = 0.0
    position: int = 0


class Preempt(Struct, frozen=True, kw_only=True, eq=False):
    """Remove the request from its `server` unless its response has begun; call `Admission.preempted` afterwards."""

    ticket: Ticket
    server: str


Outcome = Dispatch | Refusal | Preempt


class WaitingGroup(Struct, frozen=True, kw_only=True):
    """Requests that wait for a model: all, those of batch priority, and the longest and expected wait in seconds."""

    model: CanonicalName | None
    num_ctx: int | None
    waiting: int
    batch: int
    longest: float
    expected: float

    def __add__(self, other: WaitingGroup) -> WaitingGroup:
        """Merge two groups of one model and context; the waits are the maximum of both."""
        return WaitingGroup(
            model=self.model,
            num_ctx=self.num_ctx,
            waiting=self.waiting + other.waiting,
            batch=self.batch + other.batch,
            longest=max(self.longest, other.longest),
            expected=max(self.expected, other.expected),
        )
