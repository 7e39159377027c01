"""The registry of strategies: what a new one has to be registered in, and that nobody asks for one by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from ollama_router_core.config.settings import StrategyName
from ollama_router_core.routing.strategies import STRATEGIES
from ollama_router_core.simulation.comparison import ROUTERS

PACKAGES = Path(__file__).parents[3] / "packages"
QUOTED = re.compile("|".join(f'"{name}"' for name in STRATEGIES))
MAY_NAME = {"config/settings.py", "config/starter.py", "routing/strategies/__init__.py"}


class TestRegistry:
    """One module and one registration each; the setting's names are the registry's."""

    def test_every_name_of_the_setting_is_registered(self):
        """A strategy that is configured exists, and one that exists can be configured."""
        assert list(STRATEGIES) == list(get_args(StrategyName))

    def test_every_strategy_can_be_simulated(self):
        """`orouter simulate` compares whatever is registered."""
        assert set(STRATEGIES) <= set(ROUTERS)

    def test_nobody_else_asks_for_a_strategy_by_name(self):
        """What depends on the strategy is a property of it, so that a new one needs no edit elsewhere."""
        naming = {
            "/".join(path.parts[path.parts.index("src") + 2 :])
            for path in PACKAGES.glob("*/src/**/*.py")
            if QUOTED.search(path.read_text(encoding="utf-8"))
        }
        assert naming == MAY_NAME
