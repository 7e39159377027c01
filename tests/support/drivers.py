"""One script of requests on each of the ways to drive the client-side router."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx
import httpx2

from ollama_router_core import AsyncRouterTransport, MemorySink, RouterTransport
from ollama_router_core.config import Config
from ollama_router_core.testing import FakeFleet
from support.clock import FakeClock

LIBRARIES = {"httpx": httpx, "httpx2": httpx2}
DRIVERS = ["sync", "asyncio", "trio"]
_VARYING = {"x-router-request-id"}


@dataclass(frozen=True)
class Request:
    """One request of a script; `before` may change the fleet first."""

    method: str
    path: str
    json: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    before: Callable[[FakeFleet], None] = lambda fleet: None


@dataclass(frozen=True)
class Seen:
    """What a program saw of one request: an answer, or the name of an exception."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: str = ""


@dataclass(frozen=True)
class Played:
    """What came of a script."""

    seen: tuple[Seen, ...]
    rows: tuple[Any, ...]
    requests: tuple[Any, ...]
    in_flight: Mapping[str, int]


def play(
    script: Iterable[Request],
    *,
    driver: str = "sync",
    library: str = "httpx",
    fleet: FakeFleet,
    config: Config | None = None,
    environment: Mapping[str, str] | None = None,
) -> Played:
    """Run a script against a fleet in memory, one request after the other."""
    sink = MemorySink()
    # A clock that stands still: no server is asked for news between two requests on one machine and not on another.
    options: dict[str, Any] = {"inner": fleet, "sink": sink, "environment": environment or {}, "clock": FakeClock()}
    settings = config or fleet.config
    if driver == "sync":
        transport: Any = RouterTransport(settings, **options)
        seen = _play_sync(LIBRARIES[library], transport, fleet, script)
    else:
        transport = AsyncRouterTransport(settings, **options)
        seen = anyio.run(_play_async, LIBRARIES[library], transport, fleet, script, backend=driver)
    rows = tuple(
        (row.path, row.model_asked, row.server, row.status, row.attempts, row.streamed, row.prompt_tokens,
         row.completion_tokens, row.bytes_in, row.bytes_out, row.reason, row.error_code)
        for row in sink.records
    )  # fmt: skip
    asked = tuple((one.server, one.path, str(one.body)) for one in fleet.requests)
    return Played(tuple(seen), rows, asked, {k: v for k, v in transport.snapshot.in_flight.items() if v})


def _play_sync(library: Any, transport: Any, fleet: FakeFleet, script: Iterable[Request]) -> list[Seen]:
    seen = []
    with library.Client(transport=transport, base_url="http://router") as client:
        for one in script:
            one.before(fleet)
            try:
                answer = client.request(one.method, one.path, json=one.json, headers=one.headers)
            except library.TransportError as error:
                seen.append(Seen(error=f"{type(error).__name__}: {error}"))
            else:
                seen.append(_seen(answer))
    return seen


async def _play_async(library: Any, transport: Any, fleet: FakeFleet, script: Iterable[Request]) -> list[Seen]:
    seen = []
    async with library.AsyncClient(transport=transport, base_url="http://router") as client:
        for one in script:
            one.before(fleet)
            try:
                answer = await client.request(one.method, one.path, json=one.json, headers=one.headers)
            except library.TransportError as error:
                seen.append(Seen(error=f"{type(error).__name__}: {error}"))
            else:
                seen.append(_seen(answer))
    return seen


def _seen(answer: Any) -> Seen:
    headers = {name: value for name, value in answer.headers.items() if name not in _VARYING}
    body = answer.content
    request_id = answer.headers.get("x-router-request-id", "")
    return Seen(answer.status_code, headers, body.replace(request_id.encode(), b"ID") if request_id else body)
