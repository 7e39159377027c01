"""Try servers in turn: one generator that server and client drive alike.

    the generator yields            the driver answers with
    SendTo(server, attempt)         Unreachable    nothing was sent: another server may be tried
                                    Rejected       a complete head with 429, 503 or 529: not processed, another may be
                                    Answered       any other head: this is the answer
                                    Broken         anything may have happened to the request: no second try

and it returns `Relay` (give the client the answer that the last attempt holds) or `GiveUp` (with the error). A server
is tried at most once. Rules: RFC 9110 9.2.2 (no automatic retry of what may have run).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import assert_never

from msgspec import Struct

from ollama_router_core.errors import ConnectFailed, NoServerFits, RouterError

__all__ = [
    "REJECTIONS",
    "Answered",
    "Broken",
    "Forwarding",
    "ForwardingLimits",
    "GiveUp",
    "Outcome",
    "Rejected",
    "Relay",
    "SendTo",
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


class Answered(Struct, frozen=True):
    """The server answered."""

    status: int


class Broken(Struct, frozen=True):
    """The exchange failed after something was sent."""

    error: RouterError


Outcome = Unreachable | Rejected | Answered | Broken


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
    """Bounds on one request's attempts; `connect_seconds` is for all connecting together."""

    attempts: int = 3
    connect_seconds: float = 10.0


DEFAULT_LIMITS = ForwardingLimits()


def outcome_of_status(status: int) -> Rejected | Answered:
    """What a complete head means for forwarding: a status of `REJECTIONS` says that the server did not even start."""
    return Rejected(status) if status in REJECTIONS else Answered(status)


def forward(
    ranking: Sequence[str],
    *,
    limits: ForwardingLimits = DEFAULT_LIMITS,
    may_retry: Callable[[], bool] = lambda: True,
) -> Forwarding:
    """Walk a decision's ranking. `may_retry` asks the retry budget before every attempt but the first.

    A generator that yields `SendTo` and wants to be sent what came of it: `Unreachable`, `Rejected`, `Answered` or
    `Broken`. It returns `Relay` or `GiveUp`. Only after the first two of these does it go on.
    """
    connecting = 0.0
    attempts = 0
    last: Unreachable | Rejected | None = None
    holder = ""
    for server in tuple(dict.fromkeys(ranking))[: limits.attempts]:
        if attempts and (connecting >= limits.connect_seconds or not may_retry()):
            break
        attempts += 1
        outcome = yield SendTo(server, attempts)
        match outcome:
            case Answered():
                return Relay(server, attempts)
            case Broken():
                return GiveUp(outcome.error, attempts)
            case Rejected():
                holder, last = server, outcome
            case Unreachable():
                connecting += outcome.seconds
                last = outcome
            case _:
                assert_never(outcome)
    return _exhausted(last, holder, attempts)


def _exhausted(last: Unreachable | Rejected | None, holder: str, attempts: int) -> Relay | GiveUp:
    """A server's own refusal is a better answer than ours, as long as its connection is the last one held."""
    match last:
        case Rejected():
            return Relay(holder, attempts)
        case Unreachable():
            return GiveUp(_unreachable(last, attempts), attempts)
        case None:
            return GiveUp(NoServerFits("no server was left to try", retry_after=5), attempts)
        case _:
            assert_never(last)


def _unreachable(last: Unreachable, attempts: int) -> RouterError:
    tried = "1 server was tried" if attempts == 1 else f"{attempts} servers were tried"
    return ConnectFailed(f"no server could be reached ({tried}, the last: {last.error.message})", retry_after=5)
