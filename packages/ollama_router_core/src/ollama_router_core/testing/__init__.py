"""Test doubles: a simulated Ollama server, and a fleet in memory.

`OllamaSimulator` serves HTTP/1.1 on a loopback port, answers like Ollama 0.32, records requests and injects faults.
Three ways to run it::

    async with OllamaSimulator(models=["llama3.1:8b"]) as simulator:  # in this event loop
        ...
    with SimulatorThread(models=["llama3.1:8b"]) as simulator:  # in a thread
        ...

    python -m ollama_router_core.testing --port 11434 --models llama3.1:8b qwen3:8b

`FakeFleet` is several servers without sockets, for programs that use `ollama_router_core.client`.
"""

from __future__ import annotations

from ollama_router_core.testing.fake_fleet import AskedRequest, FakeFleet
from ollama_router_core.testing.faults import (
    Answer,
    Cut,
    Delay,
    Drip,
    EndEarly,
    ExtraHeaders,
    Fault,
    FaultRules,
    Garbage,
    Reset,
    Silence,
    StreamError,
)
from ollama_router_core.testing.recording import RecordedRequest
from ollama_router_core.testing.simulated_models import SimulatedModel, known_models, model
from ollama_router_core.testing.simulator import OllamaSimulator
from ollama_router_core.testing.simulator_settings import Settings
from ollama_router_core.testing.simulator_thread import SimulatorThread

__all__ = [
    "Answer",
    "AskedRequest",
    "Cut",
    "Delay",
    "Drip",
    "EndEarly",
    "ExtraHeaders",
    "FakeFleet",
    "Fault",
    "FaultRules",
    "Garbage",
    "OllamaSimulator",
    "RecordedRequest",
    "Reset",
    "Settings",
    "Silence",
    "SimulatedModel",
    "SimulatorThread",
    "StreamError",
    "known_models",
    "model",
]
