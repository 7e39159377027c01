"""One serving process: uvicorn on a socket, with signals, reloads and the watchdog."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import FrameType
from typing import cast

import uvicorn

from ollama_router_core.errors import RouterError
from ollama_router_server.app import RouterApp
from ollama_router_server.http.protocol_limits import Bounds
from ollama_router_server.http.strict import StrictProtocol
from ollama_router_server.process.notify import Notifier
from ollama_router_server.process.reload import ConfigSource, Reloader
from ollama_router_server.process.signals import heed
from ollama_router_server.process.succession import Succession, Successor, held_by_manager, start_successor
from ollama_router_server.process.uvicorn_options import uvicorn_config
from ollama_router_server.services import Services

__all__ = ["RouterServer", "serve"]

_LOOK_SECONDS = 0.05
_LAST_WORDS_SECONDS = 0.5
"""Seconds for clients to read the end of a response after the grace period."""


def _nothing() -> None:
    """Do nothing; the default callback."""


class RouterServer(uvicorn.Server):
    """Run uvicorn; report when connections are accepted, and start draining on a signal.

    Attributes:
        on_stop: called on a signal to stop.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        bounds: Bounds,
        services: Services,
        accepting: Callable[[], None],
        notifier: Notifier | None,
    ) -> None:
        super().__init__(config)
        self._bounds = bounds
        self._notifier = notifier
        self._services = services
        self._limits = services.config.limits
        self._accepting = accepting
        self._second_signal = False
        self.on_stop: Callable[[], None] = _nothing

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Unblock signals, now that their handler can shut down cleanly; accept connections, then report it."""
        heed()
        await super().startup(sockets)
        if self.started:
            self._accepting()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain for at most the grace period; end the remaining requests before uvicorn's own timeout does."""
        keep_alive, lame_duck = self.config.timeout_keep_alive, self._limits.lame_duck
        if self._bounds.retiring:
            await self._retire(sockets or (), keep_alive)
        elif lame_duck:
            await self._serve_lame_duck(lame_duck)
            await self._retire(sockets or (), keep_alive - lame_duck)
        if self._second_signal:
            self._bounds.retiring = False  # close idle connections at once
        ending = asyncio.create_task(self._end_after(self._limits.shutdown_grace))
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()

    async def _serve_lame_duck(self, seconds: float) -> None:
        """Keep serving for the lame-duck period, with `/readyz` at 503, so that load balancers notice."""
        self._bounds.retiring = True
        self._retire_connections()
        await self._until(lambda: False, seconds)

    async def _retire(self, sockets: Iterable[socket.socket], seconds: float) -> None:
        """Stop accepting; idle connections may still send a request, since their clients do not know yet."""
        for server in self.servers:
            server.close()
        for sock in sockets:
            sock.close()
        self._retire_connections()
        await self._until(lambda: not self.server_state.connections, seconds)

    def _retire_connections(self) -> None:
        """Mark the next response on each connection as its last."""
        for connection in tuple(self.server_state.connections):
            cast("StrictProtocol", connection).retire()

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait for the condition, the timeout or a second signal, by polling: uvicorn's flags have no event."""
        now = self._services.clock.monotonic
        end = now() + seconds
        while not (condition() or self._second_signal or now() >= end):  # noqa: ASYNC110 - see above
            await asyncio.sleep(_LOOK_SECONDS)

    async def _end_after(self, grace: float) -> None:
        await asyncio.sleep(grace)
        app: RouterApp = self.config.loaded_app
        app.end_requests()
        await asyncio.sleep(_LAST_WORDS_SECONDS)
        for connection in tuple(self.server_state.connections):
            connection.transport.abort()

    def succeeded(self) -> None:
        """Drain without notifying the service manager: another process accepts connections on the same socket."""
        self._services.draining = self._bounds.retiring = True
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start draining: `/readyz` returns 503 from now on.

        A terminal also sends SIGINT to workers; they ignore it, since their supervisor sends SIGTERM. If the service
        manager holds the socket, connected clients are served to the end, as with a successor.
        """
        if sig == signal.SIGINT and self._services.shared:
            return
        self._second_signal = self.should_exit
        self._services.draining = True
        self.on_stop()
        if held_by_manager(self._services.environment):
            self._bounds.retiring = True
        if self._notifier is not None:
            self._notifier.stopping()
        super().handle_exit(sig, frame)


async def serve(
    services: Services,
    sock: socket.socket,
    *,
    accepting: Callable[[], None],
    source: ConfigSource | None = None,
    lifeline: int | None = None,
    notifier: Notifier | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Serve on a socket until a signal arrives, then drain for at most `limits.shutdown_grace` seconds.

    Args:
        services: the services, not started yet.
        sock: a bound socket.
        accepting: called once connections are accepted.
        source: where to re-read the config on SIGHUP and when its file changes; None never reloads.
        lifeline: a pipe's read end; end of file acts like SIGTERM.
        notifier: reports to the service manager; None in a worker, whose supervisor reports.
        environment: for successors, which start on SIGUSR2, and on SIGHUP if another program is installed; None in a
            worker, which cannot start one.

    Raises:
        RouterError: the application did not start.
    """
    server = RouterServer(*uvicorn_config(services), services, accepting, notifier)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as running:
        reload: Callable[[], None] = _nothing
        if source is not None:
            reload = await running.enter_async_context(_reloading(services, source, notifier))
        if environment is None:
            loop.add_signal_handler(signal.SIGUSR2, server.succeeded)
            loop.add_signal_handler(signal.SIGHUP, reload)
        else:
            succession = _succession(server, sock, environment, notifier, reload)
            for number in (signal.SIGUSR2, signal.SIGHUP):
                loop.add_signal_handler(number, succession.take_up, number)
        if lifeline is not None:
            _on_end_of_file(lifeline, lambda: server.handle_exit(signal.SIGTERM, None))
        if notifier is not None and notifier.watchdog is not None:
            await running.enter_async_context(_beating(notifier, notifier.watchdog))
        await server.serve(sockets=[sock])
    if not server.started:
        raise RouterError("the server could not start; the lines above say why")


def _succession(
    server: RouterServer,
    sock: socket.socket,
    environment: Mapping[str, str],
    notifier: Notifier | None,
    in_place: Callable[[], None],
) -> Succession:
    """Return a succession on this event loop, which stops the server once a successor accepts."""
    loop = asyncio.get_running_loop()

    def start() -> Successor:
        successor = start_successor(sock, environment)
        loop.add_reader(successor.ready, hear, successor)
        return successor

    def hear(successor: Successor) -> None:
        loop.remove_reader(successor.ready)
        succession.hear(successor)

    def succeeded(successor: Successor) -> None:
        if notifier is not None:
            notifier.succeeded(successor.pid)
        server.succeeded()

    succession = Succession(start=start, succeeded=succeeded, in_place=in_place, is_ending=lambda: server.should_exit)
    server.on_stop = succession.stop
    return succession


def _on_end_of_file(descriptor: int, callback: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(descriptor)  # end of file stays readable
        callback()

    loop.add_reader(descriptor, ended)


@asynccontextmanager
async def _beating(notifier: Notifier, seconds: float) -> AsyncIterator[None]:
    """Notify the service manager's watchdog at this interval that the event loop is running."""

    async def beat() -> None:
        while True:
            notifier.alive()
            await asyncio.sleep(seconds)

    beating = asyncio.create_task(beat(), name="watchdog")
    try:
        yield
    finally:
        beating.cancel()


@asynccontextmanager
async def _reloading(
    services: Services, source: ConfigSource, notifier: Notifier | None
) -> AsyncIterator[Callable[[], None]]:
    reloader = Reloader(services, source, notifier=notifier)
    reloader.start()
    try:
        yield reloader.request
    finally:
        await reloader.aclose()
