"""Body bytes to a `RouteRequest`, strictly, once.

Belongs here: which keys the router reads and what it makes of them.
Does not belong here: JSON syntax (`strict_json`), routes (`endpoints`), decisions.

What was checked is what is sent: `ParsedRequest.body` is the client's own text, edited only where the router means to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ollama_router_core.endpoints import Body, Endpoint, Family, Kind, Match
from ollama_router_core.errors import AmbiguousKey, InvalidBody, InvalidModelName
from ollama_router_core.forms import Form, parse_form
from ollama_router_core.names import CanonicalName, canonical_name, is_cloud_name, is_model_name
from ollama_router_core.strict_json import JsonObject, parse_object
from ollama_router_core.wording import bad_model_name, no_body, no_model

__all__ = ["ParsedRequest", "RouteRequest", "parse_request"]

_READ_KEYS = frozenset({"model", "name", "stream", "options", "keep_alive", "messages", "prompt", "input", "tools",
                        "source", "destination", "from", "think", "images", "max_tokens", "max_completion_tokens",
                        "suffix", "system", "template", "files", "adapters", "draft_files", "remote_host", "insecure",
                        "max_output_tokens", "stream_options"})  # fmt: skip
_READ_OPTIONS = frozenset({"num_ctx", "num_predict"})
_NULL = type(None)
_TEXT, _OBJECT, _LIST = frozenset({str, _NULL}), frozenset({dict, _NULL}), frozenset({list, _NULL})
_Types = Mapping[str, frozenset[object]]
_TYPES: _Types = {
    "model": _TEXT,
    "name": _TEXT,
    "options": _OBJECT,
    "messages": _LIST,
    "tools": _LIST,
    "images": _LIST,
    "keep_alive": frozenset({str, int, float, _NULL}),
}
_MANAGE_TYPES: _Types = {
    **_TYPES,
    "source": _TEXT,
    "destination": _TEXT,
    "from": _TEXT,
    "remote_host": _TEXT,
    "files": _OBJECT,
    "adapters": _OBJECT,
    "draft_files": _OBJECT,
}
_IN_WORDS = {_TEXT: "a text", _OBJECT: "an object", _LIST: "a list"}
_SECONDS = "a number of seconds or a text such as '5m'"
_BLOB_KEYS = ("files", "adapters", "draft_files")
_INT64 = 1 << 63
_LONGEST_NAME = 1024  # characters; Ollama's own names end at 593, other servers' ids far earlier
_SMALLEST_CONTEXT = 4  # tokens; Ollama raises what is below
_OLLAMA, _JSON, _MANAGE, _ACCOUNT = Family.OLLAMA, Body.JSON, Kind.MANAGE, Kind.ACCOUNT  # members cost a look-up
_NO_NEEDS: frozenset[str] = frozenset()


class RouteRequest(Struct, frozen=True, kw_only=True):
    """What a decision needs to know about a request.

    `model_text` is the name as the client wrote it, `model` its canonical form; both None for a route without a
    model. `num_ctx` is the context asked for in tokens, None for the server's default. `needs` are the capabilities
    the model must have. `prompt_bytes` is the length of the body, a bound for the prompt. `max_tokens` is the
    client's own limit on the answer. `uses_cloud` says that the name, or a hosted tool, asks for Ollama's paid
    service. `unloads` is Ollama's way to free memory: nothing is generated.
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
    uses_cloud: bool = False


class ParsedRequest(Struct, frozen=True, kw_only=True):
    """A request that passed the strict reading: the endpoint, the routing facts and the body to send.

    `target` is the upstream path. `content_type` replaces the client's field when the body was written anew (forms).
    `blobs` are the digests a new model is made of, `base` the name of the model it is made from.
    """

    endpoint: Endpoint
    route: RouteRequest
    body: bytes
    document: JsonObject | None = None
    form: Form | None = None
    parameter: str | None = None
    target: str = ""
    blobs: frozenset[str] = frozenset()
    base: str | None = None

    def __repr__(self) -> str:
        """Without the body: it holds what people write."""
        return f"ParsedRequest(endpoint={self.endpoint.name!r}, route={self.route!r}, body=<{len(self.body)} bytes>)"

    @property
    def content_type(self) -> bytes | None:
        """The field to send in place of the client's, None to leave that."""
        return None if self.form is None else self.form.content_type

    def with_model(self, text: str) -> ParsedRequest:
        """The same request for another model: only the model's name changes in the body."""
        if self.form is not None:
            form = self.form.with_value("model", text)
            return replace(self, route=_renamed(self.route, text), body=form.encode(), form=form)
        if self.document is None:
            return self
        key = _model_key(self.document.values, self.endpoint) or self.endpoint.model_keys[0]
        body = self.document.replace({key: json.dumps(text)}).encode("utf-8")
        return replace(self, route=_renamed(self.route, text), body=body, document=parse_object(body))


def _renamed(route: RouteRequest, text: str) -> RouteRequest:
    return replace(
        route, model_text=text, model=canonical_name(text), uses_cloud=route.uses_cloud or is_cloud_name(text)
    )


def parse_request(match: Match, body: bytes, *, content_type: bytes = b"") -> ParsedRequest:
    """Read a request's body for the router. `content_type` is the client's field; only forms look at it.

    Raises:
        InvalidBody: not one JSON object in UTF-8, or a key the router reads has the wrong type.
        AmbiguousKey: a key twice, or a key that Ollama would take for one the router reads.
        MissingModel, ModelNotFound: the endpoint needs a model and none is named; Ollama has both words for it.
        InvalidModelName: the name is endless or holds characters that cannot be shown.
    """
    endpoint = match.endpoint
    if endpoint.body is _JSON:
        return _read_account(match, body) if endpoint.kind is _ACCOUNT else _read_json(match, body)
    if endpoint.body is Body.FORM:
        return _read_form(match, body, content_type)
    route = RouteRequest(family=endpoint.family)
    return ParsedRequest(endpoint=endpoint, route=route, body=b"", parameter=match.parameter, target=match.target)


def _read_account(match: Match, body: bytes) -> ParsedRequest:
    """Routes without a model: what is sent is one JSON object or nothing."""
    document = parse_object(body) if body else None
    route = RouteRequest(family=match.endpoint.family)
    return ParsedRequest(endpoint=match.endpoint, route=route, body=body, document=document, target=match.target)


def _read_json(match: Match, body: bytes) -> ParsedRequest:
    endpoint = match.endpoint
    if not body:
        raise no_body(endpoint.family is _OLLAMA)
    document = parse_object(body)
    values = document.values
    if not values.keys() <= _READ_KEYS:
        _refuse_lookalikes(values, _READ_KEYS)
    manages = endpoint.kind is _MANAGE
    _refuse_wrong_types(values, _MANAGE_TYPES if manages else _TYPES)
    route = _route(document, endpoint, len(body))
    if not manages:
        return ParsedRequest(endpoint=endpoint, route=route, body=body, document=document, target=match.target)
    makes = endpoint.name == "create"
    return ParsedRequest(
        endpoint=endpoint,
        route=route,
        body=body,
        document=document,
        target=match.target,
        blobs=_blobs(values) if makes else frozenset(),
        base=values.get("from") or None if makes else None,
    )


def _route(document: JsonObject, endpoint: Endpoint, size: int) -> RouteRequest:
    """What a decision needs to know; most keys are seldom there, and looking for them is cheaper than a call."""
    values = document.values
    text = _model_text(values, endpoint)
    model, hosted = _name(text)
    options = _options(document, endpoint) if "options" in values else None
    return RouteRequest(
        model_text=text,
        model=model,
        family=endpoint.family,
        stream=_stream(values, endpoint),
        num_ctx=None if options is None else _num_ctx(options),
        needs=_needs(values, endpoint),
        prompt_bytes=size,
        max_tokens=_max_tokens(values, options, endpoint),
        unloads="keep_alive" in values and _unloads(values, endpoint),
        uses_cloud=hosted or (("tools" in values or endpoint.kind is _MANAGE) and _uses_cloud(values, endpoint)),
    )


def _read_form(match: Match, body: bytes, content_type: bytes) -> ParsedRequest:
    endpoint = match.endpoint
    form = parse_form(content_type, body)
    text = form.value("model") or _missing(endpoint)
    model, hosted = _name(text)
    route = RouteRequest(
        model_text=text,
        model=model,
        family=endpoint.family,
        needs=_only(endpoint.needs),
        prompt_bytes=len(body),
        uses_cloud=hosted,
    )
    return ParsedRequest(endpoint=endpoint, route=route, body=form.encode(), form=form, target=match.target)


def _refuse_lookalikes(members: Mapping[str, Any], read: frozenset[str]) -> None:
    for key in members:
        if key not in read and key.casefold() in read:
            raise AmbiguousKey(f"the key {key!r} would be read as {key.casefold()!r} by some servers; write the latter")


def _refuse_wrong_types(members: Mapping[str, Any], types: _Types) -> None:
    for key, value in members.items():
        if key in types and type(value) not in types[key]:
            raise InvalidBody(f"{key} must be {_IN_WORDS.get(types[key], _SECONDS)}, got {_type_name(value)}")


def _model_key(values: Mapping[str, Any], endpoint: Endpoint) -> str | None:
    for key in endpoint.model_keys:
        if values.get(key):
            return key
    return None


def _model_text(values: Mapping[str, Any], endpoint: Endpoint) -> str:
    found = _model_key(values, endpoint)
    text = "" if found is None else values[found]
    if endpoint.kind is not _MANAGE:
        return text or _missing(endpoint)
    _check_name(text, endpoint)
    if endpoint.name == "copy":
        _check_name(values.get("destination") or "", endpoint, key="destination")
    if values.get("from"):
        _refuse_unshowable(values["from"])
    return text


@lru_cache(maxsize=4096)
def _name(text: str) -> tuple[CanonicalName, bool]:
    """What a name that can be shown means, and whether it is one of Ollama's hosted service."""
    _refuse_unshowable(text)
    return canonical_name(text), is_cloud_name(text)


def _missing(endpoint: Endpoint) -> str:
    raise no_model(endpoint.name)


def _check_name(text: str, endpoint: Endpoint, *, key: str = "source") -> None:
    if not text:
        raise no_model(endpoint.name, key=key)
    _refuse_unshowable(text)
    if not is_model_name(text):
        raise bad_model_name(endpoint.name, text, key=key)


def _refuse_unshowable(text: str) -> None:
    if len(text) > _LONGEST_NAME or not text.isprintable():
        raise InvalidModelName("invalid model name")


def _blobs(values: Mapping[str, Any]) -> frozenset[str]:
    """The digests a new model is made of: they have to be on the server that makes it."""
    found = [digest for key in _BLOB_KEYS for digest in (values.get(key) or {}).values()]
    if not all(isinstance(digest, str) for digest in found):
        raise InvalidBody("files, adapters and draft_files must map names to digests")
    return frozenset(found)


def _uses_cloud(values: Mapping[str, Any], endpoint: Endpoint) -> bool:
    """Ollama runs `web_search` tools of its compatible routes with the server owner's account."""
    if endpoint.kind is _MANAGE:
        return bool(values.get("remote_host")) or is_cloud_name(values.get("from") or "")
    tools = values.get("tools")
    if not tools or endpoint.family is _OLLAMA:
        return False
    return any(_is_hosted(tool) for tool in tools if isinstance(tool, dict))


def _is_hosted(tool: Mapping[str, Any]) -> bool:
    kinds = (str(value) for key, value in tool.items() if key.casefold() == "type")
    return any(kind.casefold().startswith(("web_search", "web_fetch")) for kind in kinds)


def _stream(values: Mapping[str, Any], endpoint: Endpoint) -> bool:
    if endpoint.streams is None:
        return False
    value = values.get("stream")
    if value is None:
        return endpoint.streams
    if not isinstance(value, bool):
        raise InvalidBody(f"stream must be true or false, got {_type_name(value)}")
    return value


def _options(document: JsonObject, endpoint: Endpoint) -> Mapping[str, Any] | None:
    """Ollama's own routes read `options`; on its compatible ones they mean nothing."""
    if document.values.get("options") is None or endpoint.family is not _OLLAMA:
        return None
    options = document.child("options")
    _refuse_lookalikes(options, _READ_OPTIONS)
    return options


def _num_ctx(options: Mapping[str, Any]) -> int | None:
    value = _whole(options, "num_ctx", "options.num_ctx")
    return None if value is None else max(value, _SMALLEST_CONTEXT)


_LIMIT_KEYS = ("max_completion_tokens", "max_output_tokens", "max_tokens")


def _max_tokens(values: Mapping[str, Any], options: Mapping[str, Any] | None, endpoint: Endpoint) -> int | None:
    if endpoint.family is _OLLAMA:
        found = None if options is None else _whole(options, "num_predict", "options.num_predict")
        return found if found is not None and found > 0 else None
    for key in _LIMIT_KEYS:
        found = _whole(values, key, key) if key in values else None
        if found is not None:
            return found if found > 0 else None
    return None


def _whole(members: Mapping[str, Any], key: str, label: str) -> int | None:
    value = members.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidBody(f"{label} must be a whole number, got {_type_name(value)}")
    if abs(value) >= _INT64 or value != value // 1:
        raise InvalidBody(f"{label} must be a whole number of at most 64 bits")
    return int(value)


@lru_cache(maxsize=16)
def _only(need: str | None) -> frozenset[str]:
    """One set for all requests of a route: it is hashed once."""
    return _NO_NEEDS if need is None else frozenset({need})


def _needs(values: Mapping[str, Any], endpoint: Endpoint) -> frozenset[str]:
    usual = _only(endpoint.needs)
    if not usual:
        return usual
    more = []
    if values.get("tools"):
        more.append("tools")
    if values.get("suffix") and endpoint.family is _OLLAMA:
        more.append("insert")
    if values.get("images") or _messages_have_images(values.get("messages")):
        more.append("vision")
    return usual.union(more) if more else usual


def _messages_have_images(messages: Any) -> bool:
    for message in messages or ():
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


def _unloads(values: Mapping[str, Any], endpoint: Endpoint) -> bool:
    """Ollama's way to unload a model: `keep_alive: 0` and nothing to answer."""
    keep_alive = values.get("keep_alive")
    if keep_alive is None or keep_alive not in {0, "0", "0s", "0m", "0h"}:
        return False
    return endpoint.name in {"generate", "chat"} and not values.get("prompt") and not values.get("messages")


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
