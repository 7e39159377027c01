"""The proxy and the client-side router, driven by the same script over real sockets, and what came of it."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx

from ollama_router_core import AsyncRouterTransport, MemorySink
from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.config import load_config
from ollama_router_core.fleet.clocked_fleet import ClockedFleet
from ollama_router_core.fleet.snapshot import FleetSnapshot, ServerFacts
from ollama_router_core.fleet.stalls import Wait
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.testing import OllamaSimulator
from support.eventually import eventually, eventually_async
from support.router import RunningRouter, running_router, server_entry

__all__ = ["WAYS", "Played", "Row", "Scene", "Stage", "play"]

_POLLS = {"/api/version", "/api/tags", "/api/ps", "/api/show", "/v1/models", "/api/status"}
_NOT_COMPARED = {"host", "x-request-id", "connection", "content-length", "accept-encoding"}
_OWN_ANSWER = {"content-type", "x-router-server", "x-router-attempts", "x-router-error", "x-router-fallback",
               "x-router-dropped", "x-should-retry"}  # fmt: skip
_VARYING = re.compile(
    rb'("(created_at|modified_at|expires_at|created|digest|id|request_id|system_fingerprint|\w*duration)"\s*:\s*)("[^"]*"|\d+)'
    rb"|127\.0\.0\.1:\d+|\(request id: [^)]*\)|chatcmpl-[\w-]+|cmpl-[\w-]+|msg_[\w-]+"
)
_HELD = {"user-agent": "held"}
_CONNECTING = re.compile(rb"is down: [^;\"]*")
"""How the two say why a connection was not made."""
_LEARNED_LATER = re.compile(r" at \d+ tokens")
"""Of a model that is loaded: the proxy asks at once, the client with the next request."""
_NUMBERS = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One request of a script.

    Attributes:
        before: what happens to the stage first.
        beside: requests that are held by their servers meanwhile, so that this one finds them busy; `release` lets go.
        status: what both ways must answer, or 0 where a program gets an exception and a client of the proxy a 5xx.
        sent: where the request must arrive, in any order; None compares the two ways only.
        broken: the answer must not end as complete.
        progress: the answer is progress of several servers: the number of lines depends on their speeds.
        recorded: the proxy leaves a record; it leaves none where it does not ask who sends a request.
    """

    name: str
    method: str = "POST"
    path: str = "/api/chat"
    json: Any = None
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    before: Callable[[Stage], Awaitable[None]] | None = None
    status: int = 200
    sent: Sequence[str] | None = None
    broken: bool = False
    recorded: bool = True
    progress: bool = False


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Servers (the simulator's options, with the config entry's under `entry`), settings and a script."""

    servers: Mapping[str, Mapping[str, Any]]
    rows: Sequence[Row]
    config: Mapping[str, Any] = field(default_factory=dict)
    external: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class Way(Protocol):
    """A way to the servers."""

    client: httpx.AsyncClient

    @property
    def fleet(self) -> ClockedFleet: ...
    def snapshot(self) -> FleetSnapshot: ...
    def waiting(self) -> int: ...
    async def look(self) -> None: ...
    async def records(self, count: int) -> list[RequestRecord]: ...


class Stage:
    """What a script acts on."""

    def __init__(self, simulators: Mapping[str, OllamaSimulator], way: Way) -> None:
        self.simulators = simulators
        self.way = way
        self.held: list[asyncio.Task[Any]] = []

    def of(self, name: str) -> OllamaSimulator:
        """A server."""
        return self.simulators[name]

    async def believes(self, condition: Callable[[Mapping[str, ServerFacts]], bool]) -> None:
        """Wait until the router's facts about its servers meet a condition."""

        async def met() -> bool:
            await self.way.look()
            return condition(self.way.snapshot().servers)

        await eventually_async(met)

    async def suspects(self, server: str, model: str) -> None:
        """Let a request have waited for hours on a server, and that be polled; return when its load probe has ended.

        The model has never answered there: an answer since would excuse the wait.
        """
        fleet, name = self.way.fleet, canonical_name(model)
        waiting = RouteRequest(model=name, model_text=model, stream=True)
        fleet.state.runners.suspect(server, [Wait(server, waiting, fleet.now() - 9999.0)], fleet.now())
        fleet.measure_soon(server)

        async def ended() -> bool:
            await self.way.look()
            left = fleet.health.models.to_json(server, fleet.now()).get(name)
            return left is None or "load probe: " in left["error"]

        await eventually_async(ended)

    async def hold(self, path: str, body: Any, *, running: int = 0, waiting: int = 0, **headers: str) -> None:
        """Send a request beside the script, and wait until so many run on servers and so many wait in the queue."""
        self.held.append(asyncio.create_task(self.way.client.post(path, json=body, headers={**_HELD, **headers})))
        await eventually(
            lambda: sum(self.way.snapshot().in_flight.values()) >= running and self.way.waiting() >= waiting
        )

    async def let_go(self) -> None:
        """Give up what is held."""
        for task in self.held:
            task.cancel()
        await asyncio.gather(*self.held, return_exceptions=True)
        self.held.clear()
        await eventually(lambda: not any(self.way.snapshot().in_flight.values()) and not self.way.waiting())


class _Proxy:
    def __init__(self, router: RunningRouter, client: httpx.AsyncClient) -> None:
        self._router = router
        self.client = client

    @property
    def fleet(self) -> ClockedFleet:
        return self._router.services.fleet

    def snapshot(self) -> FleetSnapshot:
        return self._router.services.fleet.snapshot

    def waiting(self) -> int:
        return self._router.services.admission.waiting

    async def look(self) -> None:
        """It polls by itself."""

    async def records(self, count: int) -> list[RequestRecord]:
        return sorted(await self._router.rows(0), key=lambda row: row.started_at)


class _Client:
    def __init__(self, transport: AsyncRouterTransport, client: httpx.AsyncClient, sink: MemorySink) -> None:
        self._transport = transport
        self._sink = sink
        self.client = client

    @property
    def fleet(self) -> ClockedFleet:
        return self._transport._state.fleet

    def snapshot(self) -> FleetSnapshot:
        return self._transport.snapshot

    def waiting(self) -> int:
        return self._transport._state.admission.waiting

    async def look(self) -> None:
        """It asks servers when a question about them finds them due."""
        await self._transport.explain("nobody:1b")

    async def records(self, count: int) -> list[RequestRecord]:
        await eventually(lambda: len(self._sink.records) >= count)
        return sorted(self._sink.records, key=lambda row: row.started_at)


@dataclass(frozen=True, kw_only=True)
class Played:
    """What came of one row: the answer, the requests that servers saw, the record."""

    status: int
    fields: Mapping[str, str]
    body: bytes
    broken: bool
    requests: Sequence[tuple[Any, ...]]
    record: Mapping[str, Any] | None


_Taken = tuple[dict[str, Any], int, list[tuple[Any, ...]], tuple[float, float]]
"""The answer and its size, the requests that servers saw, and between which times the request began."""


async def play(scene: Scene, way: str, folder: Path) -> dict[str, Played]:
    """Play a script on one of `WAYS`, against servers of its own."""
    async with AsyncExitStack() as stack:
        simulators: dict[str, OllamaSimulator] = {}
        entries: dict[str, dict[str, Any]] = {}
        for name, options in {**scene.servers, **scene.external}.items():
            simulator = OllamaSimulator(**{key: value for key, value in options.items() if key != "entry"})
            simulators[name] = await stack.enter_async_context(simulator)
            entries[name] = server_entry(simulator, **options.get("entry", {}))
        config = {
            "servers": {name: entries[name] for name in scene.servers},
            "external_hosts": {name: {"protocol": "http", **entries[name]} for name in scene.external},
            **scene.config,
        }
        taken = await WAYS[way](stack, folder, config)
        stage = Stage(simulators, taken)
        seen = {row.name: await _play_row(stage, row) for row in scene.rows}
        await stage.let_go()
        records = await taken.records(len(scene.rows))
    return {
        name: Played(**answer, requests=requests, record=_record(records, size, *times))
        for name, (answer, size, requests, times) in seen.items()
    }


async def _by_proxy(stack: AsyncExitStack, folder: Path, config: dict[str, Any]) -> Way:
    environment = {"PAID_KEY": "sk-canary-5d1e"}
    servers = config.pop("servers")
    router = await stack.enter_async_context(running_router(folder, servers, environment=environment, **config))
    return _Proxy(router, await stack.enter_async_context(router.client(router.admin_token)))


async def _by_client(stack: AsyncExitStack, folder: Path, config: dict[str, Any]) -> Way:
    sink, environment = MemorySink(), {"PAID_KEY": "sk-canary-5d1e"}
    settings = load_config(json.dumps({"proxy_port": 1, **config}), env=environment)
    transport = AsyncRouterTransport(settings, sink=sink, environment=environment)
    client = httpx.AsyncClient(transport=transport, base_url="http://router", timeout=20)
    client = await stack.enter_async_context(client)
    way = _Client(transport, client, sink)
    await way.look()
    return way


WAYS: Mapping[str, Callable[[AsyncExitStack, Path, dict[str, Any]], Awaitable[Way]]] = {
    "proxy": _by_proxy,
    "client": _by_client,
}


async def _play_row(stage: Stage, row: Row) -> _Taken:
    if row.before is not None:
        await row.before(stage)
    before = {name: len(one.requests) for name, one in stage.simulators.items()}
    options: dict[str, Any] = {"json": row.json} if row.content is None else {"content": row.content}
    request_id = row.name.replace(" ", "-")
    headers = {"user-agent": f"script/{request_id}", **row.headers}
    began = time.time()
    answer: dict[str, Any] = {"status": 0, "fields": {}, "body": b"", "broken": False}
    body = b""
    try:
        async with stage.way.client.stream(row.method, row.path, headers=headers, **options) as response:
            answer["status"], request_id = response.status_code, response.headers.get("x-router-request-id", "")
            answer["fields"] = {name: value for name, value in response.headers.items() if name in _OWN_ANSWER}
            async for piece in response.aiter_raw():
                body += piece
    except httpx.TransportError:
        answer["broken"] = bool(answer["status"])
    shown = _CONNECTING.sub(b"is down", body.replace(request_id.encode() or b"\0", b"ID"))
    answer["body"] = _VARYING.sub(b"", shown)
    requests = [
        _shown(name, request)
        for name, simulator in stage.simulators.items()
        for request in simulator.requests[before[name] :]
        if request.header("user-agent") == headers["user-agent"] or _is_order(request)
    ]
    return answer, len(body), sorted(requests), (began, time.time())


def _is_order(request: Any) -> bool:
    """What a router sends of its own accord, but for questions about the server."""
    agent = request.header("user-agent") or ""
    return request.path not in _POLLS and agent != _HELD["user-agent"] and not agent.startswith("script/")


def _shown(name: str, request: Any) -> tuple[Any, ...]:
    fields = sorted((key.lower(), value) for key, value in request.headers if key.lower() not in _NOT_COMPARED)
    return name, request.method, request.target, bytes(request.body), fields


def _record(records: Sequence[RequestRecord], size: int, began: float, ended: float) -> Mapping[str, Any] | None:
    """A record without ids, who sent the request, times and measured numbers; its bytes are compared with those read.

    Without an answer the program got an exception, whose words are the HTTP library's.
    """
    found = next((row for row in records if began <= row.started_at <= ended), None)
    if found is None:
        return None
    shown = {**found.to_json(), "id": None, "user": None, "client": None}
    for name in ("started_at", "queue_ms", "ttft_ms", "total_ms", "load_ms", "expected_wait_ms", "connect_ms"):
        shown[name] = shown[name] is not None
    for name in ("prefill_ms", "decode_ms", "gpu_ms", "decision"):
        shown[name] = shown[name] is not None
    for name in ("reason", "error"):
        text = _CONNECTING.sub(b"is down", (shown[name] or "").encode()).decode()
        shown[name] = _NUMBERS.sub("N", _LEARNED_LATER.sub("", text))
    shown["bytes_out"] = found.bytes_out - size if size else None
    return shown if size else {**shown, "error": None}
