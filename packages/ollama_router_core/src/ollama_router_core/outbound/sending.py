"""Builds a destination's request, and translates its response to the client's dialect.

An Ollama server speaks every dialect of the table and gets requests unchanged, unless an operator's rule sets their
context, which only its own dialect can express. An external host gets requests of its own API unchanged, and the
others translated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.api.strict_json import parse_object
from ollama_router_core.api.value_counts import MOST_VALUES, too_many_values
from ollama_router_core.errors import RequestError
from ollama_router_core.outbound.destinations import Destination, Fields
from ollama_router_core.outbound.host_profiles import HostFacts
from ollama_router_core.outbound.stream_usage import asking_for_usage
from ollama_router_core.translate import (
    ROUTES,
    ConversationRoute,
    EmbeddingRoute,
    HostFailed,
    Recall,
    ReplyIdentity,
    ReplyOptions,
    Route,
    StreamTranslator,
    TranslatedError,
    TurnThoughts,
    UntranslatableReply,
    UntranslatableRequest,
    codec_of,
    route_at,
    ruled_changes,
    translate_error,
    translate_reply,
    translate_request,
    written_error,
)

__all__ = ["Outbound", "Translation", "answer_here", "prepare", "work_of"]

_MODEL = "{model}"
"""Placeholder in the path prefix of a host with one deployment per model."""
_PDF = b"JVBERi0"
"""Start of the base64 encoding of a PDF."""
_PDF_WORK = 1024

_LONGEST_REPLY = 16 * 1024 * 1024
"""Maximum bytes of a translated response: one decoder or encoder call takes less than 50 ms."""
_LONGEST_VECTORS = 32 * 1024 * 1024
_MOST_NUMBERS = 1_500_000
"""Numbers cost a decoder a tenth of objects: nearly 1,000 vectors of 1,536."""
_JSON = b"application/json; charset=utf-8"
_ADDED_BY_OLLAMA: Mapping[str, Mapping[str, float]] = {
    "/v1/chat/completions": {"temperature": 1.0, "top_p": 1.0},
    "/v1/completions": {"temperature": 1.0, "top_p": 1.0},
    "/v1/responses": {"temperature": 1.0},
}
"""Defaults that Ollama sets for requests of these routes: its openai/openai.go and responses.go."""
_CHAT_PATHS = ", ".join(r.path for r in ROUTES if isinstance(r, ConversationRoute) and not r.plain_prompt)


class Translation(Struct, frozen=True, kw_only=True):
    """The translation of a response from `host`, the destination's dialect, to `client`, the request's dialect."""

    client: Route
    host: Route
    stream: bool
    options: ReplyOptions

    def stream_translator(self, identity: ReplyIdentity) -> StreamTranslator:
        """Make a translator for one streamed response.

        Raises:
            UntranslatableReply: the routes do not stream.
        """
        if not (isinstance(self.host, ConversationRoute) and isinstance(self.client, ConversationRoute)):
            raise UntranslatableReply(f"an answer of {self.host.path} is not a stream")
        return StreamTranslator(self.host, self.client, identity=identity, options=self.options)

    def reply(
        self, pieces: Iterable[bytes], identity: ReplyIdentity, *, elapsed_ns: int, keep: Callable[[TurnThoughts], None]
    ) -> bytes:
        """Translate a complete response, given in pieces, to the client's dialect; see `translate_reply`.

        Raises:
            UntranslatableReply: it is no response of the host's dialect, or has too many values.
        """
        body = b"".join(pieces)
        most = _MOST_NUMBERS if isinstance(self.host, EmbeddingRoute) else MOST_VALUES
        if (too_many := too_many_values(body, most=most)) is not None:
            raise UntranslatableReply(f"the answer has {too_many}")
        return translate_reply(
            body,
            source=self.host,
            target=self.client,
            identity=identity,
            options=self.options,
            elapsed_ns=elapsed_ns,
            keep=keep,
        )

    def error(self, status: int, body: bytes, identity: ReplyIdentity) -> TranslatedError:
        """Translate an error response to the client's dialect."""
        return translate_error(status, body, target=self.client, request_id=identity.id)

    def failure(self, error: HostFailed, identity: ReplyIdentity) -> TranslatedError:
        """Write an error that a host sent in place of a response."""
        return written_error(error.error, target=self.client, request_id=identity.id)

    @property
    def longest_reply(self) -> int:
        """Maximum bytes of a translated response."""
        return _LONGEST_VECTORS if isinstance(self.host, EmbeddingRoute) else _LONGEST_REPLY

    @property
    def content_type(self) -> bytes:
        """The media type of a successful response."""
        return codec_of(self.client.family).framing.media_type.encode() if self.stream else _JSON


class Outbound(Struct, frozen=True, kw_only=True):
    """One request as a destination gets it.

    `target` is path and query. `headers` are fields that the request needs besides the client's and the destination's
    credential, `defaults` those that it needs unless the client sends its own. `model` is the destination's name.
    `translation` is None for a response that is relayed unchanged. `asks_for_usage`: the stream will contain usage that
    the client did not request. `dropped` names members removed or changed, `retry` the statuses after which the host
    may be asked again, None if unknown.
    """

    target: str
    body: bytes
    headers: Fields = ()
    defaults: Fields = ()
    model: str | None = None
    translation: Translation | None = None
    asks_for_usage: bool = False
    dropped: tuple[str, ...] = ()
    retry: frozenset[int] | None = None

    @property
    def members(self) -> frozenset[str]:
        """The names of the body's top-level members; empty if it is no JSON object."""
        try:
            return frozenset(parse_object(self.body).keys)
        except RequestError:
            return frozenset()

    def __repr__(self) -> str:
        """Omit the body: it contains users' texts."""
        return f"Outbound(target={self.target!r}, body=<{len(self.body)} bytes>, model={self.model!r})"


def prepare(
    request: ParsedRequest, destination: Destination, recall: Recall | None = None, *, without: tuple[str, ...] = ()
) -> Outbound:
    """Build a request for a destination; `recall` returns thoughts that the client could not send back.

    For an external host, the members `without` are omitted, whatever its profile.

    Raises:
        UntranslatableRequest: the host speaks another API, which cannot express the request.
    """
    asked = request.route.model_text
    if not destination.external or asked is None:
        if asked is not None and request.route.num_ctx is not None and not request.endpoint.native:
            outbound = _with_context(request, destination, asked, request.route.num_ctx, recall)
            if outbound is not None:
                return outbound
        headers = () if request.form is None else _content_type(request)
        return _outbound(request, _SERVER, target=destination.own_path(request.target), headers=headers, model=asked)
    if codec_of(destination.family).serves(request.endpoint, destination.traits):
        return _passed_through(request, destination, asked, without)
    return _translated(request, destination, asked, recall, without)


def work_of(request: ParsedRequest, destination: Destination) -> int:
    """Return the work of `prepare` in bytes of a body; a possible PDF counts more than its size."""
    size = len(request.body)
    return size * _PDF_WORK if destination.external and _PDF in request.body else size


def _with_context(
    request: ParsedRequest, destination: Destination, asked: str, num_ctx: int, recall: Recall | None
) -> Outbound | None:
    """Translate a request to Ollama's own dialect, with its context; None if that dialect cannot express it.

    Defaults that Ollama sets in the other dialect are added here.
    """
    try:
        outbound = _translated(request, destination, asked, recall)
    except UntranslatableRequest:
        return None
    document = parse_object(outbound.body)
    if document.get("messages") == []:
        return None  # Ollama refuses this in the other dialect; in its own it only loads the model
    options = {**_ADDED_BY_OLLAMA.get(request.endpoint.path, {}), **(document.get("options") or {}), "num_ctx": num_ctx}
    changes = {"options": json.dumps(options)}
    if _only_enables_thinking(request) and document.get("think"):
        changes["think"] = "null"
    return replace(outbound, body=document.replace(changes).encode())


def _only_enables_thinking(request: ParsedRequest) -> bool:
    """Whether thinking is requested without an effort: Ollama then accepts models that cannot think."""
    effort = codec_of(request.endpoint.family).effort_member
    return effort is not None and (request.document is None or request.document.get(effort) is None)


def _passed_through(request: ParsedRequest, destination: Destination, asked: str, without: tuple[str, ...]) -> Outbound:
    model = destination.model_there(asked)
    there = request if model == asked else request.with_model(model)
    target = destination.path_of(request.target, model)
    facts = destination.profile.facts(route_at(request.endpoint.path), model, asked)
    dropped: tuple[str, ...] = ()
    rules = facts.rules.without(without)
    if there.document is not None and rules.concern(there.document.keys):
        changes, dropped = ruled_changes(there.document, rules)
        there = there.edited(changes) if changes else there
    sent = _outbound(there, facts, target=target, headers=_content_type(there), model=model)
    return replace(sent, dropped=dropped) if dropped else sent


_SERVER = HostFacts()
"""An Ollama server accepts what it documents."""


def _outbound(request: ParsedRequest, facts: HostFacts, *, target: str, headers: Fields, model: str | None) -> Outbound:
    """Request usage for a stream, if the destination supports the option."""
    asking = asking_for_usage(request) if facts.traits.stream_usage else None
    return Outbound(
        target=target,
        body=request.body if asking is None else asking,
        headers=headers,
        defaults=facts.fields,
        model=model,
        asks_for_usage=asking is not None,
        retry=facts.retry,
    )


def _content_type(request: ParsedRequest) -> Fields:
    return () if request.content_type is None else ((b"content-type", request.content_type),)


def _translated(
    request: ParsedRequest, destination: Destination, asked: str, recall: Recall | None, without: tuple[str, ...] = ()
) -> Outbound:
    source = route_at(request.endpoint.path)
    if source is None or request.document is None:
        raise UntranslatableRequest(
            f"{asked} is assigned to {destination.name}, which speaks {destination.family.value}'s API and has no"
            f" {request.endpoint.path}; use one of {_CHAT_PATHS}"
        )
    codec, model = codec_of(destination.family), destination.model_there(asked)
    target = codec.route_for(source)
    facts = destination.profile.facts(target, model, asked)
    if facts.traits.tools_on and request.document.truthy("tools") and _MODEL not in destination.prefix:
        target = next(route for route in ROUTES if route.name == facts.traits.tools_on)
        facts = destination.profile.facts(target, model, asked)
    sent = translate_request(
        request.document.values,
        source=source,
        target=target,
        model=model,
        traits=facts.traits,
        rules=facts.rules.without(without),
        recall=recall,
    )
    translation = Translation(client=source, host=target, stream=sent.stream, options=sent.reply_options)
    return Outbound(
        target=destination.path_of(target.path, model),
        body=sent.body,
        headers=((b"content-type", b"application/json"), *codec.request_fields),
        defaults=facts.fields,
        model=model,
        translation=translation,
        dropped=sent.dropped,
        retry=facts.retry,
    )


def answer_here(request: ParsedRequest, destination: Destination, identity: ReplyIdentity) -> bytes | None:
    """Answer in place of an external host; None for a request that must be forwarded.

    `/api/show` answers from the settings; loading an external model succeeds immediately.
    """
    asked, endpoint = request.route.model_text, request.endpoint
    if not destination.external or asked is None or request.document is None:
        return None
    if codec_of(destination.family).serves(endpoint, destination.traits):
        return None
    model = destination.listing(asked, since_ns=identity.created_ns)
    return codec_of(endpoint.family).answer_locally(endpoint.path, request.document.values, model, identity)
