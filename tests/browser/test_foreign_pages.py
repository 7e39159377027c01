"""A page of another port of the router's own host: cookies are shared with it, and it reads and changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser

from browser.conftest import signed_in
from ollama_router_core.testing import OllamaSimulator, model
from support.certificates import certificate_for_loopback, server_tls
from support.other_program import other_program
from support.router import server_entry
from support.router_process import router_process

pytestmark = pytest.mark.anyio

FETCHES = """async (target) => {
    const tried = [];
    for (const headers of [{}, {"x-console": "1", "content-type": "application/json"}])
        for (const method of ["GET", "POST"])
            tried.push(await fetch(target, {method, headers, credentials: "include"}).then(
                (answer) => answer.type == "opaque" ? "hidden" : answer.text(), () => "refused"));
    return tried;
}"""
LOADED = """([kind, url]) => new Promise((done) => {
    const one = kind === "image" ? new Image() : new EventSource(url, {withCredentials: true});
    one.addEventListener("error", () => done("refused"));
    for (const name of ["load", "open", "message"]) one.addEventListener(name, () => done(name));
    if (kind === "image") one.src = url;
})"""
FRAMED = """(url) => {
    const one = document.body.appendChild(document.createElement("iframe"));
    one.src = url;
}"""
POSTED = """(url) => {
    const form = document.body.appendChild(document.createElement("form"));
    document.body.append(Object.assign(document.createElement("iframe"), {name: "posted"}));
    Object.assign(form, {method: "post", enctype: "text/plain", target: "posted", action: url});
    Object.assign(form.appendChild(document.createElement("input")), {name: '{"x": "', value: '"}'});
    form.submit();
}"""


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_page_on_another_port_reads_and_changes_nothing(browser: Browser, tmp_path: Path, scheme: str) -> None:
    """Fetch with credentials, with and without our field, an event source, an image, a frame, a form."""
    certificate = certificate_for_loopback(tmp_path) if scheme == "https" else None
    tls = {"tls": {"certificate": str(certificate), "key": str(certificate)}} if certificate else {}
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        router_process(tmp_path, {"one": server_entry(sim)}, **tls) as router,
        signed_in(browser, router, router.admin_token, scheme=scheme, ignore_https_errors=True) as watched,
    ):
        with other_program(server_tls(certificate) if certificate else None) as port:
            page = watched.page
            await page.goto(f"{scheme}://gpu-box:{port}/")
            now, drain = f"{watched.base}/console/now", f"{watched.base}/console/act/servers/one/drain"
            assert set(await page.evaluate(FETCHES, drain)) == {"refused"}
            for kind, url in (
                ("image", drain),
                ("image", now),
                ("events", f"{watched.base}/console/events?topics=now"),
            ):
                assert await page.evaluate(LOADED, [kind, url]) == "refused", (kind, url)
            for script, url in ((FRAMED, now), (POSTED, drain)):
                async with page.expect_request(url) as asked:
                    await page.evaluate(script, url)
                await (await asked.value).response()
                shown = [await frame.content() for frame in page.frames]
                assert not any("<nav" in text for text in shown)
        headers = {"authorization": f"Bearer {router.admin_token}"}
        async with httpx.AsyncClient(verify=False, trust_env=False, headers=headers) as admin:  # noqa: S501 - its own
            status: dict[str, Any] = (await admin.get(f"{scheme}://127.0.0.1:{router.port}/router/status")).json()
        assert status["servers"]["one"]["draining"] is False
