"""The dialect-neutral form of embeddings, and shared functions of embedding routes."""

from __future__ import annotations

from typing import Any

from ollama_router_core.translate.confidential import Confidential
from ollama_router_core.translate.conversation import NO_REPLY_OPTIONS, ReplyOptions
from ollama_router_core.translate.errors import UntranslatableReply, UntranslatableRequest
from ollama_router_core.translate.json_reader import Dropped, JsonReader
from ollama_router_core.translate.lenient_json import list_of
from ollama_router_core.translate.replies import Timings

__all__ = ["EmbeddingReply", "EmbeddingRequest", "read_inputs", "read_vector", "vector_list", "write_inputs"]


class EmbeddingRequest(Confidential, frozen=True, kw_only=True):
    """A request for embeddings of texts."""

    inputs: tuple[str, ...]
    dimensions: int | None = None
    reply_options: ReplyOptions = NO_REPLY_OPTIONS


class EmbeddingReply(Confidential, frozen=True, kw_only=True):
    """A vector for each text, in order; `input_tokens` is 0 if the server does not count."""

    vectors: tuple[tuple[float, ...], ...]
    input_tokens: int = 0
    timings: Timings | None = None


def read_inputs(body: JsonReader, key: str) -> tuple[str, ...]:
    """Return the texts to embed.

    Raises:
        UntranslatableRequest: the value has the wrong type, has tokens instead of texts, or is empty.
    """
    inputs = body.texts(key)
    if not inputs:
        raise UntranslatableRequest(f"{key} has no text to embed")
    return inputs


def write_inputs(request: EmbeddingRequest, _dropped: Dropped) -> dict[str, Any]:
    """Return `input` and `dimensions`, which are the same for Ollama and OpenAI."""
    inputs = list(request.inputs)
    body: dict[str, Any] = {"input": inputs[0] if len(inputs) == 1 else inputs}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    return body


def vector_list(body: dict[str, Any], key: str) -> list[Any]:
    """Return a list that a reply must have.

    Raises:
        UntranslatableReply: the list is missing.
    """
    if not isinstance(body.get(key), list):
        raise UntranslatableReply(f"the server's answer has no {key}")
    return list_of(body[key])


def read_vector(value: Any) -> tuple[float, ...]:
    """Return a vector.

    Raises:
        UntranslatableReply: the value is not a list of numbers.
    """
    # `type`, not `isinstance`: true and false are not numbers here.
    if not isinstance(value, list) or not {type(item) for item in value} <= {int, float}:
        raise UntranslatableReply("a vector of the server's answer is not a list of numbers")
    return tuple(value)
