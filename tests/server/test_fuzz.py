"""Random requests: never a 500, never a request to a server outside the table, never a model that was not checked.

`OROUTER_FUZZ_PATHS` and `OROUTER_FUZZ_BODIES` set how many; the release is tested with 100000 and 20000.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from ollama_router_core.endpoints import ENDPOINTS, Body, Kind
from ollama_router_core.names import canonical_name
from support.fuzzing import ALLOWED, bodies, fuzzed, models_read_by_go, paths, send

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
            assert status in {200, 201, 400, 401, 404, 405}, (method, path, status)
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
