"""Retries along a ranking: one generator, driven by both proxy and client.

    the generator yields            the driver answers with
    SendTo(server, attempt)         Unreachable    nothing was sent: retry on another server
                                    Rejected       429, 503 or 529, not started: retry
                                    Unable         the server cannot serve this model or route: retry
                                    Lost           the connection and the run ended before a byte: retry
                                    Answered       any other head: this is the response
                                    Broken         the request may have been executed: no retry

The generator returns `Relay` (relay the response of the last attempt) or `GiveUp` (with the error). A server is tried
at most once. Source: RFC 9110 9.2.2 (no automatic retry of a request that may have been executed).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import assert_never

from msgspec import Struct

from ollama_router_core.errors import ConnectFailed, NoServerFits, RouterError, amount

__all__ = [
    "REJECTIONS",
    "Answered",
    "Broken",
    "Forwarding",
    "ForwardingLimits",
    "GiveUp",
    "Lost",
    "Outcome",
    "Rejected",
    "Relay",
    "SendTo",
    "Unable",
    "Unreachable",
    "forward",
    "outcome_of_status",
]

REJECTIONS = frozenset({429, 503, 529})
"""Statuses of a server that did not start on the request."""


class SendTo(Struct, frozen=True):
    """Send the request to this server; `attempt` counts from 1."""

    server: str
    attempt: int


class Unreachable(Struct, frozen=True):
    """Connecting failed, after `seconds`."""

    error: RouterError
    seconds: float


class Rejected(Struct, frozen=True):
    """The server refused to start on the request."""

    status: int


class Unable(Struct, frozen=True):
    """The server cannot serve this model, or lacks the route; `words` are its error text. The fleet remembers it."""

    status: int
    words: str | None = None


class Lost(Struct, frozen=True):
    """The connection ended before the first byte, on a server that cancels a run on disconnect."""

    error: RouterError


class Answered(Struct, frozen=True):
    """The server answered."""

    status: int


class Broken(Struct, frozen=True):
    """The exchange failed after something was sent."""

    error: RouterError


Outcome = Unreachable | Rejected | Unable | Lost | Answered | Broken


class Relay(Struct, frozen=True):
    """Relay the response of the last attempt."""

    server: str
    attempts: int


class GiveUp(Struct, frozen=True):
    """There is no response; answer with `error`."""

    error: RouterError
    attempts: int


Forwarding = Generator[SendTo, Outcome, Relay | GiveUp]


class ForwardingLimits(Struct, frozen=True, kw_only=True):
    """Limits of one request's attempts; those that end in `Unable` do not count.

    `connect_seconds` limits the total connect time.
    """

    attempts: int = 3
    connect_seconds: float = 10.0


DEFAULT_LIMITS = ForwardingLimits()


def outcome_of_status(status: int) -> Rejected | Answered:
    """Classify a response head: `Rejected` for a status of `REJECTIONS`, else `Answered`."""
    return Rejected(status) if status in REJECTIONS else Answered(status)


def forward(
    ranking: Sequence[str],
    *,
    limits: ForwardingLimits = DEFAULT_LIMITS,
    may_retry: Callable[[str], bool] = lambda _: True,
) -> Forwarding:
    """Walk a ranking: yield `SendTo`, receive its outcome, and return `Relay` or `GiveUp`.

    After a `Rejected`, `may_retry` asks the retry budget for the next server, as an overloaded fleet gets more load
    from retries. Retries after other outcomes are free.
    """
    connecting = 0.0
    attempts = counted = 0
    last: Unreachable | Rejected | Unable | Lost | None = None
    holder = ""
    for server in dict.fromkeys(ranking):
        if counted >= limits.attempts or connecting >= limits.connect_seconds:
            break
        if isinstance(last, Rejected) and not may_retry(server):
            break
        attempts += 1
        outcome = yield SendTo(server, attempts)
        match outcome:
            case Answered():
                return Relay(server, attempts)
            case Broken():
                return GiveUp(outcome.error, attempts)
            case Unreachable():
                connecting += outcome.seconds
            case Rejected() | Unable() | Lost():
                pass
            case _:
                assert_never(outcome)
        last, holder = outcome, server
        counted += not isinstance(outcome, Unable)
    if last is None:
        return GiveUp(NoServerFits("no server was left to try", retry_after=5), attempts)
    return _exhausted(last, holder, attempts)


def _exhausted(last: Unreachable | Rejected | Unable | Lost, holder: str, attempts: int) -> Relay | GiveUp:
    """Relay the last server's own refusal if its response is still open; it says more than the router's error."""
    match last:
        case Rejected() | Unable():
            return Relay(holder, attempts)
        case Unreachable():
            return GiveUp(_unreachable(last, attempts), attempts)
        case Lost():
            return GiveUp(last.error, attempts)
        case _:
            assert_never(last)


def _unreachable(last: Unreachable, attempts: int) -> RouterError:
    tried = amount(attempts, "server")
    return ConnectFailed(f"no server could be reached ({tried} tried, the last: {last.error.message})", retry_after=5)
