"""The config in force, as admins are told it: whole, without secrets, with what keeps a newer one from holding."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_router_core.config import load_config
from support.router import running_router

pytestmark = pytest.mark.anyio

SECRET = "swordfish-1234"
SERVERS = {"gone": {"host": "127.0.0.1", "port": 9, "headers": {"X-Key": SECRET}}}


async def test_the_config_in_force_is_told_without_secrets(tmp_path: Path) -> None:
    """As text that can be read again; in the file for helpers too, which names no user."""
    async with running_router(tmp_path, SERVERS) as router, router.client(router.admin_token) as admin:
        told = (await admin.get("/router/config")).json()
        file = await admin.get("/router/diagnostics")
    assert load_config(told["text"]).servers["gone"].port == 9
    assert (told["problem"], told["needs_restart"]) == (None, [])
    assert file.headers["content-disposition"].startswith("attachment")
    assert file.json()["config"] == told
    for text in (told["text"], file.text):
        assert SECRET not in text
        assert "alice" not in text


async def test_what_keeps_a_newer_config_from_holding_is_on_the_page(tmp_path: Path) -> None:
    """Its problem as the log has it, and what waits for a restart; for admins alone."""
    async with running_router(tmp_path, SERVERS) as router, router.client("") as browser:
        router.services.running_config.problem = "line 7: queue.max_wait: must be a number"
        router.services.running_config.needs_restart = ("proxy_port",)
        for token, told in ((router.admin_token, True), (router.token, False)):
            await browser.post("/console/session", json={"token": token}, headers={"x-console": "1"})
            page = (await browser.get("/console/about?config=1")).text
            assert ("line 7: queue.max_wait" in page) is told
            assert ("<code>proxy_port</code>" in page) is told
            assert ("servers:" in page) is told
            assert SECRET not in page
            assert ("config on disk cannot be used: line 7" in (await browser.get("/console/now")).text) is told
