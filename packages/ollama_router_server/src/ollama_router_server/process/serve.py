"""`orouter serve`: one process, or a supervisor with workers on the same socket."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from ollama_router_core.config.client_settings import Limits
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import RouterError
from ollama_router_server.accounts.first_admin import LINK_SECONDS, can_hand_over, hand_over, tell_how
from ollama_router_server.http.certificates import check_certificate
from ollama_router_server.http.file_limit import raise_file_limit
from ollama_router_server.process.listening import console_url, listen, print_listening
from ollama_router_server.process.notify import Notifier
from ollama_router_server.process.reload import ConfigSource
from ollama_router_server.process.server import serve
from ollama_router_server.process.succession import (
    Successor,
    inherited_socket,
    start_patience,
    start_successor,
    tell_predecessor,
)
from ollama_router_server.process.workers import Supervisor, Worker
from ollama_router_server.services import Services
from ollama_router_server.storage.identities import DuplicateName
from ollama_router_server.storage.token_key import token_key_path
from ollama_router_server.system import SystemClock
from ollama_router_server.telemetry.router_log import configure_logging

__all__ = ["run", "seconds_to_stop"]

_UNWINDING_SECONDS: Final = 15.0
"""Seconds beyond the grace period for a worker to write its records and exit."""


def seconds_to_stop(limits: Limits) -> float:
    """Return the maximum seconds from SIGTERM to a worker's exit: lame duck, grace period for streams, and cleanup."""
    return limits.lame_duck + limits.shutdown_grace + _UNWINDING_SECONDS


def run(
    config: Config,
    environment: Mapping[str, str],
    *,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
    source: ConfigSource | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, in this process or in forked workers.

    Args:
        config: the config.
        environment: environment variables, including those of the service manager.
        host: the address to listen on; None uses the config's.
        port: likewise; 0 picks a free port.
        workers: the number of processes; None uses the config's.
        source: where to re-read the config.

    Raises:
        ConfigError, StorageUnavailable: the router cannot start.
    """
    count = config.workers if workers is None else workers
    check_certificate(config.tls)
    raise_file_limit()
    for number in (signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # until a handler is installed
    given = inherited_socket(environment, os.getpid())
    with given or listen(host or config.proxy_host, config.proxy_port if port is None else port) as sock:
        if count > 1:
            _run_workers(config, environment, sock, count, source)
            return
        with _logging(config):
            _run_loop(_serve_alone(config, environment, sock, source))


async def _serve_alone(
    config: Config, environment: Mapping[str, str], sock: socket.socket, source: ConfigSource | None
) -> None:
    services = Services(config, environment, patience=start_patience(environment))
    try:
        await _prepare(services, environment, sock)
    except RouterError:
        await services.aclose()
        raise
    notifier = Notifier(environment)

    def accepting() -> None:
        _freeze_start_up()
        _tell_accepting(config, environment, sock, notifier)

    await serve(services, sock, source=source, accepting=accepting, notifier=notifier, environment=environment)


async def _prepare(services: Services, environment: Mapping[str, str], sock: socket.socket) -> None:
    """Migrate the database, and create the first admin if its token can be handed over."""
    if await services.prepare():
        return
    data = token_key_path(services.database_url, {}).parent
    if not can_hand_over(environment, sys.stderr, data):
        tell_how(sys.stderr)
        return
    try:
        created = await services.users.create("admin", role="admin")
    except DuplicateName:  # created by another router of the fleet that started at the same time
        return
    url = console_url(sock, services.config)
    claim = None if url is None else await services.console_sessions.invite(created.user, seconds=LINK_SECONDS)
    hand_over(created, None if url is None else f"{url}#claim={claim}", environment, sys.stderr, data)


def _tell_accepting(config: Config, environment: Mapping[str, str], sock: socket.socket, notifier: Notifier) -> None:
    """Report to the terminal, the service manager and the predecessor that connections are accepted."""
    print_listening(sock, sys.stdout, config)
    notifier.ready()
    tell_predecessor(environment)


def _freeze_start_up() -> None:
    """Exempt objects created at start from garbage collection: a full collection paused every stream for 57 to 64 ms.

    Collect once before, including objects frozen at import. Frozen objects do not count towards the threshold of the
    next full collection. The process belongs to the router: no other code could need that garbage collected.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


# --- several processes ----------------------------------------------------------------------------------------------


class _Service:
    """Implement `Supervised`: report to the service manager and the terminal."""

    def __init__(self, config: Config, environment: Mapping[str, str], sock: socket.socket) -> None:
        self._config = config
        self._environment = environment
        self._notifier = Notifier(environment)
        self._sock = sock

    def open_log(self) -> Callable[[], None]:
        """Start logging in the supervisor; return a function that stops it."""
        return configure_logging(self._config.logging, stream=sys.stderr)

    def accepting(self) -> None:
        """Report that every worker accepts connections."""
        _tell_accepting(self._config, self._environment, self._sock, self._notifier)

    def successor(self) -> Successor:
        """Start a successor on the same socket."""
        return start_successor(self._sock, self._environment)

    def succeeded(self, successor: Successor) -> None:
        """Hand over to a successor that accepts connections."""
        self._notifier.succeeded(successor.pid)
        self._sock.close()

    def reloading(self) -> None:
        """Report a reload and its end at once: each worker re-reads the config on its own."""
        self._notifier.reloading(SystemClock().monotonic())
        self._notifier.ready()

    def stopping(self) -> None:
        """Close the socket: while a process holds it open, the kernel accepts connections that no process serves."""
        self._sock.close()
        self._notifier.stopping()

    def alive(self) -> None:
        """Notify the watchdog, if any, that the supervisor is running."""
        if self._notifier.watchdog is not None:
            self._notifier.alive()


def _run_workers(
    config: Config, environment: Mapping[str, str], sock: socket.socket, count: int, source: ConfigSource | None
) -> None:
    with _logging(config):
        asyncio.run(_prepare_for_workers(config, environment, sock))
    service = _Service(config, environment, sock)
    worker = Supervisor(count, service, grace=seconds_to_stop(config.limits)).run()
    if worker is not None:
        _run_worker(worker, config, environment, sock, source)


async def _prepare_for_workers(config: Config, environment: Mapping[str, str], sock: socket.socket) -> None:
    """Prepare before the workers start, so that config and database errors are reported once."""
    services = Services(config, environment)
    try:
        await _prepare(services, environment, sock)
    finally:
        await services.aclose()


def _run_worker(
    worker: Worker, config: Config, environment: Mapping[str, str], sock: socket.socket, source: ConfigSource | None
) -> None:
    def accepting() -> None:
        _freeze_start_up()
        worker.ready()

    with _logging(config, worker.index):
        patience = start_patience(environment)
        services = Services(config, environment, coordination=worker.coordination, patience=patience)
        _run_loop(serve(services, sock, accepting=accepting, source=source, lifeline=worker.lifeline))


# --- the process ----------------------------------------------------------------------------------------------------


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
