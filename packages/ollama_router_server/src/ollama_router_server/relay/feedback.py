"""What our own traffic shows about a server: loads begun and ended, models gone, how fast it is."""

from __future__ import annotations

from functools import partial
from typing import Final

from msgspec import Struct

from ollama_router_core.api.endpoints import Kind
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.fleet.traffic import inferred_model, observe_answered, sample_of, shows_nothing_new
from ollama_router_core.responses.usage import Usage
from ollama_router_core.routing.expected_time import BYTES_A_TOKEN
from ollama_router_server.fleet.service import FleetService
from ollama_router_server.relay.exchange import Exchange

__all__ = ["Sent", "note_answered", "note_finished", "note_sent"]

_INFER: Final = Kind.INFER  # looking a member up costs as much as a call


class Sent(Struct, frozen=True):
    """What was so when a request left: `loads` says that it began the only load there, `running` counts it too."""

    server: str
    model: CanonicalName | None
    loads: bool
    running: int


def note_sent(fleet: FleetService, server: str, request: ParsedRequest) -> Sent:
    """A request is on its way: if its model is not in memory there, it is being loaded from now on."""
    model = inferred_model(request)
    if model is None:
        return Sent(server, None, loads=False, running=0)
    loads = fleet.sent(server, model, request.route.num_ctx)
    return Sent(server, model, loads=loads, running=fleet.running(server))


def note_finished(fleet: FleetService, sent: Sent, exchange: Exchange) -> None:
    """An answer came to its end: its metrics say how fast the server is."""
    if sent.model is None or exchange.usage is None:
        return
    usage = exchange.usage.usage
    if exchange.conversation is not None:
        fleet.holds(sent.server, sent.model, exchange.conversation, _held_tokens(exchange, usage))
    was_held = exchange.prefix is not None and exchange.prefix.server == sent.server
    beside = (sent.running + fleet.running(sent.server)) / 2 - 1
    sample = sample_of(usage, loaded=sent.loads, prompt_held=was_held, neighbours=beside)
    if sample is not None:
        fleet.learn(sent.server, sent.model, sample)


def _held_tokens(exchange: Exchange, usage: Usage) -> int:
    """Prompt and answer. Some versions count only what they had to read of a prompt, so its length is a bound below."""
    length = 0 if exchange.route is None else exchange.route.prompt_bytes // BYTES_A_TOKEN
    return max(usage.prompt_tokens or 0, length) + (usage.completion_tokens or 0)


def note_answered(fleet: FleetService, server: str, request: ParsedRequest, status: int) -> None:
    """The head of an answer came: the model is in memory, or unloaded, or not there at all."""
    if request.route.model is None or request.endpoint.kind is not _INFER:
        return
    facts = fleet.servers.get(server)
    if facts is None or shows_nothing_new(facts, request, status):
        return
    change = partial(observe_answered, request=request, status=status, now=fleet.now())
    if fleet.update(server, change) and inferred_model(request) is not None and status == 200:
        fleet.measure_soon(server)
    if status == 404:
        fleet.refresh_soon(server)
