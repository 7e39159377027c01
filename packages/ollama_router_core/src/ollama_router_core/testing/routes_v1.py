"""The OpenAI and Anthropic routes: each converts its request to a native one and responds in its dialect."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from typing import Any

from ollama_router_core.testing.answering import infer
from ollama_router_core.testing.dialect_messages import Messages
from ollama_router_core.testing.dialects import ChatCompletions, Completions
from ollama_router_core.testing.error_replies import ApiError, before_the_handler
from ollama_router_core.testing.exchange import JSON, Exchange
from ollama_router_core.testing.gojson import GoJSONError, Struct, decode
from ollama_router_core.testing.ollama_names import is_cloud, parse_name
from ollama_router_core.testing.request_fields import MESSAGES, OPENAI_CHAT, OPENAI_COMPLETION, OPENAI_EMBED
from ollama_router_core.testing.routes_infer import embed_texts
from ollama_router_core.testing.routes_read import show_model
from ollama_router_core.testing.shared_state import ServerState
from ollama_router_core.testing.translation import chat_from_messages, chat_from_openai, generate_from_openai

__all__ = ["chat_completions", "completions", "embeddings", "messages", "models", "one_model", "v1_body"]


async def v1_body(server: ServerState, exchange: Exchange, shape: Struct) -> dict[str, Any]:
    """Parse the body of a /v1 route, and reject a hosted model first.

    Raises:
        ApiError: 400 with Go's text for an invalid body (`EOF` for an empty one), or the error for ollama.com.
    """
    if (exchange.record.header("Content-Encoding") or "").lower() == "zstd":
        raise ApiError(400, "failed to decompress zstd body")  # a real server can decode it
    try:
        request = decode(await exchange.body(), shape)
    except GoJSONError as error:
        raise ApiError(400, str(error)) from None
    if is_cloud(request.get("model") or ""):
        raise server.engine.cloud_error()
    return request


async def chat_completions(server: ServerState, exchange: Exchange) -> None:
    """/v1/chat/completions."""
    with before_the_handler():
        request = await v1_body(server, exchange, OPENAI_CHAT)
        if not request.get("messages"):
            raise ApiError(400, "[] is too short - 'messages'")
        native = {**chat_from_openai(request), "stream": bool(request.get("stream"))}
    dialect = ChatCompletions(
        identity=server.identity("chatcmpl-"), include_usage=_wants_usage(request), created=_created(server)
    )
    await infer(exchange, server.engine, "chat", native, dialect)


async def completions(server: ServerState, exchange: Exchange) -> None:
    """/v1/completions."""
    with before_the_handler():
        request = await v1_body(server, exchange, OPENAI_COMPLETION)
    native = {**generate_from_openai(request), "stream": bool(request.get("stream"))}
    dialect = Completions(
        identity=server.identity("cmpl-"), include_usage=_wants_usage(request), created=_created(server)
    )
    await infer(exchange, server.engine, "generate", native, dialect)


async def messages(server: ServerState, exchange: Exchange) -> None:
    """/v1/messages."""
    with before_the_handler():
        request = await v1_body(server, exchange, MESSAGES)
        if not request.get("model"):
            raise ApiError(400, "model is required")
        if (request.get("max_tokens") or 0) <= 0:
            raise ApiError(400, "max_tokens is required and must be positive")
        if not request.get("messages"):
            raise ApiError(400, "messages is required")
        native = {**chat_from_messages(request), "stream": bool(request.get("stream"))}
    estimate = max(1, sum(len(str(one.get("content") or "")) for one in native["messages"]) // 4)
    dialect = Messages(identity=server.identity("msg_"), model=request["model"], estimate=estimate)
    await infer(exchange, server.engine, "chat", native, dialect, relaxed=True)


async def embeddings(server: ServerState, exchange: Exchange) -> None:
    """/v1/embeddings."""
    with before_the_handler():
        request = await v1_body(server, exchange, OPENAI_EMBED)
        encoding, wanted = (request.get("encoding_format") or "").lower(), request.get("input")
        if encoding not in {"", "float", "base64"}:
            text = f"Invalid value for 'encoding_format' = {request['encoding_format']}."
            raise ApiError(400, f"{text} Supported values: ['float', 'base64'].")
        if wanted is None or wanted == []:
            raise ApiError(400, "invalid input")
    native = await embed_texts(server, {**request, "input": [""] if wanted == "" else wanted})
    tokens = native["prompt_eval_count"]
    data = [
        {"object": "embedding", "embedding": _encoded(vector, encoding), "index": index}
        for index, vector in enumerate(native["embeddings"])
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    answer = {"object": "list", "data": data, "model": request.get("model") or "", "usage": usage}
    await exchange.json(200, answer, content_type=JSON, newline=True)


async def models(server: ServerState, exchange: Exchange) -> None:
    """/v1/models; an empty list is null."""
    ordered = sorted(server.engine.library, key=lambda one: (-one.modified_at, one.name))
    data = [_model(one.name, one.modified_at) for one in ordered]
    await exchange.json(200, {"object": "list", "data": data or None}, content_type=JSON, newline=True)


async def one_model(server: ServerState, exchange: Exchange) -> None:
    """/v1/models/:model."""
    name = exchange.params["model"]
    found = show_model(server, name)
    await exchange.json(200, _model(name, found.modified_at), content_type=JSON, newline=True)


def _model(name: str, modified_at: float) -> dict[str, Any]:
    parsed = parse_name(name)
    owner = parsed.namespace if parsed else ""
    return {"id": name, "object": "model", "created": int(modified_at), "owned_by": owner}


def _encoded(vector: list[float], encoding: str) -> Any:
    if encoding != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


def _wants_usage(request: Mapping[str, Any]) -> bool:
    return bool((request.get("stream_options") or {}).get("include_usage"))


def _created(server: ServerState) -> int:
    return int(server.engine.clock.now())
