"""A router in this process, on a socket of its own: for times that are measured over HTTP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn

from ollama_router_server.app import create_app
from ollama_router_server.http.strict import StrictProtocol
from ollama_router_server.services import Services


@asynccontextmanager
async def served(services: Services, user: str) -> AsyncIterator[tuple[str, str]]:
    """Serve until the block ends; gives the URL, and the token of a new user of that name."""
    await services.prepare()
    asking = await services.users.create(user, role="user")
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as sock:
        options = uvicorn.Config(create_app(services), http=StrictProtocol, access_log=False, log_config=None)
        server = uvicorn.Server(options)
        running = asyncio.create_task(server._serve(sockets=[sock]))  # noqa: SLF001 - without taking over signals
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.1)
        try:
            yield f"http://127.0.0.1:{sock.getsockname()[1]}", asking.token.reveal()
        finally:
            server.should_exit = True
            await running
