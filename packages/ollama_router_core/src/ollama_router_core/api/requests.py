"""Parse a body into a `RouteRequest`, strictly and once.

What was checked is what is sent: `ParsedRequest.body` is the client's own text, edited only where the router intends
to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from msgspec import Raw, Struct
from msgspec.structs import replace

from ollama_router_core.api.endpoints import Body, Endpoint, Family, Kind, Match
from ollama_router_core.api.model_names import (
    LONGEST_NAME,
    CanonicalName,
    canonical_name,
    is_cloud_name,
    is_model_name,
    without_spaces,
)
from ollama_router_core.api.multipart import Form, parse_form
from ollama_router_core.api.ollama_errors import bad_model_name, no_body, no_model
from ollama_router_core.api.request_keys import (
    DEEPER_KEYS,
    MANAGE_TYPES,
    PLAIN_KEYS,
    READ_KEYS,
    TYPES,
    checked_options,
    keeps_model,
    may_hold_images,
    only,
    plain_keep_alive,
    plain_limit,
    plain_tools,
    read_blobs,
    read_max_tokens,
    read_needs,
    read_num_ctx,
    read_options,
    refuse_lookalikes,
    refuse_wrong_types,
    unloads,
    uses_cloud,
    wants_stream,
    with_tools,
)
from ollama_router_core.api.strict_json import JsonObject, parse_object
from ollama_router_core.errors import InvalidModelName

__all__ = ["ParsedRequest", "RouteRequest", "parse_request"]

_TRIMMED = frozenset({"delete", "pull"})  # of the routes that manage models
_EMPTY_OBJECT = b"{}"  # what Go's decoder makes of null; the model is missing then
_BRACKET = ord("[")
_TRUTHS = {b"true": True, b"false": False}


class RouteRequest(Struct, frozen=True, kw_only=True):
    """What a decision needs to know about a request.

    `model_text` is the name as the client wrote it but for spaces around it, `model` its canonical form; both None for
    a route without a model. `num_ctx` is the context asked for in tokens, None for the server's default. `needs` are
    the capabilities the model must have. `prompt_bytes` is the length of the body, a bound for the prompt.
    `max_tokens` is the client's own limit on the answer. `uses_cloud` says that the name, or a hosted tool, asks for
    Ollama's paid service. `unloads` marks a request that only unloads the model, `keeps_model` is False for any after
    which it would be unloaded.
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
    keeps_model: bool = True
    uses_cloud: bool = False


class ParsedRequest(Struct, frozen=True, kw_only=True):
    """A strictly parsed request: endpoint, routing facts, and the body to send.

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
        """Leave the body out: it is what people write."""
        return f"ParsedRequest(endpoint={self.endpoint.name!r}, route={self.route!r}, body=<{len(self.body)} bytes>)"

    @property
    def content_type(self) -> bytes | None:
        """The field to send in place of the client's, None to leave that."""
        return None if self.form is None else self.form.content_type

    def edited(self, changes: Mapping[str, str]) -> ParsedRequest:
        """Return the request with some values of its JSON body replaced; `changes` maps keys to JSON text."""
        if self.document is None:
            return self
        body = self.document.replace(changes).encode("utf-8")
        return replace(self, body=body, document=parse_object(body))

    def with_model(self, text: str) -> ParsedRequest:
        """Return the request for another model; only the name changes in the body."""
        if self.form is not None:
            form = self.form.with_value("model", text)
            return replace(self, route=_renamed(self.route, text), body=form.encode(), form=form)
        if self.document is None:
            return self
        key = _model_key(self.document.values, self.endpoint) or self.endpoint.model_keys[0]
        return replace(self.edited({key: json.dumps(text)}), route=_renamed(self.route, text))


def _renamed(route: RouteRequest, text: str) -> RouteRequest:
    return replace(
        route, model_text=text, model=canonical_name(text), uses_cloud=route.uses_cloud or is_cloud_name(text)
    )


def parse_request(match: Match, body: bytes, *, content_type: bytes = b"") -> ParsedRequest:
    """Parse a request's body. `content_type` is the client's header; only forms use it.

    Raises:
        InvalidBody: not one JSON object in UTF-8, or a key the router reads has the wrong type.
        AmbiguousKey: a key twice, or a key that Ollama would take for one the router reads.
        MissingModel, ModelNotFound: the endpoint needs a model and none is named; Ollama has both words for it.
        InvalidModelName: the name is too long or has unprintable characters.
    """
    endpoint = match.endpoint
    if endpoint.body is Body.JSON:
        return _read_account(match, body) if endpoint.kind is Kind.ACCOUNT else _read_json(match, body)
    if endpoint.body is Body.FORM:
        return _read_form(match, body, content_type)
    route = RouteRequest(family=endpoint.family)
    return ParsedRequest(endpoint=endpoint, route=route, body=b"", parameter=match.parameter, target=match.target)


def _read_account(match: Match, body: bytes) -> ParsedRequest:
    """Parse the body of a route without a model: one JSON object, or nothing."""
    document = parse_object(body) if body else None
    route = RouteRequest(family=match.endpoint.family)
    return ParsedRequest(endpoint=match.endpoint, route=route, body=body, document=document, target=match.target)


def _read_json(match: Match, body: bytes) -> ParsedRequest:
    endpoint = match.endpoint
    if not body:
        raise no_body(endpoint.family is Family.OLLAMA)
    document = parse_object(_EMPTY_OBJECT if body.strip() == b"null" else body)
    if endpoint.kind is Kind.MANAGE:
        return _read_managing(match, body, document)
    route = _plain_route(document, endpoint, len(body))
    if route is None:
        _check_keys(document.values, TYPES)
        route = _route(document, endpoint, len(body))
    return ParsedRequest(endpoint=endpoint, route=route, body=body, document=document, target=endpoint.path)


def _read_managing(match: Match, body: bytes, document: JsonObject) -> ParsedRequest:
    endpoint, values = match.endpoint, document.values
    _check_keys(values, MANAGE_TYPES)
    makes = endpoint.name == "create"
    return ParsedRequest(
        endpoint=endpoint,
        route=_route(document, endpoint, len(body)),
        body=body,
        document=document,
        target=match.target,
        blobs=read_blobs(values) if makes else frozenset(),
        base=values.get("from") or None if makes else None,
    )


def _check_keys(values: Mapping[str, Any], types: Mapping[str, frozenset[object]]) -> None:
    if not values.keys() <= READ_KEYS:
        refuse_lookalikes(values, READ_KEYS)
    refuse_wrong_types(values, types)


def _plain_route(document: JsonObject, endpoint: Endpoint, size: int) -> RouteRequest | None:
    """What `_route` says of most requests, from the text of a few values; None for one that wants a closer look.

    Nothing is refused here that would not be refused there with the same words.
    """
    pieces = document.pieces
    if pieces is None or not pieces.keys() <= PLAIN_KEYS or "model" not in pieces:
        return None
    model, stream = pieces["model"], endpoint.streams
    named = _plain_name(bytes(model)) if len(model) < LONGEST_NAME else None
    if stream is not None and "stream" in pieces:
        stream = _TRUTHS.get(bytes(pieces["stream"]))
        if stream is None:
            return None
    if "messages" in pieces:
        messages = bytes(pieces["messages"])
        if messages[0] != _BRACKET or may_hold_images(messages):
            return None
    if named is None:
        return None
    needs, num_ctx, most = only(endpoint.needs), None, None
    if not DEEPER_KEYS.isdisjoint(pieces):
        deeper = _deeper(document, pieces, endpoint)
        if deeper is None:
            return None
        needs, num_ctx, most = deeper
    return RouteRequest(
        model_text=named[0],
        model=named[1],
        family=endpoint.family,
        stream=stream or False,
        num_ctx=num_ctx,
        needs=needs,
        prompt_bytes=size,
        max_tokens=most,
        uses_cloud=named[2],
    )


_Deeper = tuple[frozenset[str], int | None, int | None]
"""What is needed, the context and the limit of the answer, both in tokens."""


def _deeper(document: JsonObject, pieces: dict[str, Raw], endpoint: Endpoint) -> _Deeper | None:
    """The part of it that few values tell; None for what wants a closer look."""
    if (
        ("keep_alive" in pieces and not plain_keep_alive(bytes(pieces["keep_alive"])))
        or ("tools" in pieces and not plain_tools(bytes(pieces["tools"])))
        or ("options" in pieces and not bytes(pieces["options"]).startswith(b"{"))
    ):
        return None
    needs = only(endpoint.needs)
    if "tools" in pieces:
        needs = with_tools(needs)
    if endpoint.family is not Family.OLLAMA:
        most = plain_limit(pieces)
        return None if most == 0 else (needs, None, most)
    if "options" not in pieces:
        return needs, None, None
    options = checked_options(document)
    return needs, read_num_ctx(options), read_max_tokens({}, options, endpoint)


def _route(document: JsonObject, endpoint: Endpoint, size: int) -> RouteRequest:
    """Return what a decision needs to know."""
    values = document.values
    text = _model_text(values, endpoint)
    model, hosted = _name(text)
    options = read_options(document, endpoint) if "options" in values else None
    return RouteRequest(
        model_text=text,
        model=model,
        family=endpoint.family,
        stream=wants_stream(values, endpoint),
        num_ctx=None if options is None else read_num_ctx(options),
        needs=read_needs(values, endpoint),
        prompt_bytes=size,
        max_tokens=read_max_tokens(values, options, endpoint),
        unloads="keep_alive" in values and unloads(values, endpoint),
        keeps_model="keep_alive" not in values or endpoint.family is not Family.OLLAMA or keeps_model(values),
        uses_cloud=hosted or (("tools" in values or endpoint.kind is Kind.MANAGE) and uses_cloud(values, endpoint)),
    )


def _read_form(match: Match, body: bytes, content_type: bytes) -> ParsedRequest:
    endpoint = match.endpoint
    form = parse_form(content_type, body)
    text = _spoken(form.value("model") or "", endpoint)
    model, hosted = _name(text)
    route = RouteRequest(
        model_text=text,
        model=model,
        family=endpoint.family,
        needs=only(endpoint.needs),
        prompt_bytes=len(body),
        uses_cloud=hosted,
    )
    return ParsedRequest(endpoint=endpoint, route=route, body=form.encode(), form=form, target=match.target)


def _model_key(values: Mapping[str, Any], endpoint: Endpoint) -> str | None:
    for key in endpoint.model_keys:
        if values.get(key):
            return key
    return None


def _model_text(values: Mapping[str, Any], endpoint: Endpoint) -> str:
    found = _model_key(values, endpoint)
    text = "" if found is None else values[found]
    if endpoint.kind is not Kind.MANAGE or endpoint.name in _TRIMMED:
        text = _spoken(text, endpoint)
    if endpoint.kind is not Kind.MANAGE:
        return text
    _check_name(text, endpoint)
    if endpoint.name == "copy":
        _check_name(values.get("destination") or "", endpoint, key="destination")
    if values.get("from"):
        _refuse_unshowable(values["from"])
    return text


def _name(text: str) -> tuple[CanonicalName, bool]:
    """What a name that can be shown means, and whether it is one of Ollama's hosted service."""
    _refuse_unshowable(text)
    return canonical_name(text), is_cloud_name(text)


@lru_cache(maxsize=4096)  # 1.4 us
def _plain_name(text: bytes) -> tuple[str, CanonicalName, bool] | None:
    """A model's name as JSON and what `_name` says of it; None for what is no name."""
    name = json.loads(text)
    if type(name) is not str or not (name := without_spaces(name)):
        return None
    try:
        return name, *_name(name)
    except InvalidModelName:
        return None


def _spoken(text: str, endpoint: Endpoint) -> str:
    """A name without the white space around it, as Ollama reads it."""
    spoken = without_spaces(text)
    if not spoken:
        raise no_model(endpoint.name, blank=text)
    return spoken


def _check_name(text: str, endpoint: Endpoint, *, key: str = "source") -> None:
    if not text:
        raise no_model(endpoint.name, key=key)
    _refuse_unshowable(text)
    if not is_model_name(text):
        raise bad_model_name(endpoint.name, text, key=key)


def _refuse_unshowable(text: str) -> None:
    if len(text) > LONGEST_NAME or not text.isprintable():
        raise InvalidModelName("invalid model name")
