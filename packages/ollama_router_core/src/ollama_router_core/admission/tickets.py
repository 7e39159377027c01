"""The values that go in and out of admission."""

from __future__ import annotations

from msgspec import Struct

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.errors import RequestError, SelectionError

__all__ = ["Dispatch", "Outcome", "Preempt", "Refusal", "Ticket", "WaitingGroup"]


class Ticket(Struct, frozen=True, kw_only=True, eq=False):
    """One request that wants a server. `number` is unique, `arrived` is seconds of the clock that `now` comes from.

    `max_wait` are the seconds it may wait, None leaves that to the queue. A `batch` ticket goes after all others.
    `conversation` is a number for the one that it is a turn of, where the strategy asks for that.
    A `preemptible` one may be taken off its server, which has happened `preemptions` times.
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
    """Send it now: to `server`, then to the rest of `ranking` if nothing was delivered.

    Before that, ask the server to unload the models in `unload` (a generate with `keep_alive: 0`): the room they take
    is the cheapest to take back, and Ollama left alone may pick others. `waited` is in seconds, `position` what the
    ticket's position in the queue was when it joined, 0 for one that did not wait.
    """

    ticket: Ticket
    server: str
    ranking: tuple[str, ...]
    reason: str
    waited: float
    position: int
    unload: tuple[CanonicalName, ...] = ()


class Refusal(Struct, frozen=True, kw_only=True, eq=False):
    """Answer with `error`; it carries Retry-After where waiting helps."""

    ticket: Ticket
    error: SelectionError | RequestError
    waited: float = 0.0
    position: int = 0


class Preempt(Struct, frozen=True, kw_only=True, eq=False):
    """Take it off its `server` while nothing of its answer has come, and call `Admission.preempted` when it is off."""

    ticket: Ticket
    server: str


Outcome = Dispatch | Refusal | Preempt


class WaitingGroup(Struct, frozen=True, kw_only=True):
    """Requests that wait for a model: how many, `batch` of them, the longest wait and a newcomer's in seconds."""

    model: CanonicalName | None
    num_ctx: int | None
    waiting: int
    batch: int
    longest: float
    expected: float

    def __add__(self, other: WaitingGroup) -> WaitingGroup:
        """Both together, of one model and context: a newcomer may have to wait as long as either says."""
        return WaitingGroup(
            model=self.model,
            num_ctx=self.num_ctx,
            waiting=self.waiting + other.waiting,
            batch=self.batch + other.batch,
            longest=max(self.longest, other.longest),
            expected=max(self.expected, other.expected),
        )
