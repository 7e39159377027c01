"""A whole router in the test's own event loop: real sockets, a real database, any config."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ollama_router_core.config import load_config
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.testing import OllamaSimulator
from ollama_router_server.app import create_app
from ollama_router_server.http.protocol_limits import Bounds, ProtocolLimits
from ollama_router_server.http.strict import strict_protocol
from ollama_router_server.process.listening import listen
from ollama_router_server.services import Services
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.identities import Role
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.upgrade import upgrade_database
from ollama_router_server.storage.user_store import UserStore
from ollama_router_server.system import SystemClock
from support.eventually import eventually, eventually_async
from support.exchange_modes import current_mode
from support.plain_http import async_client


class PromptServer(uvicorn.Server):
    """Uvicorn's server, but it ends as soon as it can.

    Uvicorn's looks ten times a second whether it should end, and then waits for a tenth: 0.15 s for each of a thousand
    tests.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Serve no longer than what has begun."""
        self.should_exit = True
        self._ended.set()

    async def main_loop(self) -> None:
        """Do what is done on each tick, until the end."""
        counter = 0
        while not await self.on_tick(counter):
            counter += 1
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await self._ended.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close what is idle and wait for the rest, as long as the config allows; then stop the application."""
        for listening in (*self.servers, *(sockets or ())):
            listening.close()
        state = self.server_state
        for connection in tuple(state.connections):
            connection.shutdown()
        try:
            await eventually(
                lambda: not (state.connections or state.tasks), seconds=self.config.timeout_graceful_shutdown or 60
            )
        except TimeoutError:
            for task in state.tasks:
                task.cancel()
        await self.lifespan.shutdown()


@dataclass
class RunningRouter:
    """A router that accepts connections; `token` is the user alice's, `admin_token` the user root's."""

    services: Services
    port: int
    token: str = field(repr=False)
    admin_token: str = field(repr=False)

    @property
    def url(self) -> str:
        """Base URL without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, token: str | None = None, **options: Any) -> httpx.AsyncClient:
        """An HTTP client that identifies itself as alice, or by `token` ("" for nobody)."""
        shown = self.token if token is None else token
        headers = {"authorization": f"Bearer {shown}"} if shown else {}
        return async_client(self.url, headers=headers, **options)

    async def rows(self, count: int = 1) -> tuple[RequestRecord, ...]:
        """The request log, newest first, once it holds at least `count` rows."""
        await eventually(lambda: self.services.sink.pending == 0)
        rows: tuple[RequestRecord, ...] = ()

        async def are_there() -> bool:
            nonlocal rows
            rows = await self.services.request_log.list(LogFilter(), limit=1000)
            return len(rows) >= count

        await eventually_async(are_there)
        return rows


def server_entry(simulator: OllamaSimulator, **settings: Any) -> dict[str, Any]:
    """A config entry for a simulated server."""
    return {"host": "127.0.0.1", "port": simulator.port, **settings}


@asynccontextmanager
async def running_router(
    folder: Path,
    servers: Mapping[str, dict[str, Any]],
    *,
    environment: Mapping[str, str] | None = None,
    front: ProtocolLimits | None = None,
    fresh: bool = True,
    **config: Any,
) -> AsyncIterator[RunningRouter]:
    """Start a router over these servers; `front` are its front's limits, other keyword arguments are settings.

    One that is not `fresh` goes on with the database of the router before it in this folder.
    """
    # rows of tests are of whatever year; those that are deleted by age are a test's own wish
    settings = {"servers": dict(servers), "proxy_port": 1, "request_log": {"keep_days": None}, **config}
    url = f"sqlite:///{folder}/router.sqlite3"
    token, admin_token = await users_in(folder, fresh=fresh)
    mode = current_mode()
    with mode.upstream():
        services = Services(load_config(json.dumps(settings)), {"OROUTER_DATABASE_URL": url, **(environment or {})})
    sock = listen("127.0.0.1", 0)
    server = PromptServer(
        uvicorn.Config(
            create_app(services),
            http=strict_protocol(Bounds(front or ProtocolLimits())) if mode.driver == "front" else HttpToolsProtocol,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            log_config=None,
            lifespan="on",
            timeout_graceful_shutdown=2,
        )
    )
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined,method-assign]
    running = asyncio.create_task(server._serve(sockets=[sock]))
    try:
        await eventually(lambda: server.started or running.done())
        assert server.started, "the router did not start"
        await mode.warm_up(services, token, admin_token)
        yield RunningRouter(services, sock.getsockname()[1], token, admin_token)
    finally:
        services.draining = True  # as a signal has it
        server.end()
        await running
        sock.close()


@dataclass
class _Template:
    """A database with two users, made once: migrations and bcrypt take longer than most tests."""

    folder: tempfile.TemporaryDirectory[str]
    tokens: list[str]


_templates: list[_Template] = []


async def users_in(folder: Path, *, fresh: bool = True) -> list[str]:
    """Put a database with alice and root into a folder, unless there is one; return their tokens."""
    if not _templates:
        _templates.append(await _make_template())
    if fresh:
        shutil.copy(Path(_templates[0].folder.name) / "router.sqlite3", folder / "router.sqlite3")
    return _templates[0].tokens


async def _make_template() -> _Template:
    folder = tempfile.TemporaryDirectory()
    return _Template(folder, await users_at(f"sqlite:///{folder.name}/router.sqlite3"))


async def users_at(url: str) -> list[str]:
    """Make a database with alice and root at a URL; return their tokens."""
    await upgrade_database(url)
    database = Database(url)
    store = UserStore(database, clock=SystemClock(), cost=4)
    users: tuple[tuple[str, Role], ...] = (("alice", "user"), ("root", "admin"))
    tokens = [(await store.create(name, role=role)).token.reveal() for name, role in users]
    await database.aclose()
    return tokens
