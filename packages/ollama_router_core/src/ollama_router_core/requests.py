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
from typing import Any, assert_never

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
_TYPES: Mapping[str, tuple[type | UnionType, str]] = {
    "model": (str, "a text"),
    "name": (str, "a text"),
    "options": (dict, "an object"),
    "messages": (list, "a list"),
    "tools": (list, "a list"),
    "images": (list, "a list"),
    "keep_alive": (str | int | float, "a number of seconds or a text such as '5m'"),
}
_MANAGE_TYPES: Mapping[str, tuple[type | UnionType, str]] = {
    "source": (str, "a text"),
    "destination": (str, "a text"),
    "from": (str, "a text"),
    "remote_host": (str, "a text"),
    "files": (dict, "an object"),
    "adapters": (dict, "an object"),
    "draft_files": (dict, "an object"),
}
_BLOB_KEYS = ("files", "adapters", "draft_files")
_INT64 = 1 << 63
_LONGEST_NAME = 1024  # characters; Ollama's own names end at 593, other servers' ids far earlier
_SMALLEST_CONTEXT = 4  # tokens; Ollama raises what is below


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRequest:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedRequest:
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
        key = _model_key(self.document, self.endpoint) or self.endpoint.model_keys[0]
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
    match endpoint.body:
        case Body.JSON:
            return _read_account(match, body) if endpoint.kind is Kind.ACCOUNT else _read_json(match, body)
        case Body.FORM:
            return _read_form(match, body, content_type)
        case Body.NONE | Body.RAW:
            route = RouteRequest(family=endpoint.family)
            return ParsedRequest(
                endpoint=endpoint, route=route, body=b"", parameter=match.parameter, target=match.target
            )
        case _:
            assert_never(endpoint.body)


def _read_account(match: Match, body: bytes) -> ParsedRequest:
    """Routes without a model: what is sent is one JSON object or nothing."""
    document = parse_object(body) if body else None
    route = RouteRequest(family=match.endpoint.family)
    return ParsedRequest(endpoint=match.endpoint, route=route, body=body, document=document, target=match.target)


def _read_json(match: Match, body: bytes) -> ParsedRequest:
    endpoint = match.endpoint
    if not body:
        raise no_body(endpoint.family is Family.OLLAMA)
    document = parse_object(body)
    _refuse_lookalikes(document.values, _READ_KEYS)
    _refuse_wrong_types(document, _TYPES)
    if endpoint.kind is Kind.MANAGE:
        _refuse_wrong_types(document, _MANAGE_TYPES)
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
        uses_cloud=_uses_cloud(document, endpoint, text),
    )
    return ParsedRequest(
        endpoint=endpoint,
        route=route,
        body=body,
        document=document,
        target=match.target,
        blobs=_blobs(document, endpoint),
        base=document.get("from") or None if endpoint.name == "create" else None,
    )


def _read_form(match: Match, body: bytes, content_type: bytes) -> ParsedRequest:
    endpoint = match.endpoint
    form = parse_form(content_type, body)
    text = _checked_name(form.value("model") or "", endpoint)
    route = RouteRequest(
        model_text=text,
        model=canonical_name(text),
        family=endpoint.family,
        needs=frozenset({endpoint.needs} if endpoint.needs else ()),
        prompt_bytes=len(body),
        uses_cloud=is_cloud_name(text),
    )
    return ParsedRequest(endpoint=endpoint, route=route, body=form.encode(), form=form, target=match.target)


def _refuse_lookalikes(members: Mapping[str, Any], read: frozenset[str]) -> None:
    for key in members:
        if key not in read and key.casefold() in read:
            raise AmbiguousKey(f"the key {key!r} would be read as {key.casefold()!r} by some servers; write the latter")


def _refuse_wrong_types(document: JsonObject, types: Mapping[str, tuple[type | UnionType, str]]) -> None:
    for key, value in document.values.items():
        if value is None or key not in types:
            continue
        kinds, words = types[key]
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise InvalidBody(f"{key} must be {words}, got {_type_name(value)}")


def _model_key(document: JsonObject, endpoint: Endpoint) -> str | None:
    return next((key for key in endpoint.model_keys if document.get(key) not in {None, ""}), None)


def _model_text(document: JsonObject, endpoint: Endpoint) -> str:
    found = _model_key(document, endpoint)
    text = _checked_name("" if found is None else str(document.values[found]), endpoint)
    if endpoint.name == "copy":
        _checked_name(document.get("destination") or "", endpoint, key="destination")
    if endpoint.kind is Kind.MANAGE and document.get("from"):
        _refuse_unshowable(document.values["from"])
    return text


def _checked_name(text: str, endpoint: Endpoint, *, key: str = "source") -> str:
    if not text:
        raise no_model(endpoint.name, key=key)
    _refuse_unshowable(text)
    if endpoint.kind is Kind.MANAGE and not is_model_name(text):
        raise bad_model_name(endpoint.name, text, key=key)
    return text


def _refuse_unshowable(text: str) -> None:
    if len(text) > _LONGEST_NAME or not text.isprintable():
        raise InvalidModelName("invalid model name")


def _blobs(document: JsonObject, endpoint: Endpoint) -> frozenset[str]:
    """The digests a new model is made of: they have to be on the server that makes it."""
    if endpoint.name != "create":
        return frozenset()
    found = [digest for key in _BLOB_KEYS for digest in (document.get(key) or {}).values()]
    if not all(isinstance(digest, str) for digest in found):
        raise InvalidBody("files, adapters and draft_files must map names to digests")
    return frozenset(found)


def _uses_cloud(document: JsonObject, endpoint: Endpoint, text: str) -> bool:
    """Ollama runs `web_search` tools of its compatible routes with the server owner's account."""
    if is_cloud_name(text):
        return True
    if endpoint.kind is Kind.MANAGE:
        return bool(document.get("remote_host")) or is_cloud_name(document.get("from") or "")
    tools = document.get("tools") or () if endpoint.family is not Family.OLLAMA else ()
    return any(_is_hosted(tool) for tool in tools if isinstance(tool, dict))


def _is_hosted(tool: Mapping[str, Any]) -> bool:
    kinds = (str(value) for key, value in tool.items() if key.casefold() == "type")
    return any(kind.casefold().startswith(("web_search", "web_fetch")) for kind in kinds)


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
        asked = (
            _whole(document.values, key, key) for key in ("max_completion_tokens", "max_output_tokens", "max_tokens")
        )
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
