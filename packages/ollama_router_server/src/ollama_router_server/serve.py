"""Run the server: a listening socket, uvicorn, signals, the lines a person sees.

Belongs here: process concerns.
Does not belong here: routes (`app`), lifetimes of parts (`services`).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Mapping
from types import FrameType
from typing import TextIO

import uvicorn

from ollama_router_core.config.settings import Config
from ollama_router_core.errors import ConfigError, RouterError
from ollama_router_server.app import create_app
from ollama_router_server.logs import configure_logging
from ollama_router_server.protocol.strict import StrictProtocol
from ollama_router_server.services import Services
from ollama_router_server.storage.users import CreatedToken

__all__ = ["listen", "run", "serve"]


class _Server(uvicorn.Server):
    """Uvicorn's server that says when it accepts connections and when it begins to drain."""

    def __init__(self, config: uvicorn.Config, services: Services, out: TextIO) -> None:
        super().__init__(config)
        self._services = services
        self._out = out

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept, then say so."""
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"listening on http://{shown}:{port}", file=self._out, flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: from now on `/readyz` says 503."""
        self._services.draining = True
        super().handle_exit(sig, frame)


class _UnfinishedAnswers(logging.Filter):
    """Drops uvicorn's complaint about answers left unfinished: cutting those connections is our intent."""

    def filter(self, record: logging.LogRecord) -> bool:
        """False for that message."""
        return "returned without completing response" not in record.getMessage()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        ConfigError: the address cannot be used; the text says why.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle off only then: answers would wait 40 ms otherwise.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; is another program (Ollama?) using it? "
            "choose another with --port or proxy_port"
        ) from None
    return sock


def _announce(created: CreatedToken, err: TextIO) -> None:
    lines = (
        f"No users yet: created {created.user} ({created.role}). Its token, shown only now:",
        "",
        f"    {created.token.reveal()}",
        "",
        "Send it as `Authorization: Bearer TOKEN`. More users: orouter users create NAME",
    )
    print("\n".join(lines), file=err, flush=True)


async def serve(
    config: Config, environment: Mapping[str, str], sock: socket.socket, *, out: TextIO, err: TextIO
) -> None:
    """Serve on a socket until a signal comes; drains for at most `limits.shutdown_grace` seconds.

    Raises:
        ConfigError, StorageUnavailable: it could not start.
    """
    services = Services(config, environment)
    try:
        created = await services.prepare()
    except RouterError:
        await services.aclose()
        raise
    if created is not None:
        _announce(created, err)
    server = _Server(
        uvicorn.Config(
            create_app(services),
            http=StrictProtocol,
            access_log=False,
            log_config=None,
            server_header=False,
            lifespan="on",
            proxy_headers=False,
            timeout_graceful_shutdown=round(config.limits.shutdown_grace),
        ),
        services,
        out,
    )
    await server.serve(sockets=[sock])
    if not server.started:
        raise RouterError("the server could not start; the lines above say why")


def run(
    config: Config,
    environment: Mapping[str, str],
    *,
    host: str | None = None,
    port: int | None = None,
) -> None:
    """Serve in this process until SIGTERM or SIGINT.

    Raises:
        ConfigError, StorageUnavailable: it could not start.
    """
    close_logs = configure_logging(config.logging, stream=sys.stderr)
    unfinished = _UnfinishedAnswers()
    logging.getLogger("uvicorn.error").addFilter(unfinished)  # noqa: TID251 - uvicorn's own logger
    try:
        sock = listen(host or config.proxy_host, config.proxy_port if port is None else port)
        with sock, asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(serve(config, environment, sock, out=sys.stdout, err=sys.stderr))
    finally:
        close_logs()


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:  # pragma: no cover - depends on the platform
        return None
    return uvloop.Loop
