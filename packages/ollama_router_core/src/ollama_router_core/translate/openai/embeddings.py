"""Embeddings of `/v1/embeddings`.

Vectors in base64 are little-endian four-byte floats, which OpenAI's own clients request by default.
"""

from __future__ import annotations

import base64
import binascii
import struct
from typing import Any

from ollama_router_core.translate.conversation import ReplyOptions
from ollama_router_core.translate.embeddings import (
    EmbeddingReply,
    EmbeddingRequest,
    read_inputs,
    read_vector,
    vector_list,
    write_inputs,
)
from ollama_router_core.translate.errors import UntranslatableReply
from ollama_router_core.translate.json_reader import Dropped, JsonReader
from ollama_router_core.translate.lenient_json import count_of, object_of
from ollama_router_core.translate.replies import ReplyIdentity

__all__ = ["read_embedding", "read_embedding_reply", "write_embedding", "write_embedding_reply"]


def read_embedding(body: JsonReader) -> EmbeddingRequest:
    """Parse a request.

    Raises:
        UntranslatableRequest: a value has the wrong type, there are tokens instead of texts, or no text.
    """
    return EmbeddingRequest(
        inputs=read_inputs(body, "input"),
        dimensions=body.whole("dimensions"),
        reply_options=ReplyOptions(base64_vectors=body.text("encoding_format") == "base64"),
    )


def write_embedding(request: EmbeddingRequest, dropped: Dropped) -> dict[str, Any]:
    """Return the body of a request for vectors of numbers."""
    return {**write_inputs(request, dropped), "encoding_format": "float"}


def read_embedding_reply(body: dict[str, Any]) -> EmbeddingReply:
    """Parse a reply.

    Raises:
        UntranslatableReply: there are no vectors, or one is neither numbers nor base64 of floats.
    """
    entries = [object_of(entry) for entry in vector_list(body, "data")]
    entries.sort(key=lambda entry: count_of(entry.get("index")))
    return EmbeddingReply(
        vectors=tuple(_vector(entry.get("embedding")) for entry in entries),
        input_tokens=count_of(object_of(body.get("usage")).get("prompt_tokens")),
    )


def _vector(value: Any) -> tuple[float, ...]:
    return _vector_of_base64(value) if isinstance(value, str) else read_vector(value)


def _vector_of_base64(text: str) -> tuple[float, ...]:
    try:
        data = base64.b64decode(text, validate=True)
        return struct.unpack(f"<{len(data) // 4}f", data)
    except (binascii.Error, ValueError, struct.error):
        raise UntranslatableReply("a vector of the server's answer is not the base64 of floats") from None


def write_embedding_reply(reply: EmbeddingReply, identity: ReplyIdentity, options: ReplyOptions) -> dict[str, Any]:
    """Return the body of a reply.

    Raises:
        UntranslatableReply: base64 is requested, and a number exceeds a four-byte float.
    """
    write = _base64_of_vector if options.base64_vectors else list
    data = [
        {"object": "embedding", "index": index, "embedding": write(vector)}
        for index, vector in enumerate(reply.vectors)
    ]
    usage = {"prompt_tokens": reply.input_tokens, "total_tokens": reply.input_tokens}
    return {"object": "list", "data": data, "model": identity.model, "usage": usage}


def _base64_of_vector(vector: tuple[float, ...]) -> str:
    try:
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
    except (OverflowError, struct.error):
        raise UntranslatableReply("a number of the server's vectors is too large for four bytes") from None
