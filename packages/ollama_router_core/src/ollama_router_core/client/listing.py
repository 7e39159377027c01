"""Answers that are made of every server's answer, as steps."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from functools import partial
from typing import Any

from ollama_router_core.api.ollama_errors import model_not_found
from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.client.room import Room
from ollama_router_core.client.steps import Background, Wait
from ollama_router_core.errors import NoServerFits, UpstreamProtocolError
from ollama_router_core.fleet.observations import observe_tags
from ollama_router_core.responses.merging import (
    find_openai_model,
    lowest_version,
    merge_openai_models,
    merge_ps,
    merge_status,
    merge_tags,
)
from ollama_router_core.translate import ExternalModel, codec_of

__all__ = ["gather"]

_DEADLINE_SECONDS = 1.0


def gather(room: Room, request: ParsedRequest, library: Any) -> Generator[Any, Any, bytes]:
    """The merged body of `/api/tags`, `/api/ps`, `/api/version`, `/api/status`, `/v1/models` and one of its rows.

    Raises:
        NoServerFits: `/api/version` when no server answers.
        ModelNotFound: `/v1/models/{model}` for a model that nobody has.
    """
    path = "/v1/models" if request.endpoint.name == "openai_model" else request.endpoint.path
    names = [name for name, facts in room.book.servers.items() if facts.up]
    replies: dict[str, bytes | None] = {}
    jobs = tuple(room.questions.fetch(name, path, library, replies, _DEADLINE_SECONDS) for name in names)
    if jobs:
        yield Background(jobs)
        yield Wait(lambda: len(replies) == len(names), _DEADLINE_SECONDS)
    bodies = {name: body for name, body in tuple(replies.items()) if body is not None}
    if path == "/api/tags":
        _note_tags(room, bodies)
    return _merged(room, request, bodies)


def _merged(room: Room, request: ParsedRequest, bodies: dict[str, bytes]) -> bytes:
    entries = map(codec_of(request.endpoint.family).model_entry, _assigned(room))
    match request.endpoint.name:
        case "tags":
            return merge_tags(bodies, entries)
        case "ps":
            return merge_ps(bodies)
        case "openai_models":
            return merge_openai_models(bodies, entries)
        case "openai_model":
            asked = request.parameter or ""
            found = find_openai_model(bodies, entries, asked)
            if found is None:
                raise model_not_found(request.endpoint.name, asked)
            return found
        case "status":
            return merge_status(bodies, allowed=True)
        case _:
            version = lowest_version(bodies)
            if version is None:
                raise NoServerFits("no server answers", retry_after=5)
            return json.dumps({"version": version}, separators=(",", ":")).encode()


def _note_tags(room: Room, bodies: dict[str, bytes]) -> None:
    now = room.clock.monotonic()
    for name, body in bodies.items():
        try:
            room.book.update(name, partial(observe_tags, body=body, now=now))
        except UpstreamProtocolError:
            continue


def _assigned(room: Room) -> Iterator[ExternalModel]:
    for model, name in room.config.models.explicit_assignments.items():
        host = room.config.external_hosts.get(name) or room.config.servers.get(name)
        if host is not None and host.enabled:
            yield room.places[name].listing(model)
