"""The asynchronous driver: asyncio or trio, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, assert_never

import anyio

from ollama_router_core.client.answering import Answer, LocalResponse, PassedResponse, Streamed, TransportError
from ollama_router_core.client.async_answers import CLOSING_SECONDS, Making, Reading, close, read
from ollama_router_core.client.connections import ConnectionPool
from ollama_router_core.client.exchange import exchange
from ollama_router_core.client.libraries import any_library, as_stream, exception_of, failure_of, library_of
from ollama_router_core.client.messages import build_request, build_response, read_incoming
from ollama_router_core.client.placing import explain
from ollama_router_core.client.room import Room
from ollama_router_core.client.sources import config_from_file, config_from_urls
from ollama_router_core.client.spawning import spawn
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

__all__ = ["AsyncRouterTransport"]


class AsyncRouterTransport(_Base):  # type: ignore[misc]
    """Routes a program's requests to the best of its servers; for `httpx.AsyncClient` and `httpx2.AsyncClient`.

    Args:
        config: servers, external hosts, assignments, strategy.
        inner: what requests are sent with; None makes HTTP transports of the request's own library.
        sink: gets one record for each request.
        environment: where `api_key_env` is looked up; None is the process's own.
        clock: None is the machine's.

    It runs under asyncio and under trio. `aclose` leaves no task and no connection behind.
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
        self._pool = ConnectionPool(self._room.clock)
        self._waiting: set[anyio.Event] = set()
        self._working: set[anyio.CancelScope] = set()

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

    async def explain(
        self, model: str, *, context: int | None = None, needs: Iterable[str] = ("completion",)
    ) -> Decision:
        """Where a request for a model would go now, and why; every server has its verdict.

        Args:
            model: the name as a request has it.
            context: tokens, as `num_ctx`.
            needs: capabilities the model must have (`completion`, `tools`, `vision`, `embedding`).
        """
        decision: Decision = await self._run(explain(self._room, model, context, needs, any_library()))
        return decision

    async def handle_async_request(self, request: Any) -> Any:
        """Serve one request: a server's answer, or the router's own in the dialect of the route.

        Raises:
            TransportError: of the request's library, as its own transports: no server could be reached, or the
                exchange broke off.
        """
        library = library_of(request)
        incoming = read_incoming(library, request, await request.aread())
        return self._response(library, request, await self._run(exchange(self._room, incoming)))

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

    async def aclose(self) -> None:
        """End questions under way and close every connection."""
        for scope in tuple(self._working):
            scope.cancel()
        await self._wait(lambda: not self._working, CLOSING_SECONDS)
        await (self._pool if self._given is None else self._given).aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    async def _run(self, steps: Generator[Any, Any, Any]) -> Any:
        try:
            step = next(steps)
            while True:
                try:
                    result = await self._do(step)
                except BaseException as error:
                    steps.throw(error)  # the policy cleans up and lets it pass
                    raise
                step = steps.send(result)
        except StopIteration as stop:
            return stop.value

    async def _do(self, step: Step) -> Any:
        match step:
            case Send():
                return await self._send(step.outgoing)
            case ReadBody():
                return await read(step.head, step.most)
            case Release():
                await close(step.head, complete=False)
            case Background():
                for job in step.jobs:
                    spawn(self._work, job)
            case Wait():
                await self._wait(step.until, step.seconds)
            case _:
                assert_never(step)
        return None

    async def _send(self, outgoing: Outgoing) -> Head | Failure:
        library, place, lease = outgoing.library, outgoing.destination, None
        inner = self._given
        if inner is None:
            lease = self._pool.lend(library, place.base_url)
            inner = lease.transport
        try:
            response = await inner.handle_async_request(build_request(outgoing))
        except BaseException as error:
            if lease is not None:
                with anyio.move_on_after(CLOSING_SECONDS, shield=True):
                    await lease.discard()
            failure = failure_of(library, error, place.name) if isinstance(error, Exception) else None
            if failure is None:  # among them: cancelled
                raise
            return failure
        return Head(library, place, response.status_code, response, response.stream, lease)

    async def _ask(self, ask: Ask) -> Reply | Failure:
        try:
            head = await self._send(ask.outgoing)
            if isinstance(head, Failure):
                return head
            feed = self._feeding(ask.feed) if head.status == 200 else None
            body = await read(head, LONGEST_FACTS, feed)
        except Exception as error:  # noqa: BLE001 - a broken inner transport is a server that cannot be asked
            return unaskable(ask.outgoing, error)
        return body if isinstance(body, Failure) else Reply(head.status, body)

    async def _work(self, job: Job) -> None:
        with anyio.CancelScope() as scope:
            self._working.add(scope)
            try:
                ask = next(job)
                while True:
                    ask = job.send(await self._ask(ask))
                    self._notify()
            except StopIteration:
                pass
            finally:
                job.close()
                self._working.discard(scope)
                self._notify()

    async def _wait(self, until: Any, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            while not until():
                event = anyio.Event()
                self._waiting.add(event)
                try:
                    await event.wait()
                finally:
                    self._waiting.discard(event)

    def _feeding(self, feed: Callable[[bytes], bool] | None) -> Callable[[bytes], bool] | None:
        def note(piece: bytes) -> bool:
            goes_on = feed is not None and feed(piece)
            self._notify()
            return goes_on

        return None if feed is None else note

    def _notify(self) -> None:
        for event in tuple(self._waiting):
            event.set()
