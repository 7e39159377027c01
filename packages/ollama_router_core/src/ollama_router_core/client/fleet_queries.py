"""A transport's queries of its servers, as steps that a driver runs in the background."""

from __future__ import annotations

from ollama_router_core.client.transport_state import State
from ollama_router_core.errors import ConnectFailed, RouterError, UpstreamTimeout
from ollama_router_core.exchange.actions import Steps
from ollama_router_core.exchange.asking import Reply, ask_all, own_request
from ollama_router_core.fleet.inventory import PollReply, PollRequest, poll_models
from ollama_router_core.fleet.load_probes import LoadProbe
from ollama_router_core.responses.server_documents import LONGEST_DOCUMENT, words_of

__all__ = ["query_server", "send_load_probe"]

_PROBE = PollRequest("GET", "/api/version")


def query_server(state: State, name: str) -> Steps[LoadProbe | None]:
    """Query one server: a probe, its installed and loaded models, and the facts of new ones.

    Return the load probe that is due afterwards, if any.
    """
    fleet, now = state.fleet, state.clock.monotonic
    try:
        started = now()
        reply = yield from _ask(state, name, _PROBE, state.probe_seconds)
        if fleet.probe_answered(name, reply.status, reply.body, seconds=now() - started):
            yield from _poll_models(state, name)
    except RouterError as error:
        fleet.probe_failed(name, error.message, refused=isinstance(error, ConnectFailed))
    finally:
        fleet.unclaim(name)
    return fleet.load_probe_after_poll(name)


def send_load_probe(state: State, probe: LoadProbe) -> Steps[None]:
    """Request one token from a runner that seems stuck, and record the outcome."""
    error: str | None = "the transport was closed meanwhile"
    try:
        question = PollRequest("POST", probe.path, probe.body)
        reply = yield from _ask(state, probe.server, question, probe.seconds)
        destination = state.environment.destinations[probe.server]
        error = None if reply.status == 200 else words_of(reply.status, destination.redact(reply.body))
    except RouterError as failure:
        error = failure.message
    finally:
        state.fleet.load_probe_ended(probe, error)


def _poll_models(state: State, name: str) -> Steps[None]:
    fleet, clock = state.fleet, state.clock
    stock = poll_models(name, fleet, state.config.models, now=clock.monotonic())
    try:
        question = next(stock)
        while True:
            if question.path == "/api/show":  # the facts for a decision are complete
                fleet.known(name)
            told: PollReply | None = None
            asked = clock.monotonic()
            try:
                reply = yield from _ask(state, name, question)
            except UpstreamTimeout:
                if not question.may_stall:
                    raise  # the server may have stalled right after its probe
            except RouterError:
                pass
            else:
                told = PollReply(reply.status, reply.body, clock.monotonic(), clock.wall(), asked)
                if question.method == "GET" and reply.ok:
                    fleet.remember(name, question.path, reply.body)
            question = stock.send(told)
    except StopIteration as stop:
        if stop.value is not None:
            fleet.is_no_ollama(name, stop.value)


def _ask(state: State, name: str, question: PollRequest, seconds: float | None = None) -> Steps[Reply]:
    """Send one query.

    Raises:
        UpstreamError: there was no response.
    """
    request = own_request(state.environment, name, question.method, question.path, body=question.body, seconds=seconds)
    (reply,) = yield from ask_all(state.environment, (request,), longest=LONGEST_DOCUMENT)
    if isinstance(reply, RouterError):
        raise reply
    return reply
