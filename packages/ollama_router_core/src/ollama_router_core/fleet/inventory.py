"""What a server that is up is asked about its models, and what each reply means: one round, without I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import Protocol

from msgspec import Struct

from ollama_router_core.config.settings import ModelSettings
from ollama_router_core.errors import UpstreamProtocolError
from ollama_router_core.fleet.observations import observe_ps, observe_show, observe_tags, with_facts
from ollama_router_core.fleet.snapshot import ModelFacts, ServerFacts

__all__ = ["Book", "Question", "Told", "take_stock"]


class Question(Struct, frozen=True):
    """One small request to the server."""

    method: str
    path: str
    body: bytes = b""


class Told(Struct, frozen=True):
    """Its answer. `now` is seconds of the snapshot's clock, `wall` seconds since 1970, both when it had come."""

    status: int
    body: bytes
    now: float
    wall: float


class Book(Protocol):
    """Where facts are kept."""

    @property
    def servers(self) -> Mapping[str, ServerFacts]:
        """What is believed about each server."""

    def update(self, name: str, change: Callable[[ServerFacts], ServerFacts]) -> object:
        """Swap in new facts about a server."""


def take_stock(
    name: str,
    book: Book,
    models: ModelSettings,
    *,
    now: float,
    unusable: Callable[[UpstreamProtocolError], None] = lambda _: None,
) -> Generator[Question, Told | None, None]:
    """One round: the list of models if it has grown old, what is in memory, what new models are made of.

    Send None for a question that had no answer. `unusable` gets the errors of bodies that do not fit their route.
    """
    note = partial(_note, name, book, unusable)
    if _list_is_due(book.servers[name], models, now):
        told = yield Question("GET", "/api/tags")
        if told is not None and told.status == 200:
            note(partial(observe_tags, body=told.body, now=told.now))
    told = yield Question("GET", "/api/ps")
    if told is not None and told.status == 200:
        note(partial(observe_ps, body=told.body, now=told.now, wall=told.wall))
    for model in tuple((book.servers[name].installed or {}).values()):
        if model.facts is not None or model.remote_host is not None:
            continue
        known = _facts_of_digest(model.digest, book.servers)
        if known is not None:
            book.update(name, partial(with_facts, name=model.name, model_facts=known))
            continue
        told = yield Question("POST", "/api/show", json.dumps({"model": model.spelling}).encode())
        if told is None:
            return
        if told.status == 200:
            note(partial(observe_show, name=model.name, body=told.body))


def _list_is_due(facts: ServerFacts, models: ModelSettings, now: float) -> bool:
    if facts.installed_at is None or not models.cache_model_info:
        return True
    return now - facts.installed_at >= models.cache_ttl_seconds


def _facts_of_digest(digest: str, servers: Mapping[str, ServerFacts]) -> ModelFacts | None:
    """Each digest is asked about once in the whole fleet."""
    models = (model for facts in servers.values() for model in (facts.installed or {}).values())
    return next((one.facts for one in models if one.digest == digest and one.facts is not None), None)


def _note(
    name: str,
    book: Book,
    unusable: Callable[[UpstreamProtocolError], None],
    change: Callable[[ServerFacts], ServerFacts],
) -> None:
    try:
        book.update(name, change)
    except UpstreamProtocolError as error:
        unusable(error)
