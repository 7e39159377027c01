"""Random requests: never a 500, never a request to a server outside the table, never a model that was not checked.

`OROUTER_FUZZ_PATHS` and `OROUTER_FUZZ_BODIES` set how many; the release is tested with 100000 and 20000.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from pathlib import Path

import pytest

from ollama_router_core.api.endpoints import ENDPOINTS, Body, Kind
from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.testing import OllamaSimulator, model
from support.fuzzing import ALLOWED, bodies, fuzzed, models_read_by_go, paths, send
from support.router import running_router, server_entry

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(3600)]

PATHS = int(os.environ.get("OROUTER_FUZZ_PATHS", "2000"))
BODIES = int(os.environ.get("OROUTER_FUZZ_BODIES", "1000"))
TABLE = [
    (row.methods, re.compile(re.sub(r"\\\{.*\\\}", r"[A-Za-z0-9\\-_.~:=+]+", re.escape(row.path)))) for row in ENDPOINTS
]
INFERENCE = [row for row in ENDPOINTS if row.kind in {Kind.INFER, Kind.READ} and row.body is Body.JSON]


def in_table(method: str, target: str) -> bool:
    """Whether a request that reached a server is spelled as a row of the table."""
    return any(method in methods and pattern.fullmatch(target) for methods, pattern in TABLE)


async def test_random_paths(tmp_path: Path) -> None:
    """Anything a client can write as a path, with an admin's token and a body that every route takes."""
    body = b'{"model":"allowed:1b","source":"allowed:1b","destination":"x","messages":[],"prompt":"x","input":"x"}'
    async with fuzzed(tmp_path, allow_account_routes=True, token_in_path=True) as (app, upstream, _, admin):
        for method, path in paths(1, PATHS):
            status, _ = await send(app, method, path, body, admin, query=b"model=forbidden:1b")
            assert status in {200, 201, 301, 307, 400, 401, 404, 405}, (method, path, status)
            assert all(in_table(*sent[:2]) for sent in upstream.seen), (method, path, upstream.seen)
            upstream.seen.clear()


async def test_random_bodies(tmp_path: Path) -> None:
    """What reaches a server means, read as Go reads it, a model that this user may use."""
    reached = 0
    async with fuzzed(tmp_path) as (app, upstream, token, _):
        for number, body in enumerate(bodies(2, BODIES)):
            row = INFERENCE[number % len(INFERENCE)]
            status, _ = await send(app, "POST", row.path.encode(), body, token)
            assert status in {200, 400, 403, 404}, (row.path, body, status)
            for _, target, sent in upstream.seen:
                reached += 1
                read = models_read_by_go(target, sent)
                assert read is None or canonical_name(read) == ALLOWED, (body, sent)
            upstream.seen.clear()
    assert reached > BODIES / 50


async def test_random_paths_over_sockets(tmp_path: Path) -> None:
    """The same through the strict HTTP front: what it lets in is still only the table."""
    own = {"/api/version", "/api/tags", "/api/ps", "/api/show"}
    async with (
        OllamaSimulator(models=[model(ALLOWED)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        for method, path in paths(3, PATHS // 10):
            status = await _raw(router.port, method, path, router.admin_token)
            assert status is None or status in {200, 201, 301, 307, 400, 401, 403, 404, 405, 414}, (
                method,
                path,
                status,
            )
        asked = [one for one in sim.requests if one.header("x-request-id") or one.path not in own]
    assert all(in_table(one.method, one.target) for one in asked)


async def _raw(port: int, method: str, path: bytes, token: str) -> int | None:
    """The status of one request, None when the connection was closed without an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b'{"model":"allowed:1b","messages":[]}'
    head = f" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n"
    writer.write(method.encode() + b" " + path + head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(20):
            answer = await reader.read(64)
        writer.close()
        await writer.wait_closed()
        return int(answer.split(b" ", 2)[1]) if answer else None
    return None
