"""Strict parsing of a body into a `RouteRequest`.

The checked body is sent: `ParsedRequest.body` is the client's own text with only the router's edits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace

from ollama_router_core.api.endpoint_matching import Match
from ollama_router_core.api.endpoints import Body, Endpoint, Kind, Versions
from ollama_router_core.api.model_names import (
    LONGEST_NAME,
    CanonicalName,
    canonical_name,
    is_cloud_name,
    is_model_name,
    without_spaces,
)
from ollama_router_core.api.multipart import Form, parse_form
from ollama_router_core.api.ollama_errors import bad_model_name, missing_member, no_body, no_model, unreadable_body
from ollama_router_core.api.prompts import NO_PROMPT, PromptSize, size_of_prompt, usual_tokens
from ollama_router_core.api.request_keys import (
    COPY_TYPES,
    MANAGE_TYPES,
    NO_LOAD_OPTIONS,
    READ_KEYS,
    TYPES,
    keeps_model,
    only,
    read_blobs,
    read_load_options,
    read_max_tokens,
    read_needs,
    read_num_ctx,
    read_options,
    refuse_lookalikes,
    refuse_wrong_types,
    unloads,
    uses_cloud,
    wants_stream,
)
from ollama_router_core.api.strict_json import JsonObject, parse_object
from ollama_router_core.errors import InvalidBody, InvalidModelName

__all__ = ["ParsedRequest", "RouteRequest", "parse_request"]

_TRIMMED = frozenset({"delete", "pull"})  # the managing routes whose names Ollama strips
_RECORDING = PromptSize(messages=1, images=1)  # a form's prompt: a recording
_EMPTY_OBJECT = b"{}"  # Go decodes null as an empty object, without a model


class RouteRequest(Struct, frozen=True, kw_only=True):
    """The facts about a request for a routing decision.

    `model_text` is the client's spelling of the name, stripped, `model` its canonical form; both are None for a route
    without a model. `num_ctx` is the requested context in tokens, None for the server's default. `load_options` are
    other options that the model is loaded with. `needs` are the capabilities the model must have. `prompt` is the size
    of the prompt, `prompt_tokens` an estimate of its tokens. `max_tokens` is the client's limit of the response.
    `uses_cloud` is True if the name or a hosted tool uses Ollama's paid service. `unloads` marks a request that only
    unloads the model; `keeps_model` is False if the model is unloaded after it. `versions` are the versions of Ollama
    with its route, None if all have it. `pin` names the only server that may get the request.
    """

    model_text: str | None = None
    model: CanonicalName | None = None
    stream: bool = False
    num_ctx: int | None = None
    load_options: frozenset[tuple[str, object]] = frozenset()
    needs: frozenset[str] = frozenset()
    prompt: PromptSize = NO_PROMPT
    prompt_tokens: int = 0
    max_tokens: int | None = None
    unloads: bool = False
    keeps_model: bool = True
    uses_cloud: bool = False
    versions: Versions | None = None
    pin: str | None = None


class ParsedRequest(Struct, frozen=True, kw_only=True):
    """A strictly parsed request: endpoint, routing facts, and the body to send.

    `target` is the upstream path. `content_type` replaces the client's field if the body was re-encoded (forms).
    `blobs` are the digests of a new model's files, `base` the name of the model it is created from.
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
        """Omit the body, which contains users' prompts."""
        return f"ParsedRequest(endpoint={self.endpoint.name!r}, route={self.route!r}, body=<{len(self.body)} bytes>)"

    @property
    def content_type(self) -> bytes | None:
        """The Content-Type to send instead of the client's; None to keep the client's."""
        return None if self.form is None else self.form.content_type

    def edited(self, changes: Mapping[str, str | None]) -> ParsedRequest:
        """Return the request with some values of its JSON body replaced; see `JsonObject.replace`."""
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
        key = _model_key(self.document, self.endpoint) or self.endpoint.model_keys[0]
        return replace(self.edited({key: json.dumps(text)}), route=_renamed(self.route, text))


def _renamed(route: RouteRequest, text: str) -> RouteRequest:
    return replace(
        route, model_text=text, model=canonical_name(text), uses_cloud=route.uses_cloud or is_cloud_name(text)
    )


def parse_request(match: Match, body: bytes, *, content_type: bytes = b"") -> ParsedRequest:
    """Parse a request's body. `content_type` is the client's header field, used for forms.

    Raises:
        InvalidBody: the body is not one JSON object in UTF-8, or a key that the router reads has the wrong type.
        AmbiguousKey: a key is repeated, or Ollama would match it to another key that the router reads.
        MissingModel, ModelNotFound: the endpoint needs a model and none is named; which one depends on the route.
        InvalidModelName: the name is too long or has unprintable characters.
    """
    endpoint = match.endpoint
    if endpoint.body is Body.JSON:
        return _read_account(match, body) if endpoint.kind is Kind.ACCOUNT else _read_json(match, body)
    if endpoint.body is Body.FORM:
        return _read_form(match, body, content_type)
    return ParsedRequest(
        endpoint=endpoint, route=RouteRequest(), body=b"", parameter=match.parameter, target=match.target
    )


def _read_account(match: Match, body: bytes) -> ParsedRequest:
    """Parse the body of a route without a model: one JSON object, or empty."""
    document = parse_object(body) if body else None
    return ParsedRequest(
        endpoint=match.endpoint, route=RouteRequest(), body=body, document=document, target=match.target
    )


def _read_json(match: Match, body: bytes) -> ParsedRequest:
    endpoint = match.endpoint
    if not body:
        raise no_body(endpoint.native)
    document = _read_object(body, endpoint)
    if endpoint.kind is Kind.MANAGE:
        return _read_managing(match, body, document)
    _check_keys(document, TYPES, endpoint)
    route = _route(document, endpoint, prompt=size_of_prompt(document))
    return ParsedRequest(endpoint=endpoint, route=route, body=body, document=document, target=endpoint.path)


def _read_object(body: bytes, endpoint: Endpoint) -> JsonObject:
    """Parse the object; if Ollama would reject it too, raise Ollama's error."""
    try:
        return parse_object(_EMPTY_OBJECT if body.strip() == b"null" else body)
    except InvalidBody as error:
        raise unreadable_body(endpoint.name, body, native=endpoint.native) or error from None


def _read_managing(match: Match, body: bytes, document: JsonObject) -> ParsedRequest:
    endpoint = match.endpoint
    _check_keys(document, COPY_TYPES if endpoint.name == "copy" else MANAGE_TYPES, endpoint)
    makes = endpoint.name == "create"
    return ParsedRequest(
        endpoint=endpoint,
        route=_route(document, endpoint),
        body=body,
        document=document,
        target=match.target,
        blobs=read_blobs(document) if makes else frozenset(),
        base=document.get("from") or None if makes else None,
    )


def _check_keys(document: JsonObject, types: Mapping[str, frozenset[object]], endpoint: Endpoint) -> None:
    refuse_lookalikes(document.keys, READ_KEYS)
    refuse_wrong_types(document, types, endpoint)


def _route(document: JsonObject, endpoint: Endpoint, *, prompt: PromptSize = NO_PROMPT) -> RouteRequest:
    """Return the facts for a routing decision."""
    text, keys = _model_text(document, endpoint), document.keys
    model, hosted = _name(text)
    options = read_options(document, endpoint) if "options" in keys else None
    may_set_load_options = endpoint.native and ("options" in keys or "shift" in keys)
    return RouteRequest(
        model_text=text,
        model=model,
        stream=wants_stream(document, endpoint),
        num_ctx=None if options is None else read_num_ctx(options),
        load_options=read_load_options(document, options) if may_set_load_options else NO_LOAD_OPTIONS,
        needs=read_needs(document, endpoint),
        prompt=prompt,
        prompt_tokens=0 if prompt is NO_PROMPT else usual_tokens(prompt),
        max_tokens=read_max_tokens(document, options, endpoint),
        unloads="keep_alive" in keys and unloads(document, endpoint),
        keeps_model="keep_alive" not in keys or not endpoint.native or keeps_model(document),
        uses_cloud=hosted or (("tools" in keys or endpoint.kind is Kind.MANAGE) and uses_cloud(document, endpoint)),
        versions=endpoint.versions,
    )


def _read_form(match: Match, body: bytes, content_type: bytes) -> ParsedRequest:
    endpoint = match.endpoint
    form = parse_form(content_type, body)
    text = _stripped_name(form.value("model") or "", endpoint)
    model, hosted = _name(text)
    route = RouteRequest(
        model_text=text,
        model=model,
        needs=only(endpoint.needs),
        prompt=_RECORDING,
        prompt_tokens=usual_tokens(_RECORDING),
        uses_cloud=hosted,
        versions=endpoint.versions,
    )
    return ParsedRequest(endpoint=endpoint, route=route, body=form.encode(), form=form, target=match.target)


def _model_key(document: JsonObject, endpoint: Endpoint) -> str | None:
    for key in endpoint.model_keys:
        if document.truthy(key):
            return key
    return None


def _model_text(document: JsonObject, endpoint: Endpoint) -> str:
    found = _model_key(document, endpoint)
    if found is None and (missing := missing_member(endpoint.name, document.keys)) is not None:
        raise missing
    text = "" if found is None else str(document.get(found))
    if endpoint.kind is not Kind.MANAGE or endpoint.name in _TRIMMED:
        text = _stripped_name(text, endpoint)
    if endpoint.kind is not Kind.MANAGE:
        return text
    _check_name(text, endpoint)
    if endpoint.name == "copy":
        _check_name(document.get("destination") or "", endpoint, key="destination")
    if document.truthy("from"):
        _refuse_unprintable(document.get("from"))
    return text


@lru_cache(maxsize=4096)  # 1.4 us
def _name(text: str) -> tuple[CanonicalName, bool]:
    """Return the canonical form of a printable name, and whether it is a cloud name."""
    _refuse_unprintable(text)
    return canonical_name(text), is_cloud_name(text)


def _stripped_name(text: str, endpoint: Endpoint) -> str:
    """Strip the white space around a name, as Ollama does."""
    spoken = without_spaces(text)
    if not spoken:
        raise no_model(endpoint.name, blank=text)
    return spoken


def _check_name(text: str, endpoint: Endpoint, *, key: str = "source") -> None:
    if not text:
        raise no_model(endpoint.name, key=key)
    _refuse_unprintable(text)
    if not is_model_name(text):
        raise bad_model_name(endpoint.name, text, key=key)


def _refuse_unprintable(text: str) -> None:
    if len(text) > LONGEST_NAME or not text.isprintable():
        raise InvalidModelName("invalid model name")
