"""Errors in a real browser: each names its code and leads to its entry; what is shown stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser

from browser.conftest import signed_in
from ollama_router_core.errors import StorageUnavailable
from support.records import make_record
from support.router import running_router

pytestmark = pytest.mark.anyio


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
