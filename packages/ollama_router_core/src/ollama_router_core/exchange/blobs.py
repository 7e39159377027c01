"""Blobs, and the models created from them.

The router asks the servers where a blob is instead of storing it, which also works after a restart. It remembers only
the server of a user's last upload, for ten minutes, so that the blobs of one model end up on one server.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.errors import InvalidTarget, ModelNotFound, PartlyDone, RouterError
from ollama_router_core.exchange.actions import Steps, StreamBody
from ollama_router_core.exchange.answers import answer_for
from ollama_router_core.exchange.asking import Order, Reply, ask_all
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.exchange.events import BodyStream
from ollama_router_core.exchange.fan_out import ask_fleet
from ollama_router_core.exchange.lengths import declared_length
from ollama_router_core.exchange.model_operations import make, pass_on, sized_as, target_of, up_servers
from ollama_router_core.responses.several_servers import failed_on
from ollama_router_core.routing.model_placement import Unsaid, owners, servers_by_priority, servers_for_target

__all__ = ["blob_exists", "create", "upload_blob"]

_DIGEST = re.compile(r"sha256[:-][0-9a-fA-F]{64}", re.ASCII)
_TOGETHER_SECONDS = 600.0
_LOOK_SECONDS = 2.0
_MOST_REMEMBERED = 1024


def create(environment: Environment, context: RequestContext, request: ParsedRequest) -> Steps[None]:
    """Create a model on its target, else on the one server that has its blobs or its base.

    Raises:
        RouterError: no server is up, a target is unknown, the blobs are on different servers, or a server failed.
    """
    yield from ask_fleet(environment, "/api/tags")
    target = target_of(environment, context)
    if isinstance(target, Unsaid):
        server = yield from _creating_server(environment, context, request)
        names: tuple[str, ...] = (server,)
    else:
        names = servers_for_target(target, sized_as(request), environment.fleet.snapshot, environment.config)
    yield from make(environment, context, request, names)


def blob_exists(environment: Environment, context: RequestContext, request: ParsedRequest) -> Steps[None]:
    """Answer whether a blob exists where the next request needs it.

    That is on all targets, else on the server of this user's last upload, else on any server.

    Raises:
        ModelNotFound: it does not.
    """
    digest = _checked_digest(request)
    target = target_of(environment, context)
    if isinstance(target, Unsaid):
        names, wanted = _last_upload(environment, context) or up_servers(environment), 1
    else:
        names = servers_for_target(target, request.route, environment.fleet.snapshot, environment.config)
        wanted = len(names)
    found = yield from _find_blobs(environment, context, (digest,), names)
    having = [name for name in names if found[name]]
    if len(having) < wanted:
        raise ModelNotFound(f'blob "{digest}" not found')
    if isinstance(target, Unsaid):
        _remember_upload(environment, context, having[0])
    context.server, context.attempts = ", ".join(having), len(names)
    yield from answer_for(context, b"", None)


def upload_blob(environment: Environment, context: RequestContext, request: ParsedRequest) -> Steps[None]:
    """Stream a blob to its targets, else to the server of this user's last upload.

    Raises:
        RouterError: no server is up, a target is unknown, or a server failed.
    """
    _checked_digest(request)
    target = target_of(environment, context)
    if isinstance(target, Unsaid):
        names = (_last_upload(environment, context) or up_servers(environment))[:1]
        _remember_upload(environment, context, names[0])
    else:
        names = servers_for_target(target, request.route, environment.fleet.snapshot, environment.config)
    length = declared_length(context.headers)
    bodies: tuple[BodyStream, ...] = yield StreamBody(len(names))
    orders = [
        Order(method="POST", target=request.target, body=body, body_length=length, patient=True) for body in bodies
    ]
    if len(names) == 1:
        yield from pass_on(environment, context, request, names[0], orders[0])
    else:
        yield from _upload_to_all(environment, context, names, orders)


def _upload_to_all(
    environment: Environment, context: RequestContext, names: tuple[str, ...], orders: list[Order]
) -> Steps[None]:
    context.server, context.attempts = ", ".join(names), len(names)
    requests = [order.to(environment, context, name) for name, order in zip(names, orders, strict=True)]
    replies = yield from ask_all(environment, requests)
    failed = {name: _error_text(reply) for name, reply in zip(names, replies, strict=True) if not _is_stored(reply)}
    if failed:
        raise PartlyDone(failed_on("upload", failed, [name for name in names if name not in failed]))
    status = max(reply.status for reply in replies if isinstance(reply, Reply))
    yield from answer_for(context, b"", None, status=status)


def _is_stored(reply: Reply | RouterError) -> bool:
    return isinstance(reply, Reply) and reply.status in {200, 201}


def _error_text(reply: Reply | RouterError) -> str:
    return reply.body[:200].decode("utf-8", "replace") if isinstance(reply, Reply) else reply.message


def _creating_server(environment: Environment, context: RequestContext, request: ParsedRequest) -> Steps[str]:
    """Find the server that has the blobs or the base of the new model."""
    up = up_servers(environment)
    if request.blobs:
        up = (yield from _with_all(environment, context, request.blobs, up)) or _last_upload(environment, context) or up
    if request.base:
        base = owners(environment.fleet.snapshot, canonical_name(request.base))
        having = [name for name in up if name in base]
        if having:
            return having[0]
        if not request.blobs:
            return servers_for_target(Unsaid(), sized_as(request), environment.fleet.snapshot, environment.config)[0]
    return up[0]  # a server pulls a base that it lacks


def _with_all(
    environment: Environment, context: RequestContext, digests: frozenset[str], up: tuple[str, ...]
) -> Steps[tuple[str, ...]]:
    """Return the servers that have all blobs, this user's last upload's first; none if no server has any.

    Raises:
        InvalidTarget: the blobs are on different servers.
    """
    found = yield from _find_blobs(environment, context, digests, up)
    whole = tuple(name for name in up if len(found[name]) == len(digests))
    if not whole and any(found.values()):
        apart = "; ".join(f"{name} has {len(held)} of {len(digests)}" for name, held in found.items() if held)
        raise InvalidTarget(f"no server has all files of this model ({apart}): send them again to one server")
    last = _last_upload(environment, context)
    return tuple(sorted(whole, key=lambda name: name not in last))


def _find_blobs(
    environment: Environment, context: RequestContext, digests: Collection[str], names: tuple[str, ...]
) -> Steps[dict[str, set[str]]]:
    """Return which of these blobs each server has; a server that does not answer in time has none."""
    pairs = [(name, digest) for name in names for digest in digests if _DIGEST.fullmatch(digest)]
    requests = [
        Order(method="HEAD", target=f"/api/blobs/{digest}").to(environment, context, name) for name, digest in pairs
    ]
    replies = yield from ask_all(environment, requests, seconds=_LOOK_SECONDS)
    found: dict[str, set[str]] = {name: set() for name in names}
    for (name, digest), reply in zip(pairs, replies, strict=True):
        if isinstance(reply, Reply) and reply.ok:
            found[name].add(digest)
    return found


def _last_upload(environment: Environment, context: RequestContext) -> tuple[str, ...]:
    """Return the server of this user's last upload, if it is recent and the server is up."""
    name, until = environment.last_uploads.get(context.user_id, ("", 0.0))
    up = servers_by_priority(environment.fleet.snapshot, environment.config)
    return (name,) if name in up and environment.now() < until else ()


def _remember_upload(environment: Environment, context: RequestContext, name: str) -> None:
    last, user = environment.last_uploads, context.user_id
    last[user] = (name, environment.now() + _TOGETHER_SECONDS)
    last.move_to_end(user)
    if len(last) > _MOST_REMEMBERED:
        last.popitem(last=False)


def _checked_digest(request: ParsedRequest) -> str:
    digest = request.parameter or ""
    if not _DIGEST.fullmatch(digest):
        raise InvalidTarget("invalid digest format")
    return digest
