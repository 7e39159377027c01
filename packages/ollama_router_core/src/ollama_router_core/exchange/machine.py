"""One exchange as a machine: actions out, results in."""

from __future__ import annotations

from contextlib import suppress

from ollama_router_core.errors import RouterError
from ollama_router_core.exchange.actions import Action, Cut, Record, Steps
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.exchange.error_responses import answer_error
from ollama_router_core.exchange.events import ClientLeft, Interruption, Revoked, Shutdown
from ollama_router_core.exchange.serving import serve

__all__ = ["CLIENT_LEFT", "Exchange"]

CLIENT_LEFT = 499
"""The status in the record of a request whose client left before the answer was complete."""


class Exchange:
    """One request, from its head to its record.

    Call `start`, carry out the action, and call `resume` with its result or `fail` with the error, until there is no
    action any more. `interrupt` may take the place of either, once; what was being waited for is then given up by the
    driver. The last action is the one `Record`, whatever happens.
    """

    __slots__ = ("_steps", "context")

    def __init__(self, environment: Environment, context: RequestContext) -> None:
        self.context = context
        self._steps = _exchange(environment, context)

    def start(self) -> Action | None:
        """The first action."""
        return self.resume(None)

    def resume(self, result: object) -> Action | None:
        """The next action, after the last one came to this; None at the end."""
        try:
            return self._steps.send(result)
        except StopIteration:
            return None

    def fail(self, error: BaseException) -> Action | None:
        """The next action, after the last one failed.

        Raises:
            Exception: one that is no error of the router's, after the record.
        """
        try:
            return self._steps.throw(error)
        except StopIteration:
            return None

    def interrupt(self, reason: Interruption) -> Action | None:
        """The next action, now that the exchange has to end."""
        return self.fail(reason)


def _exchange(environment: Environment, context: RequestContext) -> Steps[None]:
    """Serve the request, answer with the error if it cannot be served, and record it whatever happens."""
    try:
        yield from serve(environment, context)
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
        with suppress(Interruption, RouterError):  # it is over
            yield Record(context.record(now))


def _end(context: RequestContext, reason: Interruption | RouterError) -> Steps[None]:
    """Tell the client why, as far as there is one."""
    try:
        match reason:
            case ClientLeft():
                context.status = CLIENT_LEFT
            case Shutdown(error=error) if context.head_written:
                context.error = error
                yield Cut()
            case Shutdown(error=error) | Revoked(error=error):
                yield from answer_error(context, error)
            case RouterError():
                yield from answer_error(context, reason)
    except ClientLeft:
        context.status = CLIENT_LEFT
    except (Interruption, RouterError):
        return  # it is ending already


def _settle(context: RequestContext) -> None:
    """What a counted request was taken for is replaced by what it used, as its row tells."""
    if context.reservation is not None:
        context.reservation.settle(context.tokens.total)
