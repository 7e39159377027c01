"""What Ollama predicts before a load, worked out from what `/api/show` tells, for every model of the shipped table."""

from __future__ import annotations

import json

import pytest

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.config.settings import Server
from ollama_router_core.fleet.memory.forecasts import forecast_memory
from ollama_router_core.fleet.memory.formulas import KV_BYTES, kv_cache_size, predicted_vram
from ollama_router_core.fleet.server_replies import read_show
from ollama_router_core.testing import known_models, model
from support.fleets import installed, make_facts, make_fleet


@pytest.mark.parametrize("context", [4096, 32_768, 262_144])
@pytest.mark.parametrize("name", known_models())
def test_the_prediction_is_ollama_s_own(name: str, context: int) -> None:
    """File size + 2 x blocks x least KV heads x head width x context x 2 bytes; f16 whatever the cache's type is.

    The context is at most what the model was made for. Source: llm/llama_server.go, PredictServerVRAM.
    """
    one = model(name)
    show = json.dumps({"model_info": one.model_info(verbose=False), "capabilities": list(one.capabilities)}).encode()
    width = one.embedding_length // one.head_count
    tokens = min(context, one.context_length)
    expected = one.size + 2 * one.block_count * max(1, one.head_count_kv) * width * tokens * 2
    assert predicted_vram(one.size, read_show(show), context) == expected
    assert len(known_models()) >= 20


@pytest.mark.parametrize("kind", ["f16", "q8_0", "q4_0"])
@pytest.mark.parametrize("context", [4096, 32_768, 131_072])
@pytest.mark.parametrize("name", known_models())
def test_explain_shows_ollama_s_prediction_whatever_the_type_of_the_cache(name: str, context: int, kind: str) -> None:
    """Within a tenth of Ollama's formula, which knows f16 only; what is computed follows the type."""
    one, host = model(name), Server.model_validate({"host": "a", "kv_cache_type": kind, "num_parallel": 1})
    show = json.dumps({"model_info": one.model_info(verbose=False), "capabilities": list(one.capabilities)}).encode()
    facts = read_show(show)
    server = make_facts("a", (installed(name, one.size, facts=facts, family=one.family),))
    forecast = forecast_memory(canonical_name(name), server, make_fleet(server), num_ctx=context, host=host)
    assert forecast is not None
    width, tokens = one.embedding_length // one.head_count, min(context, one.context_length)
    expected = one.size + 2 * one.block_count * max(1, one.head_count_kv) * width * tokens * 2
    assert forecast.predicted == pytest.approx(expected, rel=0.1)
    cache = kv_cache_size(facts, tokens, element_bytes=KV_BYTES[kind])
    assert cache is not None
    assert forecast.computed >= one.size + cache
