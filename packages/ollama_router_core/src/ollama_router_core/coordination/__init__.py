"""State shared by the workers of one machine or by several routers: one interface and its in-process implementation.

Counts are leases, facts are news, figures are published. Decisions are local: they read a member's current state and
never wait for another member. Implementations outside the core do the I/O.
"""

from ollama_router_core.coordination.days import DAYS_KEPT, DayBudget, DayCounts, DayUse
from ollama_router_core.coordination.duties import turn_of
from ollama_router_core.coordination.in_process import InProcess, InProcessMember
from ollama_router_core.coordination.interface import (
    LEASE_SECONDS,
    NO_HEADS,
    NOBODY,
    Admissions,
    Charged,
    Coordination,
    Figure,
    Group,
    Scope,
    Spent,
)
from ollama_router_core.coordination.news import (
    BreakerClosed,
    BreakerOpened,
    FactsChanged,
    LoadBegan,
    News,
    PrefixHeld,
    PromptCounted,
    PromptKept,
    RequestEnded,
    RequestsRefused,
    ServerPolled,
    ServerRenamed,
    SpeedLearned,
    TokenVerified,
    TurnsTaken,
    moved,
    read_news,
    write_news,
)
from ollama_router_core.coordination.one_machine import OneMachineMember
from ollama_router_core.coordination.replica import Replica, Seen
from ollama_router_core.coordination.shared_limits import MINUTE_SECONDS, count_here, share_of, shared_grants

__all__ = [
    "DAYS_KEPT",
    "LEASE_SECONDS",
    "MINUTE_SECONDS",
    "NOBODY",
    "NO_HEADS",
    "Admissions",
    "BreakerClosed",
    "BreakerOpened",
    "Charged",
    "Coordination",
    "DayBudget",
    "DayCounts",
    "DayUse",
    "FactsChanged",
    "Figure",
    "Group",
    "InProcess",
    "InProcessMember",
    "LoadBegan",
    "News",
    "OneMachineMember",
    "PrefixHeld",
    "PromptCounted",
    "PromptKept",
    "Replica",
    "RequestEnded",
    "RequestsRefused",
    "Scope",
    "Seen",
    "ServerPolled",
    "ServerRenamed",
    "SpeedLearned",
    "Spent",
    "TokenVerified",
    "TurnsTaken",
    "count_here",
    "moved",
    "read_news",
    "share_of",
    "shared_grants",
    "turn_of",
    "write_news",
]
