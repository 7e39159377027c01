"""`OllamaSimulator`: a server on a loopback port, in the current event loop or in its own thread."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from ollama_router_core.testing.clock import SimulatedClock
from ollama_router_core.testing.exchange import Exchange
from ollama_router_core.testing.faults import Fault, FaultRules
from ollama_router_core.testing.inference import Engine
from ollama_router_core.testing.library import ModelLibrary
from ollama_router_core.testing.ollama_scheduler import Scheduler
from ollama_router_core.testing.recording import RecordedRequest
from ollama_router_core.testing.routing import INFERENCE_PATHS, answer
from ollama_router_core.testing.shared_state import ServerState
from ollama_router_core.testing.simulator_settings import Settings
from ollama_router_core.testing.wire import Connection

__all__ = ["OllamaSimulator"]


@dataclass(kw_only=True, eq=False, repr=False)
class OllamaSimulator(Settings):
    """One simulated Ollama server, with the options of `Settings`, which may be changed while it runs.

    `requests` are the received requests, oldest first. `aborted` counts requests whose client disconnected before the
    response was complete; `in_flight` and `max_in_flight` count requests that use a model; `connections` counts all
    accepted connections.
    """

    faults: FaultRules = field(default_factory=FaultRules)
    requests: list[RecordedRequest] = field(default_factory=list, init=False)
    aborted: int = field(default=0, init=False)
    in_flight: int = field(default=0, init=False)
    max_in_flight: int = field(default=0, init=False)
    connections: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        clock = SimulatedClock(settings=self)
        self.library = ModelLibrary.holding(self.models)
        self.scheduler = Scheduler(settings=self, clock=clock)
        self.engine = Engine(settings=self, library=self.library, scheduler=self.scheduler, clock=clock)
        registry = ModelLibrary.holding(self.registry)
        self.state = ServerState(settings=self, engine=self.engine, registry=registry)
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return f"http://{self.host}:{self.port}"

    @property
    def loads(self) -> int:
        """The number of started loads."""
        return self.scheduler.loads

    @property
    def aborted_loads(self) -> int:
        """The number of loads aborted because their client disconnected."""
        return self.scheduler.aborted_loads

    @property
    def evictions(self) -> int:
        """The number of evicted models."""
        return self.scheduler.evictions

    @property
    def loaded(self) -> list[str]:
        """The names of the loaded models, latest expiry first."""
        return [one.model.name for one in self.scheduler.running()]

    @property
    def open_connections(self) -> int:
        """The number of open connections."""
        return len(self._open)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; port 0 is replaced by a free port."""
        self._server = await asyncio.start_server(self._serve, self.host, self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the listener and every connection, and end all tasks."""
        self.pause()
        self.drop_connections()
        await asyncio.gather(*self._open, return_exceptions=True)
        self.scheduler.close()

    def pause(self) -> None:
        """Close only the listener: new connections are refused, open ones continue."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def resume(self) -> None:
        """Listen again on the same port."""
        if self._server is None:
            await self.start()

    def drop_connections(self) -> None:
        """Abort every open connection, like a crash."""
        for task, writer in list(self._open.items()):
            writer.transport.abort()
            task.cancel()

    def misbehave(self, *faults: Fault, path: str = "*", method: str = "*", times: int | None = None) -> None:
        """Activate faults for the next `times` matching requests (None: until `behave`)."""
        self.faults.add(faults, path=path, method=method, times=times)

    def behave(self) -> None:
        """Remove all faults."""
        self.faults.clear()

    def advance(self, seconds: float) -> None:
        """Advance keep-alive time, and unload expired models."""
        self.engine.clock.advance(seconds)
        self.scheduler.expire()

    def requests_to(self, path: str, method: str | None = None) -> list[RecordedRequest]:
        """Return the recorded requests to one path."""
        return [one for one in self.requests if one.path == path and method in {None, one.method}]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("connections are served in a task")
        self.connections += 1
        self._open[task] = writer
        connection = Connection(
            number=self.connections,
            reader=reader,
            writer=writer,
            handler=self._answer,
            faults=self.faults,
            record=self._record,
        )
        try:
            await connection.run()
        except asyncio.CancelledError:
            if self._server is not None and not writer.transport.is_closing():
                raise
        finally:
            self._open.pop(task, None)

    def _record(self, request: RecordedRequest) -> None:
        self.requests.append(request)
        if len(self.requests) > self.keep_requests:
            del self.requests[0]

    async def _answer(self, exchange: Exchange) -> None:
        busy = exchange.path in INFERENCE_PATHS
        self.in_flight += busy
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            await answer(self.state, exchange)
        except (asyncio.CancelledError, ConnectionError):
            if not exchange.record.finished:
                exchange.record.aborted = True
                self.aborted += 1
            raise
        finally:
            self.in_flight -= busy
