"""Another world: more servers, other slots, another patience; and who is worse off there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ollama_router_core.config.settings import Config
from ollama_router_core.errors import ConfigError
from ollama_router_core.simulation.comparison import compare
from ollama_router_core.simulation.report import Summary
from ollama_router_core.simulation.routers import Knowledge
from ollama_router_core.simulation.scenarios import FLEET, MODELS, Scenario
from ollama_router_core.simulation.what_if import Change, changed, losses
from ollama_router_core.simulation.workload import Job

JOBS = tuple(
    Job(number=number, at=float(number), model=MODELS[number % 2].name, prompt_tokens=500, output_tokens=50)
    for number in range(20)
)
SCENARIO = Scenario(name="few", machines=FLEET[:2], models=MODELS, jobs=JOBS)


def test_one_more_is_like_the_one_it_is_named_after():
    """Under a name of its own; a second one gets the next."""
    world = changed(SCENARIO, Change(more=("mid1", "mid1")))
    *_, second, third = world.machines
    assert [second.name, third.name] == ["mid1-2", "mid1-3"]
    assert replace(third, name="mid1") == FLEET[1]


@pytest.mark.parametrize("configured", [False, True])
def test_a_server_with_another_gpu(configured):
    """As fast as that is, known by its memory where the router has a config; what fits on it is there."""
    config = Config.model_validate({"servers": {one.name: {"host": one.name} for one in SCENARIO.machines}})
    scenario = replace(SCENARIO, knowledge=Knowledge(config=config)) if configured else SCENARIO
    change = Change(gpus=("rtx-4090", "rtx-4090"))
    assert str(change) == "2 more rtx-4090"
    world = changed(scenario, change)
    *_, one, two = world.machines
    assert (one.name, one.vram_gib, one.bandwidth, one.tflops) == ("rtx-4090", 24, 1010, 82.58)
    assert two == replace(one, name="rtx-4090-2")
    if world.knowledge.config is not None:
        assert world.knowledge.config.servers["rtx-4090"].gpus == (24,)
    before, after = compare(scenario, ["least_loaded"], change)
    assert after.requests == before.requests == len(JOBS)
    assert after.utilisation > 0


def test_a_server_with_typed_figures():
    """As one with a GPU that is known by its name; what is neither is refused."""
    *_, one = changed(SCENARIO, Change(gpus=("24, 1010, 82.6",))).machines
    assert (one.name, one.vram_gib, one.bandwidth, one.tflops) == ("gpu-24gib", 24, 1010, 82.6)
    for wrong in ("24,1010", "24,nan,80", "24,inf,80", "0,1,1", "abacus"):
        with pytest.raises(ConfigError, match="is neither a known GPU"):
            changed(SCENARIO, Change(gpus=(wrong,)))


def test_a_server_with_one_more_model_on_disk():
    """Requests for it go there, too; a model that nobody asked for, or a server that is not there, is an error."""
    name = MODELS[0].name
    bare = replace(FLEET[1], installed=frozenset({MODELS[1].name}))
    scenario = replace(SCENARIO, machines=(FLEET[0], bare))
    change = Change(put=((bare.name, str(name)),))
    assert str(change) == f"{name} on {bare.name}"
    assert changed(scenario, change).machines[1].installed == {name, MODELS[1].name}
    for wrong in (Change(put=((bare.name, "gone:1b"),)), Change(put=(("gone", str(name)),))):
        with pytest.raises(ConfigError, match="gone"):
            changed(scenario, wrong)


def test_the_figures_of_models_add_up():
    """Requests, loads and refusals of all models are those of the world; busy shares are within its own."""
    (told,) = compare(SCENARIO, ["least_loaded"])
    models = told.by_model.values()
    assert sum(one.requests for one in models) == told.requests
    assert sum(one.loads for one in models) == told.loads
    assert sum(one.refused for one in models) == told.refused
    assert max(one.busy for one in models) <= told.utilisation <= sum(one.busy for one in models)
    assert {name: one.p95 for name, one in told.by_model.items()} == told.models


@pytest.mark.parametrize("configured", [False, True])
def test_a_server_that_is_off_takes_nothing(configured):
    """What it had is done by the others, or refused; the router is told, so that nothing waits for it."""
    config = Config.model_validate({"servers": {one.name: {"host": one.name} for one in SCENARIO.machines}})
    scenario = replace(SCENARIO, knowledge=Knowledge(config=config)) if configured else SCENARIO
    change = Change(off=("mid1",))
    assert str(change) == "without mid1"
    world = changed(scenario, change)
    assert [one.name for one in world.machines] == ["big"]
    if world.knowledge.config is not None:
        enabled = {name: one.enabled for name, one in world.knowledge.config.servers.items()}
        assert enabled == {"big": True, "mid1": False}
    before, after = compare(scenario, ["least_loaded"], change)
    assert after.requests == before.requests == len(JOBS)


def test_what_cannot_be_off_is_an_error():
    """A server that is not there, and the last one."""
    with pytest.raises(ConfigError, match="no server mac to remove; known: big, mid1"):
        changed(SCENARIO, Change(off=("mac",)))
    with pytest.raises(ConfigError, match="no server would be left"):
        changed(SCENARIO, Change(off=("big", "mid1")))


def test_what_cannot_be_added_is_an_error():
    """It says what there is."""
    with pytest.raises(ConfigError, match=r"abacus is neither a known GPU .*; known: p40, "):
        changed(SCENARIO, Change(gpus=("abacus",)))
    with pytest.raises(ConfigError, match="no server mac to duplicate; known: big, mid1"):
        changed(SCENARIO, Change(more=("mac",)))


@pytest.mark.parametrize("configured", [False, True])
def test_the_router_is_told(configured):
    """Of slots, patience and servers, whether it goes by a config or by what `orouter init` writes."""
    config = Config.model_validate({"servers": {one.name: {"host": one.name} for one in SCENARIO.machines}})
    scenario = replace(SCENARIO, knowledge=Knowledge(config=config)) if configured else SCENARIO
    world = changed(scenario, Change(num_parallel=4, max_wait=7.0, more=("big",)))
    knows = world.knowledge
    assert {one.num_parallel for one in world.machines} == {4}
    if knows.config is not None:
        assert {name: one.num_parallel for name, one in knows.config.servers.items()} == dict.fromkeys(
            ("big", "mid1", "big-2"), 4
        )
        assert knows.config.queue.max_wait == 7.0
    else:
        assert knows.servers == {name: {"num_parallel": 4} for name in ("big", "mid1", "big-2")}
        assert knows.settings["queue"] == {"max_wait": 7.0}


def test_a_change_is_named_beside_the_world_as_it_is():
    """Both are served by the same router; without a change there is one world."""
    names = [one.router for one in compare(SCENARIO, ["least_loaded"], Change(num_parallel=2, more=("big", "big")))]
    assert names == ["least_loaded", "least_loaded, 2 more big, num_parallel 2"]
    assert [one.router for one in compare(SCENARIO, ["least_loaded"], Change())] == ["least_loaded"]


def summary(models: dict[str, float], users: dict[str, float]) -> Summary:
    """One with these waits."""
    (found,) = compare(SCENARIO, ["random"])
    return replace(found, models=models, users=users)


def test_losses_are_named_the_greatest_first():
    """Models and users; neither what nobody could tell, nor what only one of the worlds has."""
    before = summary({"a": 10.0, "b": 10.0, "c": 0.1}, {"ada": 10.0, "bob": 100.0})
    after = summary({"a": 12.0, "b": 9.0, "c": 1.0, "d": 99.0}, {"ada": 30.0, "bob": 104.0})
    found = losses(before, after)
    assert [(one.kind, one.name) for one in found] == [("user", "ada"), ("model", "a")]
    assert str(found[1]) == "model a 10.0 -> 12.0"


def test_who_is_refused_more_has_lost():
    """However short the wait of those who are served: they come first."""
    plain = summary({"a": 10.0, "b": 10.0}, {"ada": 10.0, "bob": 10.0})
    before = replace(plain, refused_models={"b": 2}, refused_users={"bob": 2})
    after = replace(before, models={"a": 5.0, "b": 90.0}, refused_models={"a": 3, "b": 1}, refused_users={"ada": 4})
    found = losses(before, after)
    assert [(one.kind, one.name, one.refused) for one in found] == [
        ("user", "ada", 4),
        ("model", "a", 3),
        ("model", "b", 0),
    ]
    assert str(found[1]) == "model a 10.0 -> 5.0, 3 more refused"


def test_a_single_user_is_everybody():
    """Not a person who has lost."""
    assert losses(summary({}, {"": 1.0}), summary({}, {"": 9.0})) == ()
