"""One answer to "which server, and why": policy, permission, strategies, what would change it."""

from __future__ import annotations

import json

import pytest

from ollama_router_core.access.grants import Grants
from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.config import load_config
from ollama_router_core.errors import RequestError
from ollama_router_core.fleet.snapshot import FleetSnapshot, InstalledModel, LoadedModel, ServerFacts
from ollama_router_core.routing.explanation import Question, explain
from support.fleets import GIB, LLAMA_8B, installed, loaded, make_config, make_facts, make_fleet

MODEL = canonical_name("llama3.1:8b")
CONFIG = load_config(
    json.dumps(
        {
            "servers": {"big": {"host": "gpu1"}, "old": {"host": "gpu2", "priority": 2}, "off": {"host": "gpu3"}},
            "model_config": {
                "aliases": {"gpt-4": "llama3.1:8b"},
                "rules": [{"pattern": "llama3*", "num_ctx": 8192}],
            },
        }
    )
)
INSTALLED = {MODEL: InstalledModel(name=MODEL, spelling=MODEL, size=4_900_000_000, digest="aa")}
FLEET = FleetSnapshot(
    servers={
        "big": ServerFacts(name="big", up=True, installed=INSTALLED),
        "old": ServerFacts(name="old", up=True, installed=INSTALLED),
        "off": ServerFacts(name="off", up=False, error="refused", installed=INSTALLED),
    }
)


def test_policy_is_applied_before_the_decision():
    """The alias's model and the pinned context are what is decided about, and both changes are told."""
    answer = explain(Question(model="gpt-4", context=32768), FLEET, CONFIG, now=0.0)
    assert (answer["asked"], answer["model"], answer["context"]) == ("gpt-4", "llama3.1:8b", 8192)
    assert len(answer["policy"]) == 2
    assert answer["server"] == "big"
    assert answer["ranking"] == ["big", "old"]
    assert answer["error"] is None


def test_what_would_change_it_names_the_next_and_the_refused():
    """Losing the chosen server leads to the next; a server that is down could take it when it answers again."""
    changes = explain(Question(model="llama3.1:8b"), FLEET, CONFIG, now=0.0)["would_change"]
    assert changes[0] == {"server": "big", "if": "it cannot take it", "then": "old"}
    assert changes[1]["server"] == "off"


def test_no_server_is_an_answer_with_its_error():
    """Status, code and text of what a client would get."""
    answer = explain(Question(model="nobody:1b"), FLEET, CONFIG, now=0.0)
    assert answer["server"] is None
    assert (answer["error"]["status"], answer["error"]["code"]) == (404, "model_not_found")


def test_expected_times_grow_with_the_prompt():
    """With `fastest` every candidate has its terms in seconds; a longer prompt takes longer to read."""
    config = CONFIG.model_copy(update={"routing_strategy": "fastest"})
    short, long = (
        explain(Question(model="llama3.1:8b", prompt_tokens=tokens), FLEET, config, now=0.0)["candidates"][0][
            "expected"
        ]
        for tokens in (100, 10_000)
    )
    assert 0 < short["prefill_seconds"] < long["prefill_seconds"]
    assert short["load_seconds"] > 0


def test_all_strategies_stand_side_by_side():
    """Only when asked for."""
    assert "strategies" not in explain(Question(model="llama3.1:8b"), FLEET, CONFIG, now=0.0)
    answer = explain(Question(model="llama3.1:8b"), FLEET, CONFIG, now=0.0, all_strategies=True)
    assert set(answer["strategies"]) == {"priority_with_memory", "least_loaded", "round_robin", "fastest"}


@pytest.mark.parametrize(("models", "allowed"), [(None, True), (("llama3*",), True), (("gemma*",), False)])
def test_permission_is_for_the_model_that_is_meant(models, allowed):
    """An alias opens nothing: the grant is checked against the model behind it."""
    question = Question(model="gpt-4", user="bob", grants=Grants(models=models))
    assert explain(question, FLEET, CONFIG, now=0.0)["allowed"] is allowed


def test_the_answer_is_json():
    """As it is, without a special encoder."""
    answer = explain(Question(model="llama3.1:8b"), FLEET, CONFIG, now=0.0, all_strategies=True)
    assert json.loads(json.dumps(answer)) == answer


def test_what_is_no_name_is_refused():
    """The same error as a request would get."""
    with pytest.raises(RequestError):
        explain(Question(model="a\x00b"), FLEET, CONFIG, now=0.0)


def test_a_held_conversation_is_a_term_of_the_expected_time():
    """What `fastest` need not read again counts for the server that holds it, and for nobody else."""
    loaded = {MODEL: LoadedModel(name=MODEL, size=5_000_000_000, size_vram=5_000_000_000)}
    warm = {name: ServerFacts(name=name, up=True, installed=INSTALLED, loaded=loaded) for name in ("big", "old")}
    config = CONFIG.model_copy(update={"routing_strategy": "fastest"})
    question = Question(model=MODEL, prompt_tokens=4000, held_by="old")
    answer = explain(question, FleetSnapshot(servers=warm), config, now=0.0)
    terms = {one["server"]: one["expected"] for one in answer["candidates"] if one["expected"]}
    assert answer["server"] == "old"
    assert terms["old"]["affinity_seconds"] == -terms["old"]["prefill_seconds"] < 0
    assert terms["big"]["affinity_seconds"] == 0
    assert "affinity" in answer["reason"]


def test_where_models_are_assumed_to_lie_is_said():
    """For a server with several GPUs: what is free of each, and whether a model's place is told or assumed."""
    known, held = installed("llama3.1:8b", 4_900_000_000, facts=LLAMA_8B), loaded("mistral:7b", 5 * GIB)
    config = make_config({"two": {"gpus": [8.0, 8.0]}})
    fleet = make_fleet(make_facts("two", (known,), (held,)))
    (row,) = explain(Question(model="llama3.1:8b"), fleet, config, now=0.0)["candidates"]
    assert row["forecast"]["gpus"] == {
        "free_bytes": [3 * GIB, 8 * GIB],
        "models": [{"name": "mistral:7b", "bytes": 5 * GIB, "gpu": 0, "assumed": True}],
    }


def test_prediction_and_measurement_stand_side_by_side():
    """What Ollama's rule foretells, what is computed, what /api/ps said, and by how much that differs."""
    known = installed("llama3.1:8b", 4_900_000_000, facts=LLAMA_8B)
    held = loaded("llama3.1:8b", 6_400_000_000, context_length=8192)
    fleet = make_fleet(make_facts("big", (known,), (held,)), make_facts("old", (known,)))
    rows = explain(Question(model="llama3.1:8b"), fleet, CONFIG, now=0.0)["candidates"]
    shown = {row["server"]: row["forecast"] for row in rows}
    assert shown["big"] == {
        "context": 8192,
        "predicted_bytes": 4_900_000_000 + GIB,
        "computed_bytes": shown["old"]["computed_bytes"],
        "measured_bytes": 6_400_000_000,
        "correction": round(6_400_000_000 / shown["old"]["computed_bytes"], 3),
        "gpus": None,
    }
    assert (shown["old"]["measured_bytes"], shown["old"]["correction"]) == (None, None)
    memory = next(row["memory"] for row in rows if row["server"] == "big")
    assert (memory["source"], memory["bytes"]) == ("ps", 6_400_000_000)


def test_how_a_model_fits_is_said_with_its_numbers():
    """It is there, has room, has it once others have gone, or never; each with the limit and what is free."""
    names = {"warm": 24.0, "roomy": 24.0, "taken": 8.0, "tiny": 1.0}
    known = installed("llama3.1:8b", 4_900_000_000, facts=LLAMA_8B)
    held = {
        "warm": (loaded("llama3.1:8b", 6 * GIB),),
        "roomy": (),
        "taken": (loaded("mistral:7b", 5 * GIB),),
        "tiny": (),
    }
    config = make_config({name: {"max_memory_gb": gib} for name, gib in names.items()})
    fleet = make_fleet(*(make_facts(name, (known,), held[name]) for name in names))
    rows = {row["server"]: row for row in explain(Question(model="llama3.1:8b"), fleet, config, now=0.0)["candidates"]}
    assert {name: row["fit"] for name, row in rows.items()} == {
        "warm": "loaded",
        "roomy": "fits",
        "taken": "evicts",
        "tiny": "too_large",
    }
    assert {name: row["limit_bytes"] for name, row in rows.items()} == {n: round(gib * GIB) for n, gib in names.items()}
    assert (rows["taken"]["free_bytes"], rows["roomy"]["free_bytes"]) == (3 * GIB, 24 * GIB)
    assert [one["model"] for one in rows["taken"]["victims"]] == ["mistral:7b"]
    assert rows["taken"]["victims"][0]["reload_seconds"] > 1
    assert rows["tiny"]["victims"] == rows["roomy"]["victims"] == []


def test_another_type_of_kv_cache_is_computed_as_the_servers_would_be_set():
    """Also where it is loaded with the type that the server has; what was measured with the asked type is kept."""
    known = installed("llama3.1:8b", 4_900_000_000, facts=LLAMA_8B)
    held = loaded("llama3.1:8b", 9 * GIB, context_length=32_768)
    config = make_config({"f16": {}, "q8": {"kv_cache_type": "q8_0"}, "cold": {"kv_cache_type": "q8_0"}})
    fleet = make_fleet(*(make_facts(name, (known,), (held,)) for name in ("f16", "q8")), make_facts("cold", (known,)))
    answer = explain(Question(model="llama3.1:8b", context=32_768, kv_type="q8_0"), fleet, config, now=0.0)
    rows = {row["server"]: row for row in answer["candidates"]}
    assert answer["kv_type"] == "q8_0"
    assert rows["f16"]["memory"] == rows["cold"]["memory"]
    assert "KV q8_0 at 32k" in rows["f16"]["memory"]["text"]
    assert (rows["q8"]["memory"]["bytes"], rows["q8"]["memory"]["source"]) == (9 * GIB, "ps")
    assert {name: row["fit"] for name, row in rows.items()} == {"f16": "fits", "q8": "loaded", "cold": "fits"}


def test_a_type_of_kv_cache_is_nothing_to_a_server_without_flash_attention():
    """What was measured there holds on."""
    known = installed("llama3.1:8b", 4_900_000_000, facts=LLAMA_8B)
    held = loaded("llama3.1:8b", 9 * GIB, context_length=32_768)
    config = make_config({"plain": {"flash_attention": False}})
    fleet = make_fleet(make_facts("plain", (known,), (held,)))
    question = Question(model="llama3.1:8b", context=32_768, kv_type="q8_0")
    (row,) = explain(question, fleet, config, now=0.0)["candidates"]
    assert (row["memory"]["bytes"], row["memory"]["source"], row["fit"]) == (9 * GIB, "ps", "loaded")


def test_without_a_type_of_kv_cache_each_server_has_its_own():
    """The same numbers as if its own had been asked for."""
    known = installed("llama3.1:8b", 4_900_000_000, facts=LLAMA_8B)
    config = make_config({"one": {"kv_cache_type": "q4_0"}})
    fleet = make_fleet(make_facts("one", (known,)))
    own, asked = (
        explain(Question(model="llama3.1:8b", kv_type=kind), fleet, config, now=0.0)["candidates"]
        for kind in (None, "q4_0")
    )
    assert own == asked
