"""Who waits, who goes next and where to, who is refused.

How a server drives it (every call returns outcomes, for any ticket in the queue, to be carried out in order):

    arrive(ticket, ...)      -> Dispatch: forward to `ranking` in turn; Refusal: answer with `error`; nothing: wait;
                             Preempt: take that one off its server, if nothing of its answer has come
    first_byte(number, ...)  the answer has begun: the model is loaded there
    preempted(number, ...)   it is off its server, and waits again
    moved(number, server)    forwarding went on to another server of the ranking
    finished(number, ...)    the exchange is over, however it ended
    left(number, ...)        the client is gone: out of the queue, or off its server
    changed(...)             facts about servers changed
    tick(...)                at `next_tick()`: waits end, and one more server is considered
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
