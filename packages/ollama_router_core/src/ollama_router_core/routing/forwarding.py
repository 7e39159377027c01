"""Try servers in turn: one generator that server and client drive alike.

    the generator yields            the driver answers with
    SendTo(server, attempt)         Unreachable    nothing was sent: another server may be tried
                                    Rejected       429, 503 or 529: not started, another may be
                                    Unable         it said that it cannot serve this model or route: another may
                                    Lost           the connection ended before a byte, and the run with it: another may
                                    Answered       any other head: this is the answer
                                    Broken         anything may have happened to the request: no second try

and it returns `Relay` (give the client the answer that the last attempt holds) or `GiveUp` (with the error). A server
is tried at most once. Rules: RFC 9110 9.2.2 (no automatic retry of what may have run).
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
"""Statuses by which a server says that it did not start on the request."""


class SendTo(Struct, frozen=True):
    """Send the request to this server; `attempt` counts from 1."""

    server: str
    attempt: int


class Unreachable(Struct, frozen=True):
    """No connection came about; `seconds` were spent on it."""

    error: RouterError
    seconds: float


class Rejected(Struct, frozen=True):
    """The server refused to start on the request."""

    status: int


class Unable(Struct, frozen=True):
    """The server said why it cannot serve this model, or has no such route. It is remembered, so it says so rarely."""

    status: int
    words: str | None = None


class Lost(Struct, frozen=True):
    """The connection ended before a byte of an answer came, on a server that ends a run with its connection."""

    error: RouterError


class Answered(Struct, frozen=True):
    """The server answered."""

    status: int


class Broken(Struct, frozen=True):
    """The exchange failed after something was sent."""

    error: RouterError


Outcome = Unreachable | Rejected | Unable | Lost | Answered | Broken


class Relay(Struct, frozen=True):
    """Give the client the answer of the last attempt."""

    server: str
    attempts: int


class GiveUp(Struct, frozen=True):
    """No answer; `error` says why."""

    error: RouterError
    attempts: int


Forwarding = Generator[SendTo, Outcome, Relay | GiveUp]


class ForwardingLimits(Struct, frozen=True, kw_only=True):
    """Bounds on one request's attempts, those not counted that ended in `Unable`.

    `connect_seconds` is for all connecting together.
    """

    attempts: int = 3
    connect_seconds: float = 10.0


DEFAULT_LIMITS = ForwardingLimits()


def outcome_of_status(status: int) -> Rejected | Answered:
    """Return what a complete head means for forwarding: with a status of `REJECTIONS` the server did not even start."""
    return Rejected(status) if status in REJECTIONS else Answered(status)


def forward(
    ranking: Sequence[str],
    *,
    limits: ForwardingLimits = DEFAULT_LIMITS,
    may_retry: Callable[[str], bool] = lambda _: True,
) -> Forwarding:
    """Walk a ranking. After a `Rejected`, `may_retry` asks the retry budget for a try on the server that it names.

    What was refused as too much adds to the load elsewhere; what a server lost, or cannot do, has to go somewhere.

    A generator that yields `SendTo` and wants to be sent what came of it. It returns `Relay` or `GiveUp`.
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
    """Relay a server's own refusal, as long as its connection is the last one held; it is a better answer than ours."""
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
