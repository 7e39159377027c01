"""Embeddings of `/api/embed` and of the older `/api/embeddings`, which accepts one text."""

from __future__ import annotations

from typing import Any

from ollama_router_core.translate.conversation import ReplyOptions
from ollama_router_core.translate.embeddings import (
    EmbeddingReply,
    EmbeddingRequest,
    read_inputs,
    read_vector,
    vector_list,
)
from ollama_router_core.translate.errors import UntranslatableReply, UntranslatableRequest
from ollama_router_core.translate.json_reader import Dropped, JsonReader
from ollama_router_core.translate.lenient_json import count_of
from ollama_router_core.translate.ollama.replies import read_timings
from ollama_router_core.translate.replies import ReplyIdentity, Timings

__all__ = [
    "read_embed",
    "read_embed_reply",
    "read_embeddings",
    "read_embeddings_reply",
    "write_embed_reply",
    "write_embeddings",
    "write_embeddings_reply",
]

_MACHINE_KEYS = ("options", "keep_alive", "truncate")


def read_embed(body: JsonReader) -> EmbeddingRequest:
    """Parse an `/api/embed` request.

    Raises:
        UntranslatableRequest: a value has the wrong type, or there is no text.
    """
    body.drop(*_MACHINE_KEYS)
    return EmbeddingRequest(inputs=read_inputs(body, "input"), dimensions=body.whole("dimensions"))


def read_embeddings(body: JsonReader) -> EmbeddingRequest:
    """Parse an `/api/embeddings` request.

    Raises:
        UntranslatableRequest: a value has the wrong type, or there is no text.
    """
    body.drop(*_MACHINE_KEYS)
    return EmbeddingRequest(inputs=read_inputs(body, "prompt"))


def write_embeddings(request: EmbeddingRequest, dropped: Dropped) -> dict[str, Any]:
    """Return the body of an `/api/embeddings` request.

    Raises:
        UntranslatableRequest: there is more than one text.
    """
    if len(request.inputs) != 1:
        raise UntranslatableRequest("/api/embeddings takes one text; send several to /api/embed")
    if request.dimensions is not None:
        dropped.add("dimensions")
    return {"prompt": request.inputs[0]}


def read_embed_reply(body: dict[str, Any]) -> EmbeddingReply:
    """Parse an `/api/embed` reply.

    Raises:
        UntranslatableReply: there are no vectors, or one is not made of numbers.
    """
    return _reply(body, vector_list(body, "embeddings"))


def read_embeddings_reply(body: dict[str, Any]) -> EmbeddingReply:
    """Parse an `/api/embeddings` reply.

    Raises:
        UntranslatableReply: there is no vector, or it is not made of numbers.
    """
    return _reply(body, [body.get("embedding")])


def _reply(body: dict[str, Any], vectors: list[Any]) -> EmbeddingReply:
    return EmbeddingReply(
        vectors=tuple(read_vector(value) for value in vectors),
        input_tokens=count_of(body.get("prompt_eval_count")),
        timings=read_timings(body),
    )


def write_embed_reply(reply: EmbeddingReply, identity: ReplyIdentity, _options: ReplyOptions) -> dict[str, Any]:
    """Return the body of an `/api/embed` reply."""
    timings = reply.timings or Timings()
    known = {
        "total_duration": timings.total_ns,
        "load_duration": timings.load_ns,
        "prompt_eval_count": reply.input_tokens,
    }
    body: dict[str, Any] = {"model": identity.model, "embeddings": [list(vector) for vector in reply.vectors]}
    return {**body, **{key: value for key, value in known.items() if value}}


def write_embeddings_reply(reply: EmbeddingReply, _identity: ReplyIdentity, _options: ReplyOptions) -> dict[str, Any]:
    """Return the body of an `/api/embeddings` reply.

    Raises:
        UntranslatableReply: there is not exactly one vector.
    """
    if len(reply.vectors) != 1:
        raise UntranslatableReply("the server did not answer with one vector")
    return {"embedding": list(reply.vectors[0])}
