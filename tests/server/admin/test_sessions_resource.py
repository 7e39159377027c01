"""Sessions of others: an admin sees them and ends them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from support.router import RunningRouter, running_router

pytestmark = pytest.mark.anyio

OURS, PERSON = {"x-console": "1"}, {"accept": "text/html"}


@pytest.fixture
async def router(tmp_path: Path) -> AsyncIterator[RunningRouter]:
    """A router without a server that works."""
    async with running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as one:
        yield one


async def browser_of(router: RunningRouter, token: str) -> httpx.AsyncClient:
    """Somebody who is signed in."""
    browser = router.client("")
    browser.headers.update(PERSON)
    assert (await browser.post("/console/session", json={"token": token}, headers=OURS)).status_code == 200
    return browser


async def is_in(browser: httpx.AsyncClient) -> bool:
    """Whether a browser is still signed in."""
    return (await browser.get("/console/requests")).status_code == 200


async def test_one_session_is_ended_and_the_others_stay(router: RunningRouter) -> None:
    """By its name, which is not the digest that opens it; the trail says who did it."""
    async with router.client(router.admin_token) as admin:
        old, new = await browser_of(router, router.token), await browser_of(router, router.token)
        first, second = (await admin.get("/router/users/alice/sessions")).json()["sessions"]
        assert (first["method"], first["token"]) == ("token", "default")
        assert first["created_at"] >= second["created_at"]
        answer = await admin.delete(f"/router/users/alice/sessions/{first['id']}")
        assert answer.json() == {"user": "alice", "ended": 1}
        assert [await is_in(one) for one in (old, new)] == [True, False]
        (entry,) = (await admin.get("/router/audit?action=user.sign_out")).json()["entries"]
        assert (entry["actor"], entry["subject"], entry["detail"]) == ("root", "alice", {"sessions": 1})
        await old.aclose()
        await new.aclose()


async def test_all_are_ended_and_the_page_tells_it(router: RunningRouter) -> None:
    """A second time there is nothing to end, and nothing in the trail; an unknown user has none."""
    async with router.client(router.admin_token) as admin:
        root, hers = await browser_of(router, router.admin_token), await browser_of(router, router.token)
        assert "End all" in (await root.get("/console/people/alice")).text
        ended = [(await admin.delete("/router/users/alice/sessions")).json()["ended"] for _ in range(2)]
        assert ended == [1, 0]
        assert not await is_in(hers)
        assert await is_in(root)
        assert "No open session for alice" in (await root.get("/console/people/alice")).text
        assert len((await admin.get("/router/audit?action=user.sign_out")).json()["entries"]) == 1
        assert (await admin.get("/router/users/nobody/sessions")).status_code == 404
        await root.aclose()
        await hers.aclose()


async def test_ending_all_ends_links_too(router: RunningRouter) -> None:
    """A link that nobody has used would sign in again at once; ending one session leaves it."""
    async with router.client(router.admin_token) as admin, router.client("") as hers:
        link = await router.services.console_sessions.invite("alice", seconds=60)
        await admin.delete("/router/users/alice/sessions/of-nobody")
        assert (await hers.post("/console/claim", json={"claim": link}, headers=OURS)).status_code == 200
        again = await router.services.console_sessions.invite("alice", seconds=60)
        assert (await admin.delete("/router/users/alice/sessions")).json()["ended"] == 1
        assert (await hers.post("/console/claim", json={"claim": again}, headers=OURS)).status_code == 401
        (entry,) = (await admin.get("/router/audit?action=user.sign_out")).json()["entries"]
        assert entry["detail"] == {"sessions": 1, "links": 1}
