"""Admission: which requests wait, which go next and to which server, and which are refused.

A server makes these calls. Each returns outcomes, for any ticket in the queue, to carry out in order:

    arrive(ticket, ...)      -> Dispatch: try the servers of `ranking` in order; Refusal: answer with `error`; none:
                             wait; Preempt: remove that ticket from its server, unless its response has begun
    first_byte(number, ...)  the response has begun: the model is loaded there
    preempted(number, ...)   the ticket has left its server, and waits again
    moved(number, server)    a retry went to another server of the ranking
    finished(number, ...)    the exchange has ended, with or without success
    left(number, ...)        the client disconnected: leave the queue, or the server
    changed(...)             facts about servers changed
    tick(...)                at `next_tick()`: end expired waits, and reconsider one server
"""

from __future__ import annotations

from ollama_router_core.admission.arrival_rates import ArrivalRates
from ollama_router_core.admission.coordinator import Admission
from ollama_router_core.admission.tickets import Dispatch, Outcome, Preempt, Refusal, Ticket, WaitingGroup
from ollama_router_core.admission.wait_forecasts import WaitForecasts
from ollama_router_core.admission.wait_queue import WaitQueue

__all__ = [
    "Admission",
    "ArrivalRates",
    "Dispatch",
    "Outcome",
    "Preempt",
    "Refusal",
    "Ticket",
    "WaitForecasts",
    "WaitQueue",
    "WaitingGroup",
]
