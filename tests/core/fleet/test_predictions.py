"""What Ollama predicts before a load, worked out from what `/api/show` tells, for every model of the shipped table."""

from __future__ import annotations

import json

import pytest

from ollama_router_core.fleet.memory import predicted_vram
from ollama_router_core.fleet.observations import read_show
from ollama_router_core.testing import known_models, model


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
