"""The strategies: one module each, registered here under its `routing_strategy` name.

Other parts of the router (queueing, prefix tracking) depend on a strategy's properties, not on its name.
`tests/core/routing/test_strategy_registry.py` compares the registry with the names of the setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ollama_router_core.config.settings import StrategyName
from ollama_router_core.routing.strategies.fastest import Fastest
from ollama_router_core.routing.strategies.least_loaded import LeastLoaded
from ollama_router_core.routing.strategies.priority_with_memory import PriorityWithMemory
from ollama_router_core.routing.strategies.round_robin import RoundRobin
from ollama_router_core.routing.strategies.strategy import RankingContext, Strategy

__all__ = ["STRATEGIES", "RankingContext", "Strategy"]

STRATEGIES: Mapping[StrategyName, Strategy[Any]] = {
    "priority_with_memory": PriorityWithMemory(),
    "least_loaded": LeastLoaded(),
    "round_robin": RoundRobin(),
    "fastest": Fastest(),
}
