"""What servers are asked about themselves, as generators: no I/O here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.client.fleet_book import FleetBook
from ollama_router_core.client.steps import Ask, Failure, Job, Outgoing, Reply
from ollama_router_core.client.system import Clock
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import RouterError, UpstreamDisconnected, UpstreamTimeout
from ollama_router_core.fleet.inventory import Told, take_stock
from ollama_router_core.outbound.destinations import Destination

__all__ = ["Questions"]

_JSON = ((b"content-type", b"application/json"),)


class Questions:
    """Makes jobs; `library` is the one of the request that wants to know."""

    def __init__(self, config: Config, places: Mapping[str, Destination], book: FleetBook, clock: Clock) -> None:
        self._config = config
        self._places = places
        self._book = book
        self._clock = clock

    def about(self, name: str, library: Any) -> Job:
        """One round: is it up, what has it on disk, what in memory, what are its models made of."""
        with self._claimed(name):
            started = self._clock.monotonic()
            reply = yield self._ask(name, "/api/version", library)
            if isinstance(reply, Failure):
                self._book.probe_failed(name, reply.error.message, refused=reply.unsent)
                return
            elapsed = (self._clock.monotonic() - started) * 1000
            if self._book.probe_answered(name, reply.status, reply.body, probe_ms=elapsed):
                yield from self._stock(name, library)

    def _stock(self, name: str, library: Any) -> Job:
        steps = take_stock(name, self._book, self._config.models, now=self._clock.monotonic())
        with suppress(StopIteration):
            question = next(steps)
            while True:
                if question.path == "/api/show":  # what a decision needs is there
                    self._book.known(name)
                reply = yield self._ask(name, question.path, library, body=question.body)
                told: Told | None = None
                if isinstance(reply, Failure) and isinstance(reply.error, UpstreamTimeout):
                    raise reply.error  # it may have begun to hang right after its probe
                if isinstance(reply, Reply):
                    told = Told(reply.status, reply.body, self._clock.monotonic(), self._clock.wall())
                question = steps.send(told)

    def fetch(self, name: str, path: str, library: Any, into: dict[str, bytes | None], seconds: float) -> Job:
        """One list of one server, for a merged answer; None stands for a server that did not give it."""
        try:
            reply = yield self._ask(name, path, library, seconds=seconds)
        except GeneratorExit:
            into[name] = None
            raise
        good = isinstance(reply, Reply) and reply.status == 200
        into[name] = reply.body if good and isinstance(reply, Reply) else None

    def order(
        self, outgoing: Outgoing, into: dict[str, Reply | Failure], feed: Callable[[bytes], bool] | None = None
    ) -> Job:
        """One server's part of an order for several; `feed` gets its progress while it is made."""
        name = outgoing.destination.name
        try:
            into[name] = yield Ask(outgoing, feed)
        finally:
            into.setdefault(name, Failure(UpstreamDisconnected("the order was given up"), ConnectionAbortedError()))

    def unloading(self, name: str, model: CanonicalName, library: Any) -> Outgoing:
        """What frees the memory that a model takes on a server."""
        installed = (self._book.servers[name].installed or {}).get(model)
        text = model if installed is None else installed.spelling
        body = json.dumps({"model": text, "keep_alive": 0}).encode()
        return self._ask(name, "/api/generate", library, body=body).outgoing

    @contextmanager
    def _claimed(self, name: str) -> Iterator[None]:
        try:
            yield
        except RouterError as error:
            self._book.probe_failed(name, error.message, refused=False)
        finally:
            self._book.unclaim(name)

    def _ask(self, name: str, path: str, library: Any, *, body: bytes = b"", seconds: float | None = None) -> Ask:
        place = self._places[name]
        limit = self._config.model_info_timeout if seconds is None else seconds
        connect = min(limit, place.patience.connect)
        return Ask(
            Outgoing(
                library=library,
                destination=place,
                method="POST" if body else "GET",
                target=path,
                fields=_JSON if body else (),
                body=body,
                timeouts={"connect": connect, "read": limit, "write": limit, "pool": connect},
            )
        )
