"""The steps of a request, from its head to the end of its response."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial

from msgspec.structs import replace

from ollama_router_core.access.cross_origin import allowed_origin_fields, check_origin, preflight_fields
from ollama_router_core.access.speaking import named_in_fields
from ollama_router_core.api.endpoint_matching import Match, match_endpoint
from ollama_router_core.api.endpoints import ENDPOINTS, Body, Endpoint, Kind, Routing
from ollama_router_core.api.forwarded import is_forwarded, match_forwarded
from ollama_router_core.api.ollama_errors import SERVER_BUSY
from ollama_router_core.api.requests import ParsedRequest, parse_request
from ollama_router_core.api.wrong_addresses import clean_path, meant_endpoint
from ollama_router_core.errors import BodyTooLarge, Overloaded, UnknownRoute, UnsupportedEncoding, UpstreamError
from ollama_router_core.exchange.access import (
    charge,
    charged,
    check_granted_model,
    check_hosted,
    check_route,
    count,
    is_counted,
)
from ollama_router_core.exchange.actions import ReadBody, Steps, Verify
from ollama_router_core.exchange.admitting import admit, admit_again, free_memory
from ollama_router_core.exchange.answers import answer_whole, finish, write_head
from ollama_router_core.exchange.applied_policy import applied_policy
from ollama_router_core.exchange.attempts import forward_request
from ollama_router_core.exchange.blobs import blob_exists, create, upload_blob
from ollama_router_core.exchange.computing import computed
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.counting import count_prompt
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.exchange.events import Headers, Preempted, Queued
from ollama_router_core.exchange.external import pass_external, read_external
from ollama_router_core.exchange.fan_out import answer_merged
from ollama_router_core.exchange.feedback import note_answered
from ollama_router_core.exchange.model_operations import change_owners, pull, push, serve_account, unload
from ollama_router_core.exchange.on_behalf_of import speak, speak_for_named
from ollama_router_core.exchange.relaying import relay, relay_late_error
from ollama_router_core.exchange.reranking import rerank
from ollama_router_core.exchange.responses_store import continued, is_kept, keeping, serve_stored
from ollama_router_core.exchange.server_slot import ServerSlot
from ollama_router_core.exchange.translating import answer_locally, relay_translated
from ollama_router_core.exchange.upstream_answer import Answer, release
from ollama_router_core.outbound.external_routes import EXTERNAL, PREFIX, checked_query
from ollama_router_core.routing.selector import assigned_destination
from ollama_router_core.translate import codec_of

__all__ = ["HANDLERS", "Handler", "accept"]

_ROOT = b"Ollama is running"
PREFLIGHT = Endpoint("preflight", ("OPTIONS",), "*", Kind.READ, Routing.ROUTER)
"""A browser's CORS preflight request, on any path."""
MOVED = Endpoint("moved", ("GET", "HEAD", "POST", "DELETE"), "*", Kind.READ, Routing.ROUTER)
"""A known path with superfluous slashes, which is redirected."""
_HOST = re.compile(r"[A-Za-z0-9.\-:\[\]]{1,255}", re.ASCII)

Handler = Callable[[Environment, RequestContext, ParsedRequest], Steps[None]]
"""Answers one kind of request, after authentication and authorization."""


def accept(environment: Environment, context: RequestContext) -> Steps[ParsedRequest]:
    """Match the route, authenticate, authorize, count and parse the request; return it for its handler.

    Raises:
        RouterError: it cannot be served; the error is the response.
    """
    refuse_overload(environment)
    limits = environment.limits
    origin = None if limits is None else admit_origin(environment, context)
    is_preflight = origin is not None and context.method == "OPTIONS"
    match = Match(PREFLIGHT) if is_preflight else find_route(environment, context)
    endpoint = context.endpoint = match.endpoint
    if limits is not None and endpoint.routing is not Routing.ROUTER:
        user = context.user = yield Verify(context.headers, context.address)
        check_route(user, endpoint, context.address, wall=context.started_at)
        if user.grants.speaks_for is not None:
            context.speaker = user
            yield from speak(environment, context, named_in_fields(context.headers, environment.config.persons.header))
        elif is_counted(user, endpoint):
            yield from count(context, limits, user)
    request = yield from _read(environment, context, match)
    check_granted_model(context)
    check_hosted(environment, context, request)
    yield from charge(environment, context)
    if endpoint.routing is not Routing.ONE:
        yield from charged(environment, context)
    return request


def refuse_overload(environment: Environment) -> None:
    """Refuse a request beyond the router's in-flight limit.

    Raises:
        Overloaded: `limits.max_in_flight` is exceeded.
    """
    if environment.in_flight() > environment.config.limits.max_in_flight:
        raise Overloaded(SERVER_BUSY, retry_after=1)


def admit_origin(environment: Environment, context: RequestContext) -> str | None:
    """Check the origin of a web page's request; return it, None without an `Origin` field.

    Raises:
        Forbidden: the origin is not allowed.
    """
    origin = next((value.decode("latin-1") for name, value in context.headers if name == b"origin"), None)
    if origin is not None:
        allowed = environment.config.cors.origins
        check_origin(origin, context.header(b"host"), allowed)
        context.origin_fields = allowed_origin_fields(origin, allowed)
    return origin


def find_route(environment: Environment, context: RequestContext) -> Match:
    """Match a request to the endpoint table, or to the operator's `forward_unknown` paths.

    Raises:
        UnknownRoute, MethodNotAllowed: no row matches.
    """
    if context.path.startswith(PREFIX):
        return Match(EXTERNAL)
    passed_on = environment.config.forward_unknown
    try:
        known = match_endpoint(context.method, context.path)
        if known.endpoint.routing is not Routing.RERANK or context.path not in passed_on:
            return known
        return match_forwarded(context.method, context.path, passed_on) or known  # Ollama has no such route
    except UnknownRoute:
        found = match_forwarded(context.method, context.path, passed_on)
        if found is not None:
            return found
        if clean_path(context.method, context.path) is not None:
            return Match(MOVED)
        raise _unknown_route(environment, context) from None


def _unknown_route(environment: Environment, context: RequestContext) -> UnknownRoute:
    """Build the error for an unknown path, with the base URL that the client probably needs."""
    meant = meant_endpoint(context.path)
    if meant is None:
        return UnknownRoute("404 page not found")
    config, host = environment.config, context.header(b"host") or ""
    scheme = "http" if config.tls.certificate is None else "https"
    address = config.console.public_url or f"{scheme}://{host if _HOST.fullmatch(host) else 'ROUTER'}"
    base = address.rstrip("/") + codec_of(meant.family).client_base
    return UnknownRoute(f"404 page not found: {meant.path} may be meant; if so, set the client's base URL to {base}")


def _read(environment: Environment, context: RequestContext, match: Match) -> Steps[ParsedRequest]:
    """Read and parse the request and apply the policy; a pass-through body stays unread."""
    endpoint = match.endpoint
    if endpoint is EXTERNAL or endpoint.body is Body.RAW:
        yield from speak_for_named(environment, context)
    if endpoint is EXTERNAL:
        return applied_policy(environment, context, read_external(environment, context))
    if endpoint.body is Body.RAW or endpoint.routing is Routing.ROUTER:
        return applied_policy(environment, context, parse_request(match, b""))
    compressed = check_announced(context.headers, endpoint, environment.max_body)
    body = yield ReadBody(environment.max_body, compressed)
    if context.speaker is None and not is_kept(environment, context):
        return (yield from computed(len(body), partial(_parse_and_apply, environment, context, match, body)))
    request = yield from computed(len(body), partial(_parse, context, match, body))
    yield from speak_for_named(environment, context, request)
    if is_kept(environment, context):
        request = yield from continued(context, request, partial(_parse, context, match))
    return (yield from computed(len(body), partial(applied_policy, environment, context, request)))


def check_announced(headers: Headers, endpoint: Endpoint, limit: int) -> bool:
    """Check the declared length and encoding of a body; return whether it is compressed.

    Raises:
        BodyTooLarge: it declares more than `limit` bytes.
        UnsupportedEncoding: the endpoint does not accept its encoding.
    """
    compressed = False
    for name, value in headers:
        if name == b"content-length" and int(value) > limit:
            raise BodyTooLarge(f"the body is larger than the limit of {limit} bytes")
        if name == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}:
            if compressed or not endpoint.zstd or value.strip().lower() != b"zstd":
                raise UnsupportedEncoding("send the body without Content-Encoding" + (" or with zstd" * endpoint.zstd))
            compressed = True
    return compressed


def _parse_and_apply(environment: Environment, context: RequestContext, match: Match, body: bytes) -> ParsedRequest:
    return applied_policy(environment, context, _parse(context, match, body))


def _parse(context: RequestContext, match: Match, body: bytes) -> ParsedRequest:
    media_type = (context.header(b"content-type") or "").encode("latin-1") if match.endpoint.body is Body.FORM else b""
    request = parse_request(match, body, content_type=media_type)
    if is_forwarded(match.endpoint):
        request = replace(request, target=request.target + checked_query(context.query.decode("latin-1")))
    return request


# --- handlers ---------------------------------------------------------------------------------------------------------


def _serve_root(environment: Environment, context: RequestContext, request: ParsedRequest) -> Steps[None]:
    """Answer the root path as Ollama does, a preflight, or a redirect."""
    if request.endpoint is PREFLIGHT:
        fields = preflight_fields(context.header(b"origin") or "", environment.config.cors.origins)
        yield from write_head(context, 204, fields)
        yield finish(context, b"")
        return
    if request.endpoint is MOVED:
        yield from _redirect(context)
        return
    yield from answer_whole(context, _ROOT, b"text/plain; charset=utf-8")


def _redirect(context: RequestContext) -> Steps[None]:
    """Redirect to the clean path, with gin's statuses; relative, as a proxy may have stripped a prefix."""
    clean = clean_path(context.method, context.path) or "/"
    up = "../" * (context.path.count("/") - 1)
    location = f"{up}{clean.removeprefix('/')}{checked_query(context.query.decode('latin-1'))}"
    only_trailing = context.path == f"{clean}/"
    status = 301 if only_trailing and context.method in {"GET", "HEAD"} else 307
    yield from answer_whole(context, b"", None, status=status, fields=[(b"location", location.encode("latin-1"))])


def _serve_best(environment: Environment, context: RequestContext, request: ParsedRequest) -> Steps[None]:
    """Serve the request on the best server that has a slot."""
    if request.route.unloads and not _is_external(environment, request):
        yield from charged(environment, context)
        yield from unload(environment, context, request)
        return
    request, slot = yield from admit(environment, context, request)
    while (queued := (yield from _serve_there(environment, context, request, slot))) is not None:
        slot = yield from admit_again(environment, context, request, queued)


def _serve_there(
    environment: Environment, context: RequestContext, request: ParsedRequest, slot: ServerSlot
) -> Steps[Queued | None]:
    """Serve the request on the slot's server or the next; return the new place in the queue after a preemption."""
    try:
        made = answer_locally(environment, context, request, slot.decision)
        if made is not None:
            yield from made
            return None
        if slot.unload:
            yield from free_memory(environment, slot)
        answer = yield from forward_request(environment, context, request, slot)
        try:
            slot.answering()
            note_answered(environment, answer.destination.name, request, answer.status)
            steps = _relay_steps(environment, context, request, answer)
            yield from keeping(environment, context, request, steps) if context.keeps_answer else steps
        except UpstreamError as error:
            context.error = error  # for the breaker
            raise
        finally:
            yield from release(environment, context, answer)
    except Preempted:
        context.left_server(slot.server, environment.now())
        return slot.requeue()
    finally:
        slot.close()
    return None


def _relay_steps(
    environment: Environment, context: RequestContext, request: ParsedRequest, answer: Answer
) -> Steps[None]:
    if context.head_written and answer.status != 200:
        return relay_late_error(context, answer)
    if answer.translation is not None:
        return relay_translated(environment, context, answer, answer.translation)
    return relay(environment, context, request, answer)


def _is_external(environment: Environment, request: ParsedRequest) -> bool:
    destination = environment.destinations.get(assigned_destination(request.route, environment.config) or "")
    return destination is not None and destination.external


HANDLERS: Mapping[Routing, Handler] = {
    Routing.ROUTER: _serve_root,
    Routing.ONE: _serve_best,
    Routing.COUNT: count_prompt,
    Routing.RERANK: rerank,
    Routing.STORED: serve_stored,
    Routing.GATHER: answer_merged,
    Routing.OWNERS: change_owners,
    Routing.PUSH: push,
    Routing.PULL: pull,
    Routing.CREATE: create,
    Routing.BLOB_EXISTS: blob_exists,
    Routing.BLOB_UPLOAD: upload_blob,
    Routing.ACCOUNT: serve_account,
    Routing.EXTERNAL: pass_external,
}
for _row in (*ENDPOINTS, EXTERNAL):
    if _row.routing not in HANDLERS:
        raise LookupError(f"the endpoint {_row.name} has no handler")
