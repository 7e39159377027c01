"""The page of error codes, and the links that lead to its entries."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ollama_router_server.admin.views.error_reference import errors_view, known_codes
from server.console.test_pages import signed_in
from support.records import make_record
from support.router import running_router

pytestmark = pytest.mark.anyio


async def test_each_code_has_an_entry_that_links_lead_to(tmp_path: Path) -> None:
    """For users, too: a refusal, a request's row and its page name the code, and the code is a link."""
    row = make_record(
        1, id=f"{1_000_000:012x}{1:016x}", started_at=1_000.0, status=503, error="no room", error_code="no_server_fits"
    )
    other = make_record(2, user="alice", status=500, error="odd", error_code="of_another_router")
    async with running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router:
        await router.services.request_log.insert([row, other])
        browser = await signed_in(router, router.token)
        page = (await browser.get("/console/errors")).text
        told = (await browser.get("/router/errors", headers={"authorization": f"Bearer {router.token}"})).json()
        refused = (await browser.get("/console/people")).text
        missing = (await browser.get("/console/nowhere")).text
        rows = (await browser.get("/console/requests")).text
        one = (await browser.get(f"/console/requests/{row.id}")).text
        await browser.aclose()
    assert set(re.findall(r'<tr id="([a-z_]+)">', page)) == known_codes()
    assert "add <code>model</code>" in page
    assert told == errors_view().model_dump()
    assert 'href="./errors#forbidden"' in refused
    assert 'href="./errors#unknown_route"' in missing
    assert 'href="./errors#no_server_fits"' in rows
    assert "errors#of_another_router" not in rows
    assert 'href="../errors#no_server_fits"' in one
