"""Errors in a real browser: each names its code and leads to its entry; what is shown stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, Route

from browser.conftest import signed_in
from ollama_router_core.errors import StorageUnavailable
from support.eventually import eventually_async
from support.records import make_record
from support.router import running_router

pytestmark = pytest.mark.anyio

TIMES_OUT = """() => {
  window.tries = 0;
  AbortSignal.timeout = () => (window.tries++, AbortSignal.abort(new DOMException("signal timed out", "TimeoutError")));
}"""
TRIED = "() => { document.dispatchEvent(new Event('visibilitychange')); return window.tries >= 2; }"


async def test_a_live_part_that_fails_keeps_what_it_shows(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The route's own words, a link to the code's entry, a button to try again; then the list goes on."""
    async with (
        running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router,
        signed_in(browser, router, router.admin_token) as watched,
    ):
        await router.services.request_log.insert([make_record(1, user="alice")])
        page = watched.page
        await watched.open("requests")

        async def fails(*_: object, **__: object) -> None:
            raise StorageUnavailable("the database is away")

        with monkeypatch.context() as broken:
            broken.setattr(router.services.request_log, "page", fails)
            await page.wait_for_selector("[data-fault]:has-text('the database is away')")
            assert await page.locator("tr[id^=row-]").count() == 1
            assert await page.get_attribute("[data-fault] a", "href") == "./errors#storage_unavailable"
        await page.click("[data-fault] >> text='Try again'")
        await page.wait_for_selector("[data-fault]:empty", state="attached")


async def test_what_is_told_is_the_newest_code_and_no_number_of_a_browser(browser: Browser, tmp_path: Path) -> None:
    """A fetch that takes too long has no code of the router's; an error after another is the one that is read."""
    answer = {"error": "the database is away", "code": "storage_unavailable"}

    async def refuse(route: Route) -> None:
        await route.fulfill(status=503, json=answer)

    async with (
        running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router,
        signed_in(browser, router, router.admin_token) as watched,
    ):
        page = watched.page
        await watched.open("requests")
        await page.evaluate(TIMES_OUT)

        async def tried() -> bool:
            return bool(await page.evaluate(TRIED))

        await eventually_async(tried)
        assert await page.locator("[data-fault]:empty").count() == 1
        await page.route("**/console/requests", refuse)
        await page.evaluate("() => { AbortSignal.timeout = () => undefined; }")
        await page.wait_for_selector("[data-fault] a:text-is('storage_unavailable')")
        answer.update(error="too much is asked", code="overloaded")
        await page.click("[data-fault] >> text='Try again'")
        await page.wait_for_selector("[data-fault]:has-text('too much is asked') a:text-is('overloaded')")
        assert watched.problems == []


async def test_a_form_that_is_refused_leads_to_the_code(browser: Browser, tmp_path: Path) -> None:
    """Beside the form, in the router's words."""
    async with (
        running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router,
        signed_in(browser, router, router.admin_token) as watched,
    ):
        page = watched.page
        await watched.open("people")
        await page.fill("[data-act=invite-user] [name=name]", "alice")
        await page.click("[data-act=invite-user] button")
        await page.click("[data-problem] a:has-text('duplicate_name')")
        await page.wait_for_selector("tr#duplicate_name:target")
