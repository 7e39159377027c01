"""Ollama's error texts, for errors that the router reports in Ollama's place.

Sources: Ollama's server/routes.go, api/types.go, openai/ and anthropic/. Routes have the names of the endpoint table.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from ollama_router_core.api.go_json import syntax_error, value_kind
from ollama_router_core.api.model_names import is_model_name, parse_model_name
from ollama_router_core.errors import (
    InvalidBody,
    InvalidModelName,
    MissingModel,
    ModelIncapable,
    ModelNotFound,
    RequestError,
)

__all__ = [
    "SERVER_BUSY",
    "bad_model_name",
    "missing_member",
    "model_incapable",
    "model_not_found",
    "no_body",
    "no_form",
    "no_model",
    "unreadable_body",
    "wrong_type",
]

SERVER_BUSY = "server busy, please try again.  maximum pending requests exceeded"
"""The error for a full queue. The two spaces are Ollama's; clients match the text."""

_EMPTY_IS_NOT_FOUND = frozenset({"generate", "openai_completions", "embed", "openai_embeddings"})
_TRY_PULLING = frozenset({"embed", "embeddings", "openai_embeddings"})
_SHORT_NAME = frozenset({"show", "openai_model"})
_REQUESTS: Mapping[str, str] = {
    "generate": "api.GenerateRequest",
    "chat": "api.ChatRequest",
    "embed": "api.EmbedRequest",
    "embeddings": "api.EmbeddingRequest",
    "show": "api.ShowRequest",
    "pull": "api.PullRequest",
    "push": "api.PushRequest",
    "create": "api.CreateRequest",
    "copy": "api.CopyRequest",
    "delete": "api.DeleteRequest",
    "openai_chat": "openai.ChatCompletionRequest",
    "openai_completions": "openai.CompletionRequest",
    "openai_embeddings": "openai.EmbedRequest",
    "openai_responses": "openai.ResponsesRequest",
    "anthropic_messages": "anthropic.MessagesRequest",
}
"""The Go type of each route's body."""
_MEMBERS: Mapping[str, str] = {
    **dict.fromkeys(("model", "name", "source", "destination", "from", "remote_host"), "string"),
    **dict.fromkeys(("files", "adapters", "draft_files"), "map[string]string"),
    "options": "map[string]interface {}",
    "images": "[]api.ImageData",
    "stream": "bool",
}
_LISTS: Mapping[tuple[str, str], str] = {
    ("api", "messages"): "[]api.Message",
    ("api", "tools"): "api.Tools",
    ("openai", "messages"): "[]openai.Message",
    ("openai", "tools"): "[]api.Tool",
    ("openai.ResponsesRequest", "tools"): "[]openai.ResponsesTool",
    ("anthropic", "messages"): "[]anthropic.MessageParam",
    ("anthropic", "tools"): "[]anthropic.Tool",
}
"""The Go types of list members, by package or request."""
_KINDS: Mapping[type[object], str] = {
    bool: "bool",
    int: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
_ANY: Mapping[str, str] = {"array": "[]interface {}", "object": "map[string]interface {}"}
_REQUIRED: Mapping[str, tuple[str, str]] = {
    "openai_chat": ("messages", "[] is too short - 'messages'"),
    "openai_embeddings": ("input", "invalid input"),
}
_BLANK = b" \t\r\n"


def no_body(native: bool) -> InvalidBody:  # noqa: FBT001 - the one thing it depends on
    """Build the error for an empty body, on Ollama's native or compatible routes."""
    return InvalidBody("missing request body" if native else "EOF")


def no_form(content_type: bytes) -> InvalidBody:
    """Build the error for a Content-Type that is not a form's, or has an ambiguous boundary."""
    if content_type.partition(b";")[0].strip().lower() == b"multipart/form-data":
        return InvalidBody("send multipart/form-data with one boundary parameter")
    return InvalidBody("failed to parse multipart form: request Content-Type isn't multipart/form-data")


def missing_member(endpoint: str, members: Container[str]) -> InvalidBody | None:
    """Return the error for a body without its main member, which Ollama checks before the model.

    `members` are the body's members. None if the member exists or the route has none.
    """
    member, words = _REQUIRED.get(endpoint, ("", ""))
    return InvalidBody(words) if member and member not in members else None


def unreadable_body(endpoint: str, body: bytes, *, native: bool) -> InvalidBody | None:
    """Return Ollama's error for a body that is not a JSON object; None if Ollama would accept it."""
    if not body.strip(_BLANK):
        return no_body(native)
    fault = syntax_error(body)
    if fault is not None:
        return InvalidBody(fault)
    kind = value_kind(body)
    if kind in {"object", "null"} or endpoint not in _REQUESTS:
        return None
    return InvalidBody(f"json: cannot unmarshal {kind} into Go value of type {_REQUESTS[endpoint]}")


def wrong_type(endpoint: str, key: str, found: type[object]) -> InvalidBody | None:
    """Return Ollama's error for a member of the wrong type; None if its text is unknown."""
    kind = _KINDS[found]
    if key == "keep_alive":
        return InvalidBody(f"Unsupported type: '{_ANY.get(kind, kind)}'")
    whole = _REQUESTS.get(endpoint, "")
    package, _, request = whole.partition(".")
    wanted = _MEMBERS.get(key) or _LISTS.get((whole, key)) or _LISTS.get((package, key))
    if not request or wanted is None:
        return None
    return InvalidBody(f"json: cannot unmarshal {kind} into Go struct field {request}.{key} of type {wanted}")


def no_model(endpoint: str, *, key: str = "source", blank: str = "") -> RequestError | ModelNotFound:
    """Build the error for a missing or blank model name; for copy, `key` is the missing member."""
    if endpoint in _EMPTY_IS_NOT_FOUND:
        return ModelNotFound(f"model '{blank if blank.isprintable() else ''}' not found")
    if endpoint in {"create", "copy", "pull"}:
        return bad_model_name(endpoint, "", key=key)
    return MissingModel("model is required")


def bad_model_name(endpoint: str, text: str, *, key: str = "source") -> InvalidModelName:
    """Build the error for an invalid model name."""
    match endpoint:
        case "delete":
            return InvalidModelName(f'name "{text}" is invalid')
        case "copy":
            return InvalidModelName(f'{key} "{text}" is invalid')
        case _:
            return InvalidModelName("invalid model name")


def model_not_found(endpoint: str, text: str) -> ModelNotFound | InvalidModelName:
    """Build the error for a model that no server has: 404, or 400 for an invalid name."""
    if not is_model_name(text):
        return bad_model_name(endpoint, text)
    if endpoint in _TRY_PULLING:
        return ModelNotFound(f'model "{text}" not found, try pulling it first')
    if endpoint == "copy":
        return ModelNotFound(f'model "{text}" not found')
    shown = parse_model_name(text).short if endpoint in _SHORT_NAME else text
    return ModelNotFound(f"model '{shown}' not found")


def model_incapable(endpoint: str, text: str, missing: frozenset[str]) -> ModelIncapable:
    """Build the error for a model without a needed capability; the text names the first in Ollama's order."""
    if "completion" in missing or not is_model_name(text):
        kind = "generate" if endpoint in {"generate", "openai_completions"} else "chat"
        return ModelIncapable(f'"{text}" does not support {kind}', missing=missing)
    name = parse_model_name(text)
    first = next((kind for kind in ("tools", "insert", "audio", "vision") if kind in missing), min(missing))
    return ModelIncapable(
        f"{name.host}/{name.namespace}/{name.model}:{name.tag} does not support {first}", missing=missing
    )
