"""Run the server: a listening socket, uvicorn, signals, the lines a person sees."""

from __future__ import annotations

import asyncio
import errno
import gc
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from typing import Any, Final, TextIO

import uvicorn

from ollama_router_core.config.settings import Config
from ollama_router_core.errors import ConfigError, RouterError
from ollama_router_server.accounts.first_admin import can_hand_over, hand_over, tell_how
from ollama_router_server.process.connections import check_certificate, uvicorn_config
from ollama_router_server.process.notify import Notifier
from ollama_router_server.process.reload import ConfigSource, Reloader
from ollama_router_server.process.workers import Supervisor
from ollama_router_server.services import Services
from ollama_router_server.system import SystemClock
from ollama_router_server.telemetry.logs import configure_logging

__all__ = ["listen", "run", "serve"]

_UNWINDING: Final = 15.0
"""Seconds beyond the grace in which a worker writes its rows and ends."""
_UNSENT: Final = 128 * 1024
"""Bytes that the kernel takes of an answer beyond what the client's window has room for. Left alone it takes megabytes,
and some hundred clients that read nothing use up the memory it has for the connections of the whole machine."""
_LISTEN_HINTS: Final = {
    errno.EADDRINUSE: "is another program (Ollama?) using it? choose another with --port or proxy_port",
    errno.EACCES: "ports below 1024 need a privilege; choose another with --port or proxy_port",
}


class _Server(uvicorn.Server):
    """Uvicorn's server that says when it accepts connections and when it begins to drain."""

    def __init__(
        self, config: uvicorn.Config, services: Services, accepting: Callable[[], None], notifier: Notifier | None
    ) -> None:
        super().__init__(config)
        self._notifier = notifier
        self._services = services
        self._accepting = accepting

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept, then say so."""
        await super().startup(sockets)
        if self.started:
            self._accepting()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: from now on `/readyz` says 503. Ctrl-C reaches workers too, but their supervisor tells them."""
        if sig == signal.SIGINT and self._services.shared:
            return
        self._services.draining = True
        if self._notifier is not None:
            self._notifier.stopping()
        super().handle_exit(sig, frame)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        ConfigError: the address cannot be used; the text says why.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle off only then: answers would wait 40 ms otherwise.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)  # which accepted connections inherit
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        hint = _LISTEN_HINTS.get(error.errno or 0, "choose another address with --host or proxy_host")
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}; {hint}") from None
    return sock


async def serve(
    services: Services,
    sock: socket.socket,
    *,
    accepting: Callable[[], None],
    source: ConfigSource | None = None,
    lifeline: int | None = None,
    notifier: Notifier | None = None,
) -> None:
    """Serve on a socket until a signal comes; drains for at most `limits.shutdown_grace` seconds.

    Args:
        services: not started yet.
        sock: listening, or to be.
        accepting: called when connections are accepted.
        source: where the config is read again from, on SIGHUP and when its file has changed.
        lifeline: a file descriptor whose end is as good as a signal.
        notifier: tells the service manager; None where the supervisor does.

    Raises:
        StorageUnavailable: it could not start.
    """
    server = _Server(uvicorn_config(services), services, accepting, notifier)
    if lifeline is not None:
        _end_with(lifeline, lambda: server.handle_exit(signal.SIGTERM, None))
    async with _reloading(services, source, notifier), _watched(notifier):
        await server.serve(sockets=[sock])
    if not server.started:
        raise RouterError("the server could not start; the lines above say why")


def _end_with(lifeline: int, end: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(lifeline)  # an end stays readable
        end()

    loop.add_reader(lifeline, ended)


@asynccontextmanager
async def _watched(notifier: Notifier | None) -> AsyncIterator[None]:
    """Give signs of life as long as the event loop turns."""

    async def beat(pause: float) -> None:
        while True:
            notifier.alive() if notifier else None
            await asyncio.sleep(pause)

    pause = notifier.watchdog if notifier else None
    beating = None if pause is None else asyncio.create_task(beat(pause), name="watchdog")
    try:
        yield
    finally:
        if beating is not None:
            beating.cancel()


@asynccontextmanager
async def _reloading(services: Services, source: ConfigSource | None, notifier: Notifier | None) -> AsyncIterator[None]:
    if source is None:
        yield
        return
    reloader = Reloader(services, source, notifier=notifier)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloader.ask)
    reloader.start()
    try:
        yield
    finally:
        await reloader.aclose()


async def _serve_alone(
    config: Config, environment: Mapping[str, str], sock: socket.socket, source: ConfigSource | None
) -> None:
    services = Services(config, environment)
    try:
        await _prepare(services, environment)
    except RouterError:
        await services.aclose()
        raise
    notifier = Notifier(environment)

    def accepting() -> None:
        _freeze_start_up()
        _say_listening(config, sock, sys.stdout)
        notifier.ready()

    await serve(services, sock, source=source, accepting=accepting, notifier=notifier)


async def _prepare(services: Services, environment: Mapping[str, str]) -> None:
    """What is to be done once: the database, and the first admin where its token can be handed over."""
    if await services.prepare():
        return
    if not can_hand_over(environment, sys.stderr):
        tell_how(sys.stderr)
        return
    hand_over(await services.users.create("admin", role="admin"), environment, sys.stderr)


async def _prepare_for_workers(config: Config, environment: Mapping[str, str]) -> None:
    """The same before workers start; what is wrong with the config or the database is found here."""
    services = Services(config, environment)
    try:
        await _prepare(services, environment)
    finally:
        await services.aclose()


def _say_listening(config: Config, sock: socket.socket, out: TextIO) -> None:
    host, port = sock.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    scheme = "http" if config.tls.certificate is None else "https"
    print(f"listening on {scheme}://{shown}:{port}", file=out, flush=True)


def _freeze_start_up() -> None:
    """Exempt what was made at start from garbage collection: a full one stopped every stream for 57 to 64 ms.

    The process is ours: nothing else that runs in it could want that garbage collected.
    """
    gc.freeze()


def run(
    config: Config,
    environment: Mapping[str, str],
    *,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
    source: ConfigSource | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, in this process or in several that it starts.

    Raises:
        ConfigError, StorageUnavailable: it could not start.
    """
    count = config.workers if workers is None else workers
    check_certificate(config.tls)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something that can read the config again
    with listen(host or config.proxy_host, config.proxy_port if port is None else port) as sock:
        if count == 1:
            with _logging(config):
                _run_loop(_serve_alone(config, environment, sock, source))
        else:
            _run_workers(config, environment, sock, count, source)


def _run_workers(
    config: Config, environment: Mapping[str, str], sock: socket.socket, count: int, source: ConfigSource | None
) -> None:
    with _logging(config):
        asyncio.run(_prepare_for_workers(config, environment))
    notifier = Notifier(environment)

    def accepting() -> None:
        _say_listening(config, sock, sys.stdout)
        notifier.ready()

    def reloading() -> None:
        notifier.reloading(SystemClock().monotonic())
        notifier.ready()  # each worker reads it for itself, and nobody waits for that

    def stopping() -> None:
        sock.close()  # as long as one process holds it open, the system takes connections that nobody serves
        notifier.stopping()

    supervisor = Supervisor(
        count,
        grace=config.limits.shutdown_grace + _UNWINDING,
        open_log=lambda: configure_logging(config.logging, stream=sys.stderr),
        accepting=accepting,
        stopping=stopping,
        reloading=reloading,
        alive=notifier.alive if notifier.watchdog else lambda: None,
    )
    worker = supervisor.run()
    if worker is not None:
        with _logging(config, worker.index):
            services = Services(config, environment, coordination=worker.coordination)

            def ready() -> None:
                _freeze_start_up()
                worker.ready()

            serving = serve(services, sock, accepting=ready, source=source, lifeline=worker.lifeline)
            _run_loop(serving)


@contextmanager
def _logging(config: Config, worker: int | None = None) -> Iterator[None]:
    close = configure_logging(config.logging, stream=sys.stderr, worker=worker)
    try:
        yield
    finally:
        close()


def _run_loop(serving: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serving)


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:  # pragma: no cover - depends on the platform
        return None
    return uvloop.Loop
