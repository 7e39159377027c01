"""The synchronous driver: threads, blocking I/O, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, assert_never

from ollama_router_core.client.answering import Answer, LocalResponse, PassedResponse, Streamed, TransportError
from ollama_router_core.client.connections import pooled_transport
from ollama_router_core.client.exchange import exchange
from ollama_router_core.client.libraries import any_library, as_stream, exception_of, failure_of, library_of
from ollama_router_core.client.messages import build_request, build_response, read_incoming
from ollama_router_core.client.placing import explain
from ollama_router_core.client.room import Room
from ollama_router_core.client.sources import config_from_file, config_from_urls
from ollama_router_core.client.steps import (
    LONGEST_FACTS,
    Ask,
    Background,
    Failure,
    Head,
    Job,
    Outgoing,
    ReadBody,
    Release,
    Reply,
    Send,
    Step,
    Wait,
    unaskable,
)
from ollama_router_core.client.sync_answers import Making, Reading, read
from ollama_router_core.client.system import Clock
from ollama_router_core.client.system import environment as process_environment
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.records.sinks import LogSink
from ollama_router_core.routing.decision import Decision

if TYPE_CHECKING:
    _Base: Any  # whatever a client of either library wants its transport to inherit from
else:
    _Base = object

__all__ = ["RouterTransport"]


class RouterTransport(_Base):  # type: ignore[misc]
    """Routes a program's requests to the best of its servers; for `httpx.Client` and `httpx2.Client`.

    Args:
        config: servers, external hosts, assignments, strategy.
        inner: what requests are sent with; None makes pooled HTTP transports of the request's own library.
        sink: gets one record for each request.
        environment: where `api_key_env` is looked up; None is the process's own.
        clock: None is the machine's.

    It may be used by several threads at once. `close` leaves no thread and no connection behind.
    """

    def __init__(
        self,
        config: Config,
        *,
        inner: Any = None,
        sink: LogSink | None = None,
        environment: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        variables = process_environment() if environment is None else environment
        self._room = Room(config, environment=variables, sink=sink, clock=clock)
        self._room.line.notify = self._notify
        self._given = inner
        self._inner: dict[str, Any] = {}
        self._changed = threading.Condition()
        self._threads: set[threading.Thread] = set()
        self._closed = False

    @classmethod
    def from_file(cls, path: str | Path, section: str | None = None, **options: Any) -> Self:
        """A transport with the settings of a config file (`orouter.yml`); `options` are those of the class.

        Raises:
            ConfigError: with every problem of the file.
        """
        variables = options.get("environment")
        known = process_environment() if variables is None else variables
        return cls(config_from_file(str(path), section, known), **options)

    @classmethod
    def from_urls(cls, urls: Iterable[str], **options: Any) -> Self:
        """A transport over these servers, with default settings.

        Raises:
            ConfigError: an address cannot be a server's.
        """
        return cls(config_from_urls(urls), **options)

    @property
    def snapshot(self) -> FleetSnapshot:
        """What is believed about the fleet now; asks nobody."""
        return self._room.book.snapshot(self._room.clock.monotonic())

    def explain(self, model: str, *, context: int | None = None, needs: Iterable[str] = ("completion",)) -> Decision:
        """Where a request for a model would go now, and why; every server has its verdict.

        Args:
            model: the name as a request has it.
            context: tokens, as `num_ctx`.
            needs: capabilities the model must have (`completion`, `tools`, `vision`, `embedding`).
        """
        decision: Decision = self._run(explain(self._room, model, context, needs, any_library()))
        return decision

    def handle_request(self, request: Any) -> Any:
        """Serve one request: a server's answer, or the router's own in the dialect of the route.

        Raises:
            TransportError: of the request's library, as its own transports: no server could be reached, or the
                exchange broke off.
        """
        library = library_of(request)
        incoming = read_incoming(library, request, request.read())
        return self._response(library, request, self._run(exchange(self._room, incoming)))

    def _response(self, library: Any, request: Any, answer: Answer) -> Any:
        match answer:
            case PassedResponse():
                stream = as_stream(library, Reading(answer.head, answer.body))
                return build_response(library, answer.head.status, answer.fields, stream, answer.head)
            case LocalResponse():
                return build_response(library, answer.status, answer.fields, answer.content)
            case Streamed():
                return build_response(library, 200, answer.fields, as_stream(library, Making(self._do, answer.steps)))
            case TransportError():
                raise exception_of(library, request, answer.error, answer.original)
            case _:
                assert_never(answer)

    def close(self) -> None:
        """Close every connection and wait for questions under way."""
        self._closed = True
        for thread in tuple(self._threads):
            thread.join()
        for inner in [self._given] if self._given is not None else tuple(self._inner.values()):
            inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.close()

    def _run(self, steps: Generator[Any, Any, Any]) -> Any:
        try:
            step = next(steps)
            while True:
                try:
                    result = self._do(step)
                except BaseException as error:
                    steps.throw(error)  # the policy cleans up and lets it pass
                    raise
                step = steps.send(result)
        except StopIteration as stop:
            return stop.value

    def _do(self, step: Step) -> Any:
        match step:
            case Send():
                return self._send(step.outgoing)
            case ReadBody():
                return read(step.head, step.most)
            case Release():
                step.head.stream.close()
            case Background():
                self._start(step.jobs)
            case Wait():
                with self._changed:
                    self._changed.wait_for(step.until, step.seconds)
            case _:
                assert_never(step)
        return None

    def _send(self, outgoing: Outgoing) -> Head | Failure:
        library, place = outgoing.library, outgoing.destination
        inner = self._given if self._given is not None else self._inner_for(library)
        try:
            response = inner.handle_request(build_request(outgoing))
        except Exception as error:
            failure = failure_of(library, error, place.name)
            if failure is None:
                raise
            return failure
        return Head(library, place, response.status_code, response, response.stream)

    def _ask(self, ask: Ask) -> Reply | Failure:
        try:
            head = self._send(ask.outgoing)
            if isinstance(head, Failure):
                return head
            feed = self._feeding(ask.feed) if head.status == 200 else None
            body = read(head, LONGEST_FACTS, feed)
        except Exception as error:  # noqa: BLE001 - a broken inner transport is a server that cannot be asked
            return unaskable(ask.outgoing, error)
        return body if isinstance(body, Failure) else Reply(head.status, body)

    def _inner_for(self, library: Any) -> Any:
        inner = self._inner.get(library.__name__)
        if inner is None:
            with self._changed:
                inner = self._inner.get(library.__name__)
                if inner is None:
                    origins = [one.base_url for one in self._room.places.values()]
                    inner = self._inner[library.__name__] = pooled_transport(library, origins)
        return inner

    def _start(self, jobs: tuple[Job, ...]) -> None:
        for job in jobs:
            thread = threading.Thread(target=self._work, args=(job,), name="ollama-router-facts", daemon=True)
            self._threads.add(thread)
            thread.start()

    def _work(self, job: Job) -> None:
        try:
            ask = next(job)
            while not self._closed:
                ask = job.send(self._ask(ask))
                self._notify()
        except StopIteration:
            pass
        finally:
            job.close()
            self._threads.discard(threading.current_thread())
            self._notify()

    def _feeding(self, feed: Callable[[bytes], bool] | None) -> Callable[[bytes], bool] | None:
        def note(piece: bytes) -> bool:
            goes_on = feed is not None and feed(piece)
            self._notify()
            return goes_on

        return None if feed is None else note

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()
