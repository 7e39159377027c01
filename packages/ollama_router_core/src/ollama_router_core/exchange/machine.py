"""One exchange as a machine: actions out, results in."""

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
"""The status in the record of a request whose client left before the answer was complete."""


class Exchange:
    """One request, from its head to its record.

    Call `start`, carry out the action, and call `resume` with its result or `fail` with the error, until there is no
    action any more. `interrupt` may take the place of either, once; what was being waited for is then given up by the
    driver. The last action is the one `Record`, whatever happens.

    Attributes:
        resume: returns the next action, after the last one came to its result; None at the end.
        fail: returns the next action, after the last one failed. Either raises what is no error of the router's, after
            the record.
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
        """Return the next action, now that the exchange has to end."""
        return self.fail(reason)


def _exchange(environment: Environment, context: RequestContext) -> Generator[Action | None, Any, None]:
    """Serve the request, answer with the error if it cannot be served, and record it whatever happens."""
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
        _settle(context)
        if context.observer is not None:
            context.observer.ended(context, now)
        try:  # noqa: SIM105 - a context manager is three more calls for every request
            yield Record(context.record(now, costs_of(environment, context, now)))
        except (Interruption, RouterError):
            pass  # it is over
    yield None


def _end(context: RequestContext, reason: Interruption | RouterError) -> Steps[None]:
    """Tell the client why, as far as there is one."""
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


def _settle(context: RequestContext) -> None:
    """Replace what a counted request was taken for by what it used, as its row tells."""
    if context.reservation is not None:
        context.reservation.settle(context.tokens.total)
