"""Somebody is let in by a link, in a real browser: made by an admin, opened once, with a first token."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser

from browser.conftest import signed_in
from support.router import running_router

pytestmark = pytest.mark.anyio

ASK = "() => document.querySelector('[data-dialog]').showModal()"


async def test_a_link_lets_a_new_user_in(browser: Browser, tmp_path: Path) -> None:
    """The token is shown to the one who opens it, and is in no address; a second opening is refused."""
    async with (
        running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router,
        signed_in(browser, router, router.admin_token) as watched,
    ):
        router.services.users._cost = 4
        page = watched.page
        await watched.open("people")
        await page.fill("form[data-act=invite-user] input", "carol")
        await page.select_option("select[name=with]", "link")
        await page.click("form[data-act=invite-user] button")
        await page.wait_for_selector("[data-secret]:not([hidden])")
        link = await page.inner_text("[data-secret-text]")
        made = await browser.new_context()
        theirs = await made.new_page()
        await theirs.goto(link)
        await theirs.wait_for_selector("[data-secret]:not([hidden])")
        assert await theirs.inner_text("h1") == "Welcome, carol"
        assert "claim" not in theirs.url
        token = await theirs.inner_text("[data-secret-text]")
        async with router.client(token) as client:
            assert (await client.get("/router/me")).json()["name"] == "carol"
        await theirs.click("text=Go on")
        await theirs.wait_for_selector("nav", state="attached")
        assert token not in await theirs.content()
        await made.clear_cookies()
        await theirs.goto("about:blank")
        await theirs.goto(link)
        await theirs.wait_for_selector("[data-problem]:has-text('not valid')")
        await watched.open("people/carol")
        assert await page.inner_text("h1") == "carol may use 0 of 0 models."
        assert watched.problems == []
        await made.close()


async def test_what_would_hold_is_shown_before_it_is_saved(browser: Browser, tmp_path: Path) -> None:
    """The form tells the sentence and the rights that differ; saving is possible only for what was shown."""
    async with (
        running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router,
        signed_in(browser, router, router.admin_token) as watched,
    ):
        page = watched.page
        await watched.open("people/alice")
        assert await page.is_disabled("[data-act=save-rights]")
        await page.fill("input[name=requests_per_minute]", "60")
        await page.click("text=Preview rights")
        await page.wait_for_selector("tr.differs[data-right=requests_per_minute] b:text-is('→ 60, own')")
        assert "If saved: alice may use" in await page.inner_text("[data-preview]")
        await page.fill("input[name=tokens_per_day]", "9")
        assert await page.is_disabled("[data-act=save-rights]")
        await page.click("text=Preview rights")
        await page.click("[data-act=save-rights]:enabled")
        await page.wait_for_selector("tr[data-right=tokens_per_day]:has-text('own'):not(.differs)")
        assert await page.input_value("input[name=requests_per_minute]") == "60"
        await page.click(".toast:has-text('Saved') button")
        await page.wait_for_selector("tr[data-right=tokens_per_day]:has-text('no limit')")
        assert await page.input_value("input[name=requests_per_minute]") == ""
        assert await page.locator(".toast").count() == 0
        assert watched.problems == []


async def test_an_undo_that_is_refused_says_so(browser: Browser, tmp_path: Path) -> None:
    """With the code; what was saved of one person is offered on no other's page."""
    async with (
        running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router,
        signed_in(browser, router, router.admin_token) as watched,
        router.client(router.admin_token) as other,
    ):
        page = watched.page
        await watched.open("people/alice")
        await page.fill("input[name=requests_per_minute]", "60")
        await page.click("text=Preview rights")
        await page.click("[data-act=save-rights]:enabled")
        await page.wait_for_selector(".toast:has-text('Saved') button")
        assert (await other.delete("/router/users/alice")).is_success
        await page.click(".toast:has-text('Saved') button")
        await page.wait_for_selector(".toast a:text-is('unknown_user')")
        await page.evaluate("sessionStorage.undo = JSON.stringify(['/console/people/alice', 'x', {}])")
        await watched.open("people/root")
        assert await page.locator(".toast").count() == 0
        assert await page.evaluate("sessionStorage.undo") is None
        assert watched.problems == []


async def test_a_group_from_its_making_to_its_end(browser: Browser, tmp_path: Path) -> None:
    """Made, changed once it was shown what would hold, its members led to, deleted by its name when nobody is in it."""
    async with (
        running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router,
        signed_in(browser, router, router.admin_token) as watched,
        router.client(router.admin_token) as other,
    ):
        page = watched.page
        await watched.open("groups")
        await page.fill("form[data-act=make] input", "a team")
        await page.click("form[data-act=make] button")
        await page.wait_for_selector("h1:has-text('A user in a team may use')")
        await page.fill("input[name=tokens_per_day]", "900")
        await page.click("text=Preview rights")
        await page.wait_for_selector("tr.differs[data-right=tokens_per_day] b:text-is('→ 900, group')")
        await page.click("[data-act=save-rights]:enabled")
        await page.wait_for_selector("tr[data-right=tokens_per_day]:has-text('group'):not(.differs)")
        await other.patch("/router/users/alice", json={"group": "a team"})
        await page.reload()
        assert await page.locator("[data-act=remove]").count() == 0
        await page.click("text=1 member")
        await page.wait_for_selector("td bdi:text-is('alice')")
        assert await page.input_value("input[name=group]") == "a team"
        assert await page.locator("td bdi:text-is('root')").count() == 0
        await other.patch("/router/users/alice", json={"group": None})
        await watched.open("groups/a%20team")
        await page.click("[data-act=remove]")
        assert await page.is_disabled("[data-dialog-yes]")
        await page.fill("[data-dialog-typed] input", "a team")
        await page.click("[data-dialog-yes]")
        await page.wait_for_selector("h1:text-is('0 groups')")
        assert watched.problems == []


async def test_an_own_token_is_revoked_by_its_name(browser: Browser, tmp_path: Path) -> None:
    """Added on Start, and ended once its name was typed; the page is the same one again."""
    async with (
        running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router,
        signed_in(browser, router, router.token) as watched,
        router.client(router.admin_token) as other,
    ):
        page = watched.page
        await other.post("/router/users/alice/tokens", json={"name": "old/laptop"})
        await watched.open("")
        await page.click("[data-act=remove][data-name='old/laptop']")
        await page.fill("[data-dialog-typed] input", "old/laptop")
        await page.click("[data-dialog-yes]")
        await page.wait_for_selector("[data-name='old/laptop']", state="detached")
        assert page.url == f"{watched.base}/console/"
        told = (await other.get("/router/users/alice/tokens")).json()["tokens"]
        assert [token["name"] for token in told] == ["default"]
        assert watched.problems == []


async def test_saving_sends_what_was_changed_and_nothing_else(browser: Browser, tmp_path: Path) -> None:
    """A tab that was open for long does not undo what others changed, nor that nothing is allowed."""
    async with (
        running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router,
        signed_in(browser, router, router.admin_token) as watched,
        router.client(router.admin_token) as other,
    ):
        await other.patch("/router/users/alice", json={"role": "admin", "grants": {"models": [], "tokens_per_day": 5}})
        page = watched.page
        await watched.open("people/alice")
        assert await page.is_checked("input[name=no_models]")
        await page.click("text=Preview rights")
        await page.wait_for_selector("[data-preview]:has-text('If saved')")
        assert await page.is_disabled("[data-act=save-rights]")
        await other.patch("/router/users/alice", json={"role": "user", "grants": {"tokens_per_day": 9}})
        await page.fill("input[name=requests_per_minute]", "60")
        await page.click("text=Preview rights")
        await page.click("[data-act=save-rights]:enabled")
        await page.wait_for_selector("tr[data-right=requests_per_minute]:has-text('own'):not(.differs)")
        saved = (await other.get("/router/users/alice")).json()
        assert saved["role"] == "user"
        assert {name: value for name, value in saved["grants"].items() if value is not None} == {
            "models": [],
            "tokens_per_day": 9,
            "requests_per_minute": 60,
        }
        assert watched.problems == []


async def test_no_model_at_all_is_told_from_as_the_group_has_it(browser: Browser, tmp_path: Path) -> None:
    """The box forbids all models; without it an empty field takes the person's own list back."""
    async with (
        running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router,
        signed_in(browser, router, router.admin_token) as watched,
    ):
        page = watched.page
        await watched.open("people/alice")
        await page.check("input[name=no_models]")
        assert await page.is_disabled("input[name=models]")
        await page.click("text=Preview rights")
        await page.click("[data-act=save-rights]:enabled")
        await page.wait_for_selector("tr[data-right=models]:has-text('own'):has-text('none'):not(.differs)")
        assert await page.is_disabled("input[name=models]")
        await page.uncheck("input[name=no_models]")
        await page.click("text=Preview rights")
        await page.click("[data-act=save-rights]:enabled")
        await page.wait_for_selector("tr[data-right=models]:has-text('role'):not(.differs)")
        assert watched.problems == []


async def test_a_form_outlives_its_session(browser: Browser, tmp_path: Path) -> None:
    """An ended session asks for the token over the page; what was typed is still there, and what was asked is done."""
    async with (
        running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router,
        router.client(router.admin_token) as admin,
        signed_in(browser, router, router.admin_token) as watched,
    ):
        router.services.users._cost = 4
        page = watched.page
        await watched.open("people")
        await page.fill("form[data-act=invite-user] input", "carol")
        assert (await admin.delete("/router/users/root/sessions")).is_success
        await page.click("form[data-act=invite-user] button")
        await page.wait_for_selector("dialog[data-sign-in][open]")
        assert not await page.is_visible("main")
        for _ in range(2):  # Chromium lets a page refuse the first alone
            await page.keyboard.press("Escape")
        await page.fill("#token-again", "wrong")
        await page.click("dialog[data-sign-in] button")
        await page.wait_for_selector("dialog[data-sign-in] [data-problem]:not(:empty)")
        await page.fill("#token-again", router.admin_token)
        await page.click("dialog[data-sign-in] button")
        await page.wait_for_selector("[data-secret]:not([hidden])")
        assert await page.input_value("form[data-act=invite-user] input") == "carol"
        assert "carol" in {user["name"] for user in (await admin.get("/router/users")).json()["users"]}
        assert watched.problems == []


async def test_a_live_page_keeps_what_is_typed(browser: Browser, tmp_path: Path) -> None:
    """It notices by itself that its session has ended, and goes on after signing in; another user gets another page."""
    async with (
        running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router,
        router.client(router.admin_token) as admin,
        signed_in(browser, router, router.admin_token) as watched,
    ):
        page = watched.page
        for token, kept in ((router.admin_token, "qwen3:8b"), (router.token, None)):
            await watched.open("operations")
            await page.fill("input[name=model]", "qwen3:8b")
            await admin.delete("/router/users/root/sessions")
            await page.fill("#token-again", token, timeout=20_000)
            await page.press("#token-again", "Enter")
            await page.wait_for_selector("dialog[data-sign-in]:not([open])", state="attached")
            if kept is not None:
                assert await page.input_value("input[name=model]") == kept
        await page.wait_for_selector("text=needs an admin's token")


async def test_a_live_page_keeps_what_was_asked(browser: Browser, tmp_path: Path) -> None:
    """Nothing is typed, but a question is open when the page notices: it is still there after signing in."""
    async with (
        running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router,
        router.client(router.admin_token) as admin,
        signed_in(browser, router, router.admin_token) as watched,
    ):
        page = watched.page
        await watched.open("servers/gone")
        await page.evaluate(ASK)
        await admin.delete("/router/users/root/sessions")
        await page.fill("#token-again", router.admin_token, timeout=20_000)
        assert not await page.is_visible("[data-dialog]")
        await page.press("#token-again", "Enter")
        await page.wait_for_selector("[data-dialog][open]")
        assert watched.problems == []
