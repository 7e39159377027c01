"""One polling round of a server's models, without I/O: the requests, and the facts in each reply."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Protocol

from msgspec import Struct

from ollama_router_core.config.settings import ModelSettings
from ollama_router_core.errors import UpstreamProtocolError
from ollama_router_core.fleet.observations import observe_ps, observe_tags, with_facts
from ollama_router_core.fleet.server_replies import read_show
from ollama_router_core.fleet.snapshot import InstalledModel, ModelFacts, ServerFacts
from ollama_router_core.responses.server_documents import LONGEST_DOCUMENT, read_document

__all__ = ["FactStore", "PollReply", "PollRequest", "copy_known_facts", "poll_models", "update_facts"]

_MOST_QUESTIONS = 200
"""Maximum models requested in one round, as each reply copies the table of the server's models."""


class PollRequest(Struct, frozen=True):
    """One polling request to the server.

    `may_stall`: the reply may wait for the server's scheduler during a load or unload; a timeout means slow, not down.
    """

    method: str
    path: str
    body: bytes = b""
    may_stall: bool = False


class PollReply(Struct, frozen=True):
    """The reply. `now` (seconds of the snapshot's clock) and `wall` (seconds since 1970) are its arrival time.

    `asked` is when the request was sent: Ollama may delay a reply while it loads a model.
    """

    status: int
    body: bytes
    now: float
    wall: float
    asked: float


class FactStore(Protocol):
    """The store of facts."""

    @property
    def servers(self) -> Mapping[str, ServerFacts]:
        """The facts of each server."""

    def update(self, name: str, change: Callable[[ServerFacts], ServerFacts]) -> object:
        """Replace the facts of a server."""


def poll_models(
    name: str,
    store: FactStore,
    models: ModelSettings,
    *,
    now: float,
    unusable: Callable[[UpstreamProtocolError], None] = lambda _: None,
) -> Generator[PollRequest, PollReply | None, str | None]:
    """Run one round: the list of models if it is stale, the models in memory, the architecture of new models.

    Return why the server is no Ollama, if it never listed its models and its reply is no list.

    Send None for a request without a reply. `unusable` is called with errors of invalid bodies and of omitted members.
    """
    update = partial(update_facts, name, store, unusable)
    if _list_is_due(store.servers[name], models, now):
        reply = yield PollRequest("GET", "/api/tags")
        if reply is not None and reply.status == 200:
            update(partial(observe_tags, body=reply.body, now=reply.now))
            _report_left_out(reply.body, unusable)
        if reply is not None and store.servers[name].installed is None and not _has_list(reply):
            how = "without a list of models" if reply.status == 200 else f"with {reply.status}"
            return f"answered /api/tags {how}: is this Ollama?"
    reply = yield PollRequest("GET", "/api/ps", may_stall=True)
    if reply is not None and reply.status == 200:
        update(partial(observe_ps, body=reply.body, now=reply.now, wall=reply.wall, asked=reply.asked))
    yield from _learn_architectures(name, store, unusable)
    return None


def _learn_architectures(
    name: str, store: FactStore, unusable: Callable[[UpstreamProtocolError], None]
) -> Generator[PollRequest, PollReply | None, None]:
    """Request the architecture of models: each digest once in the whole fleet, at most 200 per round."""
    for models in islice(copy_known_facts(name, store).values(), _MOST_QUESTIONS):
        reply = yield PollRequest("POST", "/api/show", json.dumps({"model": models[0].spelling}).encode())
        if reply is None:
            return
        if reply.status != 200:
            continue
        try:
            found = read_show(reply.body)
        except UpstreamProtocolError as error:
            unusable(error)
        else:
            store.update(name, partial(with_facts, learned={model.name: found for model in models}))


def copy_known_facts(name: str, store: FactStore) -> dict[str, list[InstalledModel]]:
    """Copy facts of the same digests from other servers; return the remaining models, by digest."""
    missing = _without_facts(store.servers[name])
    if not missing:
        return {}
    known = _facts_by_digest(store.servers)
    learned = {model.name: known[key] for key, models in missing.items() if key in known for model in models}
    store.update(name, partial(with_facts, learned=learned))
    return {key: models for key, models in missing.items() if key not in known}


def _without_facts(facts: ServerFacts) -> dict[str, list[InstalledModel]]:
    """Group a server's models without facts by digest; a model without a digest is its own group."""
    found: dict[str, list[InstalledModel]] = {}
    for model in (facts.installed or {}).values():
        if model.facts is None and model.remote_host is None:
            found.setdefault(model.digest or model.name, []).append(model)
    return found


def _facts_by_digest(servers: Mapping[str, ServerFacts]) -> dict[str, ModelFacts]:
    models = (model for facts in servers.values() for model in (facts.installed or {}).values())
    return {model.digest: model.facts for model in models if model.digest and model.facts is not None}


def _has_list(reply: PollReply) -> bool:
    """Whether a reply contains a list of models, valid or not."""
    if reply.status != 200:
        return False
    try:
        values = read_document(reply.body).values
    except UpstreamProtocolError:
        return len(reply.body) > LONGEST_DOCUMENT
    return "models" in values and isinstance(values["models"], list | None)


def _list_is_due(facts: ServerFacts, models: ModelSettings, now: float) -> bool:
    if facts.installed_at is None or not models.cache_model_info:
        return True
    return now - facts.installed_at >= models.cache_ttl_seconds


def _report_left_out(body: bytes, unusable: Callable[[UpstreamProtocolError], None]) -> None:
    with suppress(UpstreamProtocolError):
        left_out = read_document(body).left_out
        if left_out:
            names = ", ".join(repr(key[:64]) for key in left_out[:5])
            unusable(UpstreamProtocolError(f"the server's answer has members that are no numbers, left out: {names}"))


def update_facts(
    name: str,
    store: FactStore,
    unusable: Callable[[UpstreamProtocolError], None],
    change: Callable[[ServerFacts], ServerFacts],
) -> None:
    """Apply a body to a server's facts; an invalid body changes nothing."""
    try:
        store.update(name, change)
    except UpstreamProtocolError as error:
        unusable(error)
