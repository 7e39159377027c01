"""Texts to vectors: `/api/embed`, `/api/embeddings` and `/v1/embeddings`.

Vectors in base64 are little-endian floats of four bytes, which OpenAI's own clients ask for unless told otherwise.
"""

from __future__ import annotations

import base64
import binascii
import struct
from typing import Any

from ollama_router_core.translate.dialects import Dialect
from ollama_router_core.translate.errors import UntranslatableReply, UntranslatableRequest
from ollama_router_core.translate.fields import Dropped, Fields
from ollama_router_core.translate.lenient_json import count_of, list_of, object_of
from ollama_router_core.translate.ollama.replies import read_timings
from ollama_router_core.translate.private import Private
from ollama_router_core.translate.replies import Stamp, Timings

__all__ = ["EmbeddingReply", "EmbeddingRequest", "read_embedding", "read_vectors", "write_embedding", "write_vectors"]


class EmbeddingRequest(Private, frozen=True, kw_only=True):
    """Texts to be embedded; `base64` is the wish for vectors as text."""

    inputs: tuple[str, ...]
    dimensions: int | None = None
    base64: bool = False


class EmbeddingReply(Private, frozen=True, kw_only=True):
    """A vector for each text, in order; `input_tokens` is 0 when the server does not count."""

    vectors: tuple[tuple[float, ...], ...]
    input_tokens: int = 0
    timings: Timings | None = None


def read_embedding(body: Fields, source: Dialect) -> EmbeddingRequest:
    """The request of any of the three routes.

    Raises:
        UntranslatableRequest: a value has the wrong type, the texts are given in tokens, or there is none.
    """
    key = "prompt" if source is Dialect.OLLAMA_EMBEDDINGS else "input"
    inputs = body.texts(key)
    if not inputs:
        raise UntranslatableRequest(f"{key} has no text to embed")
    request = EmbeddingRequest(
        inputs=inputs,
        dimensions=body.whole("dimensions") if source is not Dialect.OLLAMA_EMBEDDINGS else None,
        base64=source is Dialect.OPENAI_EMBEDDINGS and body.text("encoding_format") == "base64",
    )
    if source is not Dialect.OPENAI_EMBEDDINGS:
        body.drop("options", "keep_alive", "truncate")
    return request


def write_embedding(request: EmbeddingRequest, target: Dialect, dropped: Dropped) -> dict[str, Any]:
    """The body for any of the three routes, without the model.

    Raises:
        UntranslatableRequest: several texts for the route that takes one.
    """
    if target is Dialect.OLLAMA_EMBEDDINGS:
        if len(request.inputs) != 1:
            raise UntranslatableRequest("/api/embeddings takes one text; send several to /api/embed")
        if request.dimensions is not None:
            dropped.add("dimensions")
        return {"prompt": request.inputs[0]}
    inputs = list(request.inputs)
    body: dict[str, Any] = {"input": inputs[0] if len(inputs) == 1 else inputs}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    if target is Dialect.OPENAI_EMBEDDINGS:
        body["encoding_format"] = "float"
    return body


def read_vectors(body: dict[str, Any], source: Dialect) -> EmbeddingReply:
    """The answer of any of the three routes.

    Raises:
        UntranslatableReply: there are no vectors, or one is not made of numbers.
    """
    if source is Dialect.OPENAI_EMBEDDINGS:
        entries = [object_of(entry) for entry in _need_list(body, "data")]
        entries.sort(key=lambda entry: count_of(entry.get("index")))
        tokens = object_of(body.get("usage")).get("prompt_tokens")
        return EmbeddingReply(
            vectors=tuple(_vector(entry.get("embedding")) for entry in entries), input_tokens=count_of(tokens)
        )
    vectors = [body.get("embedding")] if source is Dialect.OLLAMA_EMBEDDINGS else _need_list(body, "embeddings")
    return EmbeddingReply(
        vectors=tuple(_vector(value) for value in vectors),
        input_tokens=count_of(body.get("prompt_eval_count")),
        timings=read_timings(body),
    )


def _need_list(body: dict[str, Any], key: str) -> list[Any]:
    if not isinstance(body.get(key), list):
        raise UntranslatableReply(f"the server's answer has no {key}")
    return list_of(body[key])


def _vector(value: Any) -> tuple[float, ...]:
    if isinstance(value, str):
        return _vector_of_base64(value)
    # `type` and not `isinstance`: true and false are no numbers here.
    if not isinstance(value, list) or not {type(item) for item in value} <= {int, float}:
        raise UntranslatableReply("a vector of the server's answer is not a list of numbers")
    return tuple(value)


def _vector_of_base64(text: str) -> tuple[float, ...]:
    try:
        data = base64.b64decode(text, validate=True)
        return struct.unpack(f"<{len(data) // 4}f", data)
    except (binascii.Error, ValueError, struct.error):
        raise UntranslatableReply("a vector of the server's answer is not the base64 of floats") from None


def write_vectors(reply: EmbeddingReply, target: Dialect, stamp: Stamp, *, as_base64: bool) -> dict[str, Any]:
    """The answer as any of the three routes gives it.

    Raises:
        UntranslatableReply: not one vector for the route that gives one, or a number that four bytes cannot hold.
    """
    match target:
        case Dialect.OLLAMA_EMBEDDINGS:
            if len(reply.vectors) != 1:
                raise UntranslatableReply("the server did not answer with one vector")
            return {"embedding": list(reply.vectors[0])}
        case Dialect.OLLAMA_EMBED:
            body: dict[str, Any] = {"model": stamp.model, "embeddings": [list(vector) for vector in reply.vectors]}
            timings = reply.timings or Timings()
            known = {
                "total_duration": timings.total_ns,
                "load_duration": timings.load_ns,
                "prompt_eval_count": reply.input_tokens,
            }
            return {**body, **{key: value for key, value in known.items() if value}}
        case _:
            return _openai_vectors(reply, stamp, as_base64=as_base64)


def _openai_vectors(reply: EmbeddingReply, stamp: Stamp, *, as_base64: bool) -> dict[str, Any]:
    write = _base64_of_vector if as_base64 else list
    data = [
        {"object": "embedding", "index": index, "embedding": write(vector)}
        for index, vector in enumerate(reply.vectors)
    ]
    usage = {"prompt_tokens": reply.input_tokens, "total_tokens": reply.input_tokens}
    return {"object": "list", "data": data, "model": stamp.model, "usage": usage}


def _base64_of_vector(vector: tuple[float, ...]) -> str:
    try:
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
    except (OverflowError, struct.error):
        raise UntranslatableReply("a number of the server's vectors is too large for four bytes") from None
