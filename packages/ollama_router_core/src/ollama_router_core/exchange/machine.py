"""One exchange as a state machine: actions out, results in."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from ollama_router_core.errors import RouterError
from ollama_router_core.exchange.actions import Action, Record, Steps
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.costing import costs_of
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.exchange.error_responses import answer_error
from ollama_router_core.exchange.events import Cancelled, ClientLeft, Interruption, Revoked, Shutdown
from ollama_router_core.exchange.serving import HANDLERS, accept

__all__ = ["CLIENT_LEFT", "Exchange"]

CLIENT_LEFT = 499
"""The logged status of a request whose client disconnected before the response was complete."""


class Exchange:
    """One request, from its head to its record.

    Call `start`, perform the action, and call `resume` with its result or `fail` with its error, until no action is
    left. `interrupt` may replace either, once; the driver then abandons the pending action. `Record` is always the last
    action.

    Attributes:
        resume: takes the result of the last action and returns the next; None at the end.
        fail: takes the error of the last action and returns the next. Both raise an exception that is no `RouterError`,
            after the record.
    """

    __slots__ = ("context", "fail", "resume")

    def __init__(self, environment: Environment, context: RequestContext) -> None:
        steps = _exchange(environment, context)
        self.context = context
        self.resume: Callable[[Any], Action | None] = steps.send
        self.fail: Callable[[BaseException], Action | None] = steps.throw

    def start(self) -> Action | None:
        """Return the first action."""
        return self.resume(None)

    def interrupt(self, reason: Interruption) -> Action | None:
        """End the exchange: return the next action."""
        return self.fail(reason)


def _exchange(environment: Environment, context: RequestContext) -> Generator[Action | None, Any, None]:
    """Serve the request, answer with its error if there is one, and always record it."""
    try:
        request = yield from accept(environment, context)
        yield from HANDLERS[request.endpoint.routing](environment, context, request)
    except (Interruption, RouterError) as reason:
        if not context.finished:
            yield from _end(context, reason)
    except BaseException:
        context.status = context.status or 500
        raise
    finally:
        now = environment.now()
        if context.reservation is not None:
            context.reservation.settle(context.tokens.total)
        if context.observer is not None:
            context.observer.ended(context, now)
        try:  # noqa: SIM105 - a context manager is three more calls for every request
            yield Record(context.record(now, costs_of(environment, context, now)))
        except (Interruption, RouterError):
            pass  # it is over
    yield None


def _end(context: RequestContext, reason: Interruption | RouterError) -> Steps[None]:
    """Answer with the reason, unless the client has left."""
    try:
        match reason:
            case ClientLeft():
                context.status = CLIENT_LEFT
            case Shutdown(error=error) | Revoked(error=error) | Cancelled(error=error):
                yield from answer_error(context, error)
            case RouterError():
                yield from answer_error(context, reason)
    except ClientLeft:
        context.status = CLIENT_LEFT
    except (Interruption, RouterError):
        return  # it is ending already
