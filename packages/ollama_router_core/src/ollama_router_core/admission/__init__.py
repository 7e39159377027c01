"""Who waits, who goes next and where to, who is refused.

How a server drives it (every call returns outcomes, for any ticket in the line, to be carried out in order):

    arrive(ticket, ...)      -> Dispatch: forward to `ranking` in turn; Refusal: answer with `error`; nothing: wait
    first_byte(number, ...)  the answer has begun: the model is loaded there
    moved(number, server)    forwarding went on to another server of the ranking
    finished(number, ...)    the exchange is over, however it ended
    left(number, ...)        the client is gone: out of the line, or off its server
    changed(...)             facts about servers changed
    tick(...)                at `next_tick()`: waits end, and some thoughts are better had twice
"""

from __future__ import annotations

from ollama_router_core.admission.coordinator import Admission
from ollama_router_core.admission.demand import Demand
from ollama_router_core.admission.line import Line
from ollama_router_core.admission.tickets import Dispatch, Outcome, Refusal, Ticket

__all__ = ["Admission", "Demand", "Dispatch", "Line", "Outcome", "Refusal", "Ticket"]
