"""Orders about models as files: which servers are meant, and one answer when there are several."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from functools import partial
from typing import Any

from ollama_router_core.api.endpoints import Kind, Routing
from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.api.ollama_errors import model_not_found
from ollama_router_core.api.requests import ParsedRequest, RouteRequest
from ollama_router_core.client.merging import Merging, json_objects
from ollama_router_core.client.placing import know_the_fleet, look_again
from ollama_router_core.client.room import Account, Room
from ollama_router_core.client.steps import Background, Failure, Outgoing, Reply, Wait
from ollama_router_core.errors import Forbidden, InvalidTarget, NoServerFits, PartlyDone
from ollama_router_core.responses.progress import MergedProgress
from ollama_router_core.routing.model_placement import (
    Named,
    Unsaid,
    differing_digests,
    owners,
    read_target,
    servers_by_priority,
    servers_for_target,
)

__all__ = ["begin_merging", "makes_progress", "order_all", "servers_for"]

_A_DAY = 86_400.0
_MAKING = frozenset({"pull", "create"})
Replies = Mapping[str, Reply | Failure]


def servers_for(room: Room, account: Account, request: ParsedRequest) -> Generator[Any, Any, tuple[str, ...]]:
    """The servers an order is for: those of `X-Router-Target`, else as the proxy chooses them.

    Raises:
        RouterError: nobody has the model, no server is up, a target is unknown, or nobody said which server is meant.
    """
    said = next((value for name, value in account.incoming.fields if name == b"x-router-target"), b"")
    target = read_target(said.decode("latin-1"), room.config)
    if isinstance(target, Named):
        return target.servers
    if len(room.book.servers) == 1:
        return tuple(room.book.servers)
    yield from know_the_fleet(room, account.incoming.library)
    yield from look_again(room, account.incoming.library)
    snapshot = room.book.snapshot(room.clock.monotonic())
    if request.endpoint.kind is Kind.ACCOUNT:
        if not room.config.allow_account_routes:
            raise Forbidden(f"{request.endpoint.path} is closed; the setting allow_account_routes opens it")
        return servers_by_priority(snapshot, room.config)[:1] or _nobody_up()
    if request.endpoint.routing in {Routing.OWNERS, Routing.PUSH}:
        return _holding(room, request)
    if request.endpoint.name not in _MAKING or (request.blobs and isinstance(target, Unsaid)):
        names = ", ".join(sorted(room.book.servers))
        raise InvalidTarget(
            f"{request.endpoint.path} is about one server and there are {len(room.book.servers)} ({names}): name it in"
            " the header X-Router-Target, as in ollama.Client(transport=..., headers={'X-Router-Target': '...'})"
        )
    name = request.base or request.route.model_text or ""
    sized = RouteRequest(model_text=name, model=canonical_name(name))
    base = owners(snapshot, sized.model) if request.base and isinstance(target, Unsaid) else ()
    return base[:1] or servers_for_target(target, sized, snapshot, room.config)


def _holding(room: Room, request: ParsedRequest) -> tuple[str, ...]:
    """Whoever has the model; a push needs one of them, and it must not matter which."""
    snapshot = room.book.snapshot(room.clock.monotonic())
    model = request.route.model
    names = owners(snapshot, model)
    if not names or model is None:
        raise model_not_found(request.endpoint.name, request.route.model_text or "")
    if request.endpoint.name != "push":
        return names
    if len(differing_digests(snapshot).get(model, {})) > 1:
        raise InvalidTarget(
            f"{request.route.model_text} is not the same everywhere: name one server in X-Router-Target"
        )
    return tuple(name for name in servers_by_priority(snapshot, room.config) if name in names)[:1] or _nobody_up()


def _nobody_up() -> tuple[str, ...]:
    raise NoServerFits("no server is up", retry_after=5)


def makes_progress(request: ParsedRequest) -> bool:
    """Whether the program wants to see how far an order is."""
    return request.endpoint.name in _MAKING and request.route.stream


def begin_merging(
    room: Room, account: Account, request: ParsedRequest, merging: Merging, timeouts: dict[str, float | None]
) -> Background:
    """Have several servers do it at once, each of which says how far it is."""
    account.server, account.attempts = ", ".join(merging.names), len(merging.names)
    order = room.questions.order
    return Background(
        tuple(
            order(_outgoing(room, account, request, name, timeouts), merging.replies, partial(merging.feed, name))
            for name in merging.names
        )
    )


def order_all(
    room: Room, account: Account, request: ParsedRequest, names: tuple[str, ...], timeouts: dict[str, float | None]
) -> Generator[Any, Any, bytes]:
    """Have several servers do it at once: the body of the one answer, when all have ended.

    Raises:
        PartlyDone: some server did not; the text names each.
    """
    replies: dict[str, Reply | Failure] = {}
    jobs = tuple(room.questions.order(_outgoing(room, account, request, name, timeouts), replies) for name in names)
    account.server, account.attempts = ", ".join(names), len(names)
    yield Background(jobs)
    yield Wait(lambda: len(replies) == len(names), _A_DAY)
    merged = MergedProgress(request.endpoint.name, names)
    for name in names:
        _note_end(merged, name, replies.get(name), request)
    last = merged.conclusion()
    if "error" in last:
        raise PartlyDone(str(last["error"]))
    return json.dumps(last).encode() if request.endpoint.name in _MAKING else b""


def _outgoing(
    room: Room, account: Account, request: ParsedRequest, name: str, timeouts: dict[str, float | None]
) -> Outgoing:
    return Outgoing(
        library=account.incoming.library,
        destination=room.places[name],
        method=account.incoming.method,
        target=request.target,
        fields=((b"content-type", b"application/json"),),
        body=request.body,
        timeouts=timeouts,
    )


def _note_end(merged: MergedProgress, name: str, reply: Reply | Failure | None, request: ParsedRequest) -> None:
    """What one server's answer adds to the whole."""
    if not isinstance(reply, Reply):
        merged.end(name, "did not answer in a day" if reply is None else reply.error.message)
        return
    if request.endpoint.name in _MAKING:
        for line in json_objects(reply.body.splitlines()):
            merged.line(name, line)
    elif reply.status == 200:
        merged.line(name, {"status": "success"})
    good = reply.status == 200
    merged.end(name, None if good else f"{reply.status} {reply.body[:200].decode('utf-8', 'replace')}".strip())
