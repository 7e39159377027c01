"""The native routes that use a model: generate, chat, embed, embeddings."""

from __future__ import annotations

from typing import Any

from ollama_router_core.testing.answering import infer
from ollama_router_core.testing.dialects import Native
from ollama_router_core.testing.error_replies import ApiError
from ollama_router_core.testing.exchange import Exchange
from ollama_router_core.testing.generation import count_tokens, embedding
from ollama_router_core.testing.inference import Job, keep_alive_seconds
from ollama_router_core.testing.load_options import load_options
from ollama_router_core.testing.ollama_names import trimmed
from ollama_router_core.testing.request_fields import CHAT, EMBED, EMBEDDINGS, GENERATE
from ollama_router_core.testing.shared_state import ServerState, native_body
from ollama_router_core.testing.simulated_models import SimulatedModel

__all__ = ["chat", "embed", "embed_texts", "embeddings", "generate"]


async def generate(server: ServerState, exchange: Exchange) -> None:
    """/api/generate."""
    await infer(exchange, server.engine, "generate", await native_body(exchange, GENERATE), Native())


async def chat(server: ServerState, exchange: Exchange) -> None:
    """/api/chat."""
    await infer(exchange, server.engine, "chat", await native_body(exchange, CHAT), Native())


async def embed(server: ServerState, exchange: Exchange) -> None:
    """/api/embed."""
    await exchange.json(200, await embed_texts(server, await native_body(exchange, EMBED)))


async def embeddings(server: ServerState, exchange: Exchange) -> None:
    """/api/embeddings, deprecated: a single vector, case-sensitive names."""
    request = await native_body(exchange, EMBEDDINGS)
    name, prompt = request.get("model") or "", request.get("prompt") or ""
    if not trimmed(name):
        raise ApiError(400, "model is required")
    model = server.engine.find(name, quoted_hint=True)
    if server.engine.library.find(name, exact_case=True) is None:
        raise ApiError(404, f'model "{name}" not found, try pulling it first')
    try:
        vectors, _ = await _vectors(server, model, request, [prompt] if prompt else [])
    except ApiError as error:
        raise ApiError(500, error.message) from None  # whatever went wrong
    await exchange.json(200, {"embedding": vectors[0] if vectors else []})


async def embed_texts(server: ServerState, request: dict[str, Any]) -> dict[str, Any]:
    """Return the /api/embed response to a native request.

    Raises:
        ApiError: the model is unknown, or the input is not text or too long.
    """
    texts, name = _inputs(request.get("input")), request.get("model") or ""
    model = server.engine.find(name, quoted_hint=True)
    if not texts:
        return {"model": name, "embeddings": []}
    limit = load_options(model, server.settings, request.get("options")).num_ctx
    if request.get("truncate") is False and any(count_tokens(text) > limit for text in texts):
        raise ApiError(400, "the input length exceeds the context length")
    vectors, load = await _vectors(server, model, request, texts)
    tokens = sum(min(count_tokens(text), limit) for text in texts)
    return {
        "model": name,
        "embeddings": vectors,
        "total_duration": round((load + tokens / model.prefill_speed) * 1e9),
        "load_duration": round(load * 1e9),
        "prompt_eval_count": tokens,
    }


async def _vectors(
    server: ServerState, model: SimulatedModel, request: dict[str, Any], texts: list[str]
) -> tuple[list[list[float]], float]:
    """Return a vector for each text, and the load time in seconds; holds a slot during the prefill time."""
    dimensions = request.get("dimensions") or 0
    length = min(dimensions, model.embedding_length) if dimensions > 0 else model.embedding_length
    job = Job(
        kind="generate",
        model=model,
        named=model.name,
        options=load_options(model, server.settings, request.get("options")),
        keep_alive=keep_alive_seconds(request.get("keep_alive")),
        script=None,
    )
    async with server.engine.lease(job) as lease:
        if "embedding" not in model.capabilities and server.settings.at_least(0, 30):
            raise ApiError(501, "This server does not support embeddings. Start it with `--embeddings`")
        pacer = server.engine.clock.pacer()
        await pacer.spend(sum(map(count_tokens, texts)) / model.prefill_speed)
        return [embedding(text, length) for text in texts], lease.load_seconds


def _inputs(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return value
    if value is None:
        return []
    raise ApiError(400, "invalid input type")
