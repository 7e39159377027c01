"""The description of the routes for admins against the router itself: schemathesis sends what it allows and forbids."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from ollama_router_server.admin.openapi import openapi_document
from support.router import RunningRouter, running_router

schemathesis = pytest.importorskip("schemathesis")
schemathesis.checks.load_all_checks()
BODY_TOO_LARGE, NO_SERVER_UP = 413, 503
EXCLUDED = [schemathesis.checks.CHECKS.get_one("positive_data_acceptance")]
SERVERS = {"gone": {"host": "127.0.0.1", "port": 9}}

# As all random examples the same each time where a merge depends on them; Hypothesis's own setting does not do it.
SEED = 1 if "CI" in os.environ else None
schema = schemathesis.openapi.from_dict(openapi_document(), config=schemathesis.Config(seed=SEED))
schema.config.generation.update(with_security_parameters=False)  # a token is sent with every request


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRouter]:
    """A router in a thread of its own, for a client that blocks."""
    started = threading.Event()
    stop, running = asyncio.Event(), []

    async def serve() -> None:
        async with running_router(tmp_path_factory.mktemp("openapi"), SERVERS) as one:
            running.append((asyncio.get_running_loop(), one))
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(60), "the router did not start"
    loop, one = running[0]
    yield one
    loop.call_soon_threadsafe(stop.set)
    thread.join(60)


@schema.parametrize()
@settings(max_examples=15, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
def test_it_answers_as_it_says(case: Any, router: RunningRouter) -> None:
    """No 5xx; statuses, types, bodies and Allow as described; what breaks the description is refused.

    Not every name that the description allows is taken: what is printable cannot be said there. A text may be so much
    too long that its body is refused before anybody reads it, and nothing can be done on a server that is down.
    """
    headers = {"Authorization": f"Bearer {router.admin_token}"}
    answer = case.call(base_url=router.url, headers=headers, timeout=60)
    nothing_up = answer.status_code == NO_SERVER_UP and case.path == "/router/operations"
    if answer.status_code != BODY_TOO_LARGE and not nothing_up:
        case.validate_response(answer, excluded_checks=EXCLUDED)
