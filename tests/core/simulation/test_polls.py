"""When a simulated router asks its servers what they hold."""

from __future__ import annotations

from dataclasses import replace

from ollama_router_core.simulation.engine import simulate
from ollama_router_core.simulation.polls import Polls
from ollama_router_core.simulation.routers import StrategyRouter
from ollama_router_core.simulation.scenarios import FLEET, MODELS
from ollama_router_core.simulation.server_state import ServerState
from ollama_router_core.simulation.workload import Job


def test_a_server_is_asked_every_second_while_it_loads(monkeypatch):
    """Until the load is seen to be over, which is before the first byte of a long prompt; else as the config says."""
    asked = []

    def ask(self, fleet, name, now, real=Polls.ask):
        real(self, fleet, name, now)
        asked.append((now, name, bool(fleet.servers[name].loading)))

    monkeypatch.setattr(Polls, "ask", ask)
    machine, model = FLEET[3], MODELS[0]
    job = Job(number=0, at=2.5, model=model.name, prompt_tokens=4000, output_tokens=300)
    simulate(StrategyRouter("fastest", [machine]), [machine], MODELS, [job])
    load = machine.load_seconds(model)
    times = [at for at, _, _ in asked if at > 0]
    assert times[: int(load) + 1] == [3.5 + second for second in range(int(load) + 1)]
    seen = next(at for at, _, loading in asked if at > 0 and not loading)
    assert 2.5 + load <= seen < 2.5 + load + 1 < 2.5 + load + machine.prefill_seconds(model, 4000)
    assert times[times.index(seen) + 1] in {seen + 10.0, 2.5 + load + machine.prefill_seconds(model, 4000)}


def test_a_server_tells_what_its_models_are():
    """Family, format and longest context of a model, and the context that one is loaded with."""
    model = replace(MODELS[0], family="qwen3vl", format="gguf", context_length=8192)
    router, server = StrategyRouter("fastest", [FLEET[0]]), ServerState(FLEET[0], {model.name: model}.__getitem__)
    router.start({"big": server}, {model.name: model})
    server.submit(Job(number=0, at=0.0, model=model.name, prompt_tokens=10, output_tokens=10), 0.0)
    server.advance(server.next_event())
    router.wake(server.now + 10)
    facts = router.snapshot(server.now + 10).servers["big"]
    installed, loaded = facts.installed[model.name], facts.loaded[model.name]
    assert (installed.family, installed.format, installed.context_length) == ("qwen3vl", "gguf", 8192)
    assert loaded.context_length == 8192
