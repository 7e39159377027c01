"""Simulation of a fleet in virtual time with the real decisions.

text of a trace -> `parse_trace` -> `assign_models` -> jobs
machines, models, jobs, a router -> `simulate` -> `summarise` -> `table`, `losses`
"""

from __future__ import annotations

from ollama_router_core.simulation.baselines import BASELINES
from ollama_router_core.simulation.comparison import ROUTERS, bound, compare, serve
from ollama_router_core.simulation.engine import Outcome, SimulationResult, Slowdown, simulate
from ollama_router_core.simulation.fleet_file import parse_fleet
from ollama_router_core.simulation.replay import Placed, Replay, replay
from ollama_router_core.simulation.report import Summary, percentile, summarise, table
from ollama_router_core.simulation.routers import Knowledge, StrategyRouter
from ollama_router_core.simulation.scenarios import FLEET, MODELS, Scenario, make_scenario
from ollama_router_core.simulation.server_hardware import Machine
from ollama_router_core.simulation.what_if import Change, Loss, changed, losses
from ollama_router_core.simulation.workload import (
    Arrival,
    Job,
    SimulatedModel,
    assign_models,
    parse_trace,
    zipf_weights,
)

__all__ = [
    "BASELINES",
    "FLEET",
    "MODELS",
    "ROUTERS",
    "Arrival",
    "Change",
    "Job",
    "Knowledge",
    "Loss",
    "Machine",
    "Outcome",
    "Placed",
    "Replay",
    "Scenario",
    "SimulatedModel",
    "SimulationResult",
    "Slowdown",
    "StrategyRouter",
    "Summary",
    "assign_models",
    "bound",
    "changed",
    "compare",
    "losses",
    "make_scenario",
    "parse_fleet",
    "parse_trace",
    "percentile",
    "replay",
    "serve",
    "simulate",
    "summarise",
    "table",
    "zipf_weights",
]
