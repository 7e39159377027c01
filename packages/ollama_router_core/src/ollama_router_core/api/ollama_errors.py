"""Ollama's own error texts, for errors that the router reports in Ollama's place.

Source: Ollama's server/routes.go; routes are the names of the endpoint table.
"""

from __future__ import annotations

from ollama_router_core.api.model_names import is_model_name, parse_model_name
from ollama_router_core.errors import (
    InvalidBody,
    InvalidModelName,
    MissingModel,
    ModelIncapable,
    ModelNotFound,
    RequestError,
)

__all__ = ["SERVER_BUSY", "bad_model_name", "model_incapable", "model_not_found", "no_body", "no_model"]

SERVER_BUSY = "server busy, please try again.  maximum pending requests exceeded"
"""A full queue. The two spaces are Ollama's, and clients match the text."""

_EMPTY_IS_NOT_FOUND = frozenset({"generate", "openai_completions", "embed", "openai_embeddings"})
_TRY_PULLING = frozenset({"embed", "embeddings", "openai_embeddings"})
_SHORT_NAME = frozenset({"show", "openai_model"})


def no_body(native: bool) -> InvalidBody:  # noqa: FBT001 - the one thing it depends on
    """A body of no bytes, on Ollama's own routes or on its compatible ones."""
    return InvalidBody("missing request body" if native else "EOF")


def no_model(endpoint: str, *, key: str = "source", blank: str = "") -> RequestError | ModelNotFound:
    """A request that names no model, or only white space; `key` is the one of copy's two names that is missing."""
    if endpoint in _EMPTY_IS_NOT_FOUND:
        return ModelNotFound(f"model '{blank if blank.isprintable() else ''}' not found")
    if endpoint in {"create", "copy", "pull"}:
        return bad_model_name(endpoint, "", key=key)
    return MissingModel("model is required")


def bad_model_name(endpoint: str, text: str, *, key: str = "source") -> InvalidModelName:
    """A text that cannot name a model."""
    match endpoint:
        case "delete":
            return InvalidModelName(f'name "{text}" is invalid')
        case "copy":
            return InvalidModelName(f'{key} "{text}" is invalid')
        case _:
            return InvalidModelName("invalid model name")


def model_not_found(endpoint: str, text: str) -> ModelNotFound | InvalidModelName:
    """No server has the model: three texts, and 400 where Ollama would not even look for such a name."""
    if not is_model_name(text):
        return bad_model_name(endpoint, text)
    if endpoint in _TRY_PULLING:
        return ModelNotFound(f'model "{text}" not found, try pulling it first')
    if endpoint == "copy":
        return ModelNotFound(f'model "{text}" not found')
    shown = parse_model_name(text).short if endpoint in _SHORT_NAME else text
    return ModelNotFound(f"model '{shown}' not found")


def model_incapable(endpoint: str, text: str, missing: frozenset[str]) -> ModelIncapable:
    """No server's model can do this; Ollama names the first thing that is missing, in this order."""
    if "completion" in missing or not is_model_name(text):
        kind = "generate" if endpoint in {"generate", "openai_completions"} else "chat"
        return ModelIncapable(f'"{text}" does not support {kind}', missing=missing)
    name = parse_model_name(text)
    first = next((kind for kind in ("tools", "insert", "audio", "vision") if kind in missing), min(missing))
    return ModelIncapable(
        f"{name.host}/{name.namespace}/{name.model}:{name.tag} does not support {first}", missing=missing
    )
