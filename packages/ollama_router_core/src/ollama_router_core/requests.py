"""Body bytes to a `RouteRequest`, strictly, once.

Belongs here: which keys the router reads and what it makes of them.
Does not belong here: JSON syntax (`strict_json`), routes (`endpoints`), decisions.

What was checked is what is sent: `ParsedRequest.body` is the client's own text, edited only where the router means to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import UnionType
from typing import Any

from ollama_router_core.endpoints import Endpoint, Family, Match
from ollama_router_core.errors import AmbiguousKey, InvalidBody, InvalidModelName, MissingModel
from ollama_router_core.names import CanonicalName, canonical_name
from ollama_router_core.strict_json import JsonObject, parse_object

__all__ = ["ParsedRequest", "RouteRequest", "parse_request"]

_READ_KEYS = frozenset({"model", "name", "stream", "options", "keep_alive", "messages", "prompt", "input", "tools",
                        "source", "destination", "from", "think", "images", "max_tokens", "max_completion_tokens",
                        "suffix", "system", "template", "files", "adapters", "stream_options"})  # fmt: skip
_READ_OPTIONS = frozenset({"num_ctx", "num_predict"})
_TYPES: Mapping[str, tuple[type | UnionType, str]] = {
    "model": (str, "a text"),
    "name": (str, "a text"),
    "options": (dict, "an object"),
    "messages": (list, "a list"),
    "tools": (list, "a list"),
    "images": (list, "a list"),
    "keep_alive": (str | int | float, "a number of seconds or a text such as '5m'"),
}
_INT64 = 1 << 63
_LONGEST_NAME = 1024  # characters; Ollama's own names end at 593, other servers' ids far earlier
_SMALLEST_CONTEXT = 4  # tokens; Ollama raises what is below


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRequest:
    """What a decision needs to know about a request.

    `model_text` is the name as the client wrote it, `model` its canonical form; both None for a route without a
    model. `num_ctx` is the context asked for in tokens, None for the server's default. `needs` are the capabilities
    the model must have. `prompt_bytes` is the length of the body, a bound for the prompt. `max_tokens` is the
    client's own limit on the answer.
    """

    model_text: str | None = None
    model: CanonicalName | None = None
    family: Family = Family.OLLAMA
    stream: bool = False
    num_ctx: int | None = None
    needs: frozenset[str] = frozenset()
    prompt_bytes: int = 0
    max_tokens: int | None = None
    unloads: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedRequest:
    """A request that passed the strict reading: the endpoint, the routing facts and the body to send."""

    endpoint: Endpoint
    route: RouteRequest
    body: bytes
    document: JsonObject | None = None

    def with_model(self, text: str) -> ParsedRequest:
        """The same request for another model: only the model's name changes in the body."""
        if self.document is None:
            return self
        key = _model_key(self.document, self.endpoint) or self.endpoint.model_keys[0]
        body = self.document.replace({key: json.dumps(text)}).encode("utf-8")
        route = replace(self.route, model_text=text, model=canonical_name(text))
        return replace(self, route=route, body=body, document=parse_object(body))


def parse_request(match: Match, body: bytes) -> ParsedRequest:
    """Read a request's body for the router.

    Raises:
        InvalidBody: not one JSON object in UTF-8, or a key the router reads has the wrong type.
        AmbiguousKey: a key twice, or a key that Ollama would take for one the router reads.
        MissingModel: the endpoint needs a model and none is named.
        InvalidModelName: the name is endless or holds characters that cannot be shown.
    """
    endpoint = match.endpoint
    if not endpoint.model_keys:
        return ParsedRequest(endpoint=endpoint, route=RouteRequest(family=endpoint.family), body=b"")
    document = parse_object(body)
    _refuse_lookalikes(document.values, _READ_KEYS)
    _refuse_wrong_types(document)
    text = _model_text(document, endpoint)
    options = _options(document, endpoint)
    route = RouteRequest(
        model_text=text,
        model=canonical_name(text),
        family=endpoint.family,
        stream=_stream(document, endpoint),
        num_ctx=_num_ctx(options),
        needs=_needs(document, endpoint),
        prompt_bytes=len(body),
        max_tokens=_max_tokens(document, options, endpoint),
        unloads=_unloads(document, endpoint),
    )
    return ParsedRequest(endpoint=endpoint, route=route, body=body, document=document)


def _refuse_lookalikes(members: Mapping[str, Any], read: frozenset[str]) -> None:
    for key in members:
        if key not in read and key.casefold() in read:
            raise AmbiguousKey(f"the key {key!r} would be read as {key.casefold()!r} by some servers; write the latter")


def _refuse_wrong_types(document: JsonObject) -> None:
    for key, value in document.values.items():
        if value is None or key not in _TYPES:
            continue
        kinds, words = _TYPES[key]
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise InvalidBody(f"{key} must be {words}, got {_type_name(value)}")


def _model_key(document: JsonObject, endpoint: Endpoint) -> str | None:
    return next((key for key in endpoint.model_keys if document.get(key) not in {None, ""}), None)


def _model_text(document: JsonObject, endpoint: Endpoint) -> str:
    found = _model_key(document, endpoint)
    if found is None:
        raise MissingModel("model is required")
    text = str(document.values[found])
    if len(text) > _LONGEST_NAME or not text.isprintable():
        raise InvalidModelName("invalid model name")
    return text


def _stream(document: JsonObject, endpoint: Endpoint) -> bool:
    if endpoint.streams is None:
        return False
    value = document.get("stream")
    if value is None:
        return endpoint.streams
    if not isinstance(value, bool):
        raise InvalidBody(f"stream must be true or false, got {_type_name(value)}")
    return value


def _options(document: JsonObject, endpoint: Endpoint) -> Mapping[str, Any] | None:
    """Ollama's own routes read `options`; on its compatible ones they mean nothing."""
    if endpoint.family is not Family.OLLAMA or document.get("options") is None:
        return None
    options = document.child("options")
    _refuse_lookalikes(options, _READ_OPTIONS)
    return options


def _num_ctx(options: Mapping[str, Any] | None) -> int | None:
    value = _whole(options, "num_ctx", "options.num_ctx")
    return None if value is None else max(value, _SMALLEST_CONTEXT)


def _max_tokens(document: JsonObject, options: Mapping[str, Any] | None, endpoint: Endpoint) -> int | None:
    if endpoint.family is Family.OLLAMA:
        found = _whole(options, "num_predict", "options.num_predict")
    else:
        asked = (_whole(document.values, key, key) for key in ("max_completion_tokens", "max_tokens"))
        found = next((value for value in asked if value is not None), None)
    return found if found is not None and found > 0 else None


def _whole(members: Mapping[str, Any] | None, key: str, label: str) -> int | None:
    value = members.get(key) if members else None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidBody(f"{label} must be a whole number, got {_type_name(value)}")
    if abs(value) >= _INT64 or value != value // 1:
        raise InvalidBody(f"{label} must be a whole number of at most 64 bits")
    return int(value)


def _needs(document: JsonObject, endpoint: Endpoint) -> frozenset[str]:
    if endpoint.needs is None:
        return frozenset()
    needs = {endpoint.needs}
    if document.get("tools"):
        needs.add("tools")
    if document.get("suffix") and endpoint.family is Family.OLLAMA:
        needs.add("insert")
    if document.get("images") or _messages_have_images(document.get("messages")):
        needs.add("vision")
    return frozenset(needs)


def _messages_have_images(messages: Any) -> bool:
    if not isinstance(messages, list):
        return False
    for message in messages:
        if not isinstance(message, dict):
            continue
        if message.get("images"):
            return True
        content = message.get("content")
        if isinstance(content, list) and any(
            isinstance(part, dict) and part.get("type") in {"image", "image_url"} for part in content
        ):
            return True
    return False


def _unloads(document: JsonObject, endpoint: Endpoint) -> bool:
    """Ollama's way to unload a model: `keep_alive: 0` and nothing to answer."""
    keep_alive = document.get("keep_alive")
    if keep_alive not in {0, "0", "0s", "0m", "0h"}:
        return False
    return endpoint.name in {"generate", "chat"} and not document.get("prompt") and not document.get("messages")


def _type_name(value: Any) -> str:
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), "null")
