"""Routers on one database without a store in common: what they do not share is said, where somebody looks for it."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from ollama_router_core.config import load_config
from ollama_router_core.coordination.in_process import InProcess
from ollama_router_server.services import Services

pytestmark = pytest.mark.anyio


async def said(url: str, *, workers: int = 1) -> list[str]:
    """What the workers of one router say of it when they start."""
    config = load_config("proxy_port: 1\nservers: {nobody: {host: 127.0.0.1, port: 9}}\n")
    group = InProcess("workers", bytes(32), size=workers)
    with capture_logs() as log:
        for index in range(workers):
            services = Services(config, {"OROUTER_DATABASE_URL": url}, coordination=group.member(index))
            try:
                await services.start()
            finally:
                await services.aclose()
    return [entry["detail"] for entry in log if entry["event"] == "coordination_not_shared"]


@pytest.mark.usefixtures("database")
async def test_a_start_says_once_what_routers_on_one_postgresql_do_not_share(database_url: str) -> None:
    """One line of a router, however many workers it has, with the setting that fixes it; a file has one router."""
    told = await said(database_url, workers=2)
    if database_url.startswith("sqlite"):
        assert told == []
        return
    (line,) = told
    assert line.startswith("coordination.url is not set")
    assert "but not max_concurrent, the queue, polls and what they learn of servers" in line
