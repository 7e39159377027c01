"""What has to be true before anybody gets an answer: each check by itself, over HTTP and on the page Start."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.admin.views.models import ModelView, model_views
from ollama_router_server.admin.views.setup_checks import ClientAccess, checks_view, first_model, is_loopback
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

CHAT = {"model": "llama3.2:3b", "messages": [{"role": "user", "content": "hi"}], "stream": False}
HERE = ClientAccess(host="localhost", address="127.0.0.1", encrypted=False, answered=3)


def holds(router: RunningRouter, asked: ClientAccess) -> dict[str, bool | None]:
    """Each check, and whether it holds."""
    found = checks_view(router.services, model_views(router.services, None).models, asked)
    return {one.code: one.holds for one in found.checks}


async def test_seven_checks_and_each_is_about_one_thing(tmp_path: Path) -> None:
    """On one machine all is well, but that nobody came from another one; each change is one other check."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        well = holds(router, HERE)
        assert list(well) == ["reachable", "encrypted", "servers", "ollama", "models", "allowed", "answered"]
        assert {code for code, value in well.items() if not value} == {"reachable"}
        elsewhere = holds(router, ClientAccess(host="gpu-box", address="192.0.2.7", encrypted=False, answered=0))
        assert {code for code, value in elsewhere.items() if not value} == {"encrypted", "answered"}
        assert False not in elsewhere.values()


async def test_a_router_without_servers_that_answer_is_not_ready(tmp_path: Path) -> None:
    """What fails says what fixes it."""
    async with running_router(tmp_path, {"off": {"host": "127.0.0.1", "port": 2}}) as router:
        found = checks_view(router.services, (), HERE)
        assert not found.ready
        failing = [one for one in found.checks if one.holds is False]
        assert [one.code for one in failing] == ["servers", "ollama", "models", "allowed"]
        assert all(one.fix for one in failing)
        assert found.model is None


async def test_start_shows_them_and_offers_a_test_answer_to_whoever_may_use_models(tmp_path: Path) -> None:
    """A user has the button until there is an answer to count; a viewer reads, and has none."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
        router.client() as client,
    ):
        made = (await admin.post("/router/users", json={"name": "vic", "role": "viewer"})).json()
        await router.services.authenticator.refresh()
        pages = {}
        for token in (router.token, made["token"]):
            async with router.client("") as browser:
                await browser.post("/console/session", json={"token": token}, headers={"x-console": "1"})
                pages[token] = (await browser.get("/console/", headers={"accept": "text/html"})).text
        assert all(len(re.findall(r'<li id="check-\w+"', page)) == 7 for page in pages.values())
        assert 'data-act="try-model" data-model="llama3.2:3b"' in pages[router.token]
        assert "try-model" not in pages[made["token"]]
        assert "Ready." in pages[made["token"]]
        await client.post("/api/chat", json=CHAT)
        await router.rows(1)
        told = (await client.get("/router/me/checks")).json()
        assert told["checks"][-1] == {
            "code": "answered",
            "holds": True,
            "text": "You got 1 answer in the last seven days",
            "fix": "send a request to a model",
        }


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True), ("[::1]", True), ("localhost", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", False),
        ("gpu-box", False), ("192.0.2.7", False), (None, False), ("", False),
    ],
)  # fmt: skip
def test_addresses_of_this_machine_alone(host: str | None, own: bool) -> None:
    """Loopback by number or name, mapped into IPv6 too."""
    assert is_loopback(host) is own


def test_the_model_to_try_is_in_memory_then_small_and_no_embedder() -> None:
    """The one that would answer soonest; none where no model can."""

    def one(name: str, size: int, loaded: int, capabilities: list[str] | None = None) -> ModelView:
        return ModelView(
            name=name, parameters=None, quantization=None, family=None, context=None, size=size,
            capabilities=capabilities, on_servers=1, loaded_on=loaded, differs=False, hosted=False,
        )  # fmt: skip

    models = [one("small", 2, 0), one("warm", 9, 1), one("embedder", 1, 1, ["embedding"])]
    assert (found := first_model(models)) is not None
    assert found.name == "warm"
    assert (found := first_model(models[::2])) is not None
    assert found.name == "small"
    assert first_model(models[2:]) is None
