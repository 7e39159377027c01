"""Servers behind a Service, from an API server on loopback."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from ollama_router_core.config import load_config
from ollama_router_core.config.discovery_settings import Discovery as Settings
from ollama_router_core.errors import RouterError
from ollama_router_server.fleet.discovery.discovery_loop import Discovery
from ollama_router_server.fleet.discovery.finder import LookFailed
from ollama_router_server.fleet.discovery.kubernetes import KubernetesFinder
from ollama_router_server.system import SystemClock
from ollama_router_server.upstream.httptools_upstream import HttptoolsUpstream
from support.eventually import eventually
from support.kubernetes_api import SELECTOR, KubernetesApi, endpoint, kubernetes_api

pytestmark = pytest.mark.anyio


@pytest.fixture
def api(tmp_path: Path) -> Iterator[KubernetesApi]:
    """An API server with a slice of one pod."""
    with kubernetes_api(tmp_path) as running:
        running.put("ollama-x", endpoint("10.1.0.1", "ollama-0"))
        yield running


@asynccontextmanager
async def finder(api: KubernetesApi, *, interval: float = 10.0, **settings: Any) -> AsyncIterator[KubernetesFinder]:
    """What looks at it."""
    upstream = HttptoolsUpstream()
    wanted = Settings.model_validate({"interval": interval, "kubernetes": {"selector": SELECTOR, **settings}})
    made = KubernetesFinder(wanted, upstream, api.environment, str(api.account))
    try:
        yield made
    finally:
        made.close()
        await upstream.aclose()


@asynccontextmanager
async def discovery(
    api: KubernetesApi, monkeypatch: pytest.MonkeyPatch, *, interval: float
) -> AsyncIterator[Discovery]:
    """The task of the router that looks at it, after the first look."""
    in_pod = partial(KubernetesFinder, account=str(api.account))
    monkeypatch.setattr("ollama_router_server.fleet.discovery.discovery_loop.KubernetesFinder", in_pod)

    async def changed() -> None:
        """Nobody is told."""

    wanted = {"interval": interval, "keep": 0.1, "kubernetes": {"selector": SELECTOR}}
    config = load_config(json.dumps({"servers": {}, "discovery": wanted}))
    upstream = HttptoolsUpstream()
    looking = Discovery(config, upstream=upstream, environment=api.environment, clock=SystemClock(), changed=changed)
    await looking.start(60.0)
    try:
        yield looking
    finally:
        await looking.aclose()
        await upstream.aclose()


async def names(looking: KubernetesFinder) -> set[str]:
    """Who is found now."""
    return {one.name for one in await looking.look()}


async def until(looking: KubernetesFinder, wanted: set[str]) -> None:
    """Look whenever it is time to, until these are found."""
    async with asyncio.timeout(60):
        while await names(looking) != wanted:
            await looking.wait()


def pauses_of(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the finder sleeps from now on, instead of sleeping."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("ollama_router_server.fleet.discovery.kubernetes.asyncio.sleep", sleep)
    return pauses


async def test_ready_endpoints_of_every_page_are_servers(api: KubernetesApi) -> None:
    """By the pod's name where there is one, at the port that the settings name."""
    api.put("ollama-x", endpoint("10.1.0.1", "ollama-0"), endpoint("10.1.0.2", ready=False))
    api.put("ollama-y", endpoint("10.1.0.3", ready=None))
    api.put("ollama-z", ports=None)
    async with finder(api, port="http") as looking:
        assert [(one.name, one.settings.host, one.settings.port) for one in await looking.look()] == [
            ("ollama-0", "10.1.0.1", 11434),
            ("10.1.0.3", "10.1.0.3", 11434),
        ]
    async with finder(api) as looking:
        assert {one.settings.port for one in await looking.look()} == {9090}


async def test_what_changes_is_told_and_not_asked_for(api: KubernetesApi) -> None:
    """Pods that come, become unready and go are known without another list, long before the interval is over."""
    async with finder(api, interval=600.0) as looking:
        assert await names(looking) == {"ollama-0"}
        lists = len(api.asked_for("list"))
        api.put("ollama-y", endpoint("10.1.0.2", "ollama-1"))
        await until(looking, {"ollama-0", "ollama-1"})
        api.put("ollama-x", endpoint("10.1.0.1", "ollama-0", ready=False))
        await until(looking, {"ollama-1"})
        api.bookmark()
        api.delete("ollama-y")
        await until(looking, set())
        assert len(api.asked_for("list")) == lists
        assert len(api.asked_for("watch")) == 1


async def test_a_watch_that_ends_is_taken_up_where_it_was(api: KubernetesApi) -> None:
    """With the version of its last event and the token of then: nothing is missed, nothing is listed again."""
    async with finder(api) as looking:
        await looking.look()
        lists = len(api.asked_for("list"))
        api.put("ollama-y", endpoint("10.1.0.2", "ollama-1"))
        await until(looking, {"ollama-0", "ollama-1"})
        api.token = "renewed"
        (api.account / "token").write_text("renewed\n")
        api.end_watches()
        api.put("ollama-z", endpoint("10.1.0.3", "ollama-2"))
        await until(looking, {"ollama-0", "ollama-1", "ollama-2"})
        first, second = api.asked_for("watch")
        assert (first["token"], second["token"]) == ("Bearer of-the-pod", "Bearer renewed")
        assert int(second["resourceVersion"]) == int(first["resourceVersion"]) + 1
        assert len(api.asked_for("list")) == lists


@pytest.mark.parametrize("told", ["in the watch", "at once"])
async def test_slices_are_listed_again_once_their_history_is_gone(api: KubernetesApi, told: str) -> None:
    """410 as an event or as a status: what was deleted meanwhile is not found any more."""
    async with finder(api) as looking:
        api.put("ollama-y", endpoint("10.1.0.2", "ollama-1"))
        assert await names(looking) == {"ollama-0", "ollama-1"}
        api.delete("ollama-y")
        api.forget()
        api.end_watches()
        if told == "at once":
            api.statuses["watch"] = 410
            await until(looking, {"ollama-0"})
            del api.statuses["watch"]
            api.put("ollama-y", endpoint("10.1.0.2", "ollama-1"))
            await until(looking, {"ollama-0", "ollama-1"})
        else:
            await until(looking, {"ollama-0"})


async def test_an_api_server_that_is_away_is_asked_less_and_less(
    api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pauses double up to the interval, and are short again after a watch that worked."""
    async with finder(api, interval=2.0) as looking:
        pauses = pauses_of(monkeypatch)
        api.statuses = {"list": 503}
        for _ in range(12):
            with pytest.raises(LookFailed, match="answers 503"):
                await looking.look()
            await looking.wait()
        assert pauses == [0.4, 0.8, 1.6, *[2.0] * 9]


ERROR = {"type": "ERROR", "object": {"message": "etcd is gone"}}
BOOKMARK = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "101"}}}


@pytest.mark.parametrize("word", [b"", b"<html>\n", json.dumps(ERROR).encode() + b"\n"])
async def test_watches_that_tell_nothing_are_begun_less_and_less(
    api: KubernetesApi, monkeypatch: pytest.MonkeyPatch, word: bytes
) -> None:
    """Those that end at once, as those that tell an error or something else than events: each is a failure."""
    api.last_word = word
    async with finder(api, interval=600.0) as looking:
        pauses = pauses_of(monkeypatch)
        for _ in range(4):
            assert await names(looking) == {"ollama-0"}
            while looking._watch is not None:  # a body and its end come in one piece or two
                await looking.wait()
        assert pauses == [0.4, 0.8, 1.6, 3.2]


async def test_a_watch_that_is_over_is_never_followed_at_once(
    api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that worked; pods pause differently."""
    api.last_word = json.dumps(BOOKMARK).encode() + b"\n"
    api.environment["HOSTNAME"] = "router-0"
    async with finder(api) as looking:
        pauses = pauses_of(monkeypatch)
        for _ in range(2):
            await looking.look()
            while looking._watch is not None:
                await looking.wait()
        assert pauses[0] == pauses[1]
        assert 0.16 <= pauses[0] < 0.2


async def test_a_token_that_is_refused_once_does_not_end_watching(
    api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """401 is a failure with a pause: the next token may be good."""
    api.statuses["watch"] = 401
    async with finder(api) as looking:
        pauses = pauses_of(monkeypatch)
        with pytest.raises(LookFailed, match="answers 401 to a watch"):
            await looking.look()
        await looking.wait()
        del api.statuses["watch"]
        assert await names(looking) == {"ollama-0"}
        assert looking._watch is not None
        assert pauses == [0.4]


async def test_an_account_that_may_not_watch_lists_as_before(
    api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every interval; the log says once what is missing."""
    api.statuses["watch"] = 403
    with capture_logs() as logged:
        async with discovery(api, monkeypatch, interval=0.05) as looking:
            assert [one.name for one in looking.found] == ["ollama-0"]
            api.put("ollama-x", endpoint("10.1.0.4", "ollama-4"))
            await eventually(lambda: [one.name for one in looking.found] == ["ollama-4"])
    assert [(one["event"], one["detail"]) for one in logged] == [
        (
            "discovery_not_watched",
            "its service account needs watch of endpointslices.discovery.k8s.io in namespace ai",
        )
    ]


async def test_a_refusal_says_what_the_account_needs(api: KubernetesApi) -> None:
    """The token is not shown."""
    (api.account / "token").write_text("of-another")
    async with finder(api) as looking:
        with pytest.raises(LookFailed, match="needs list of endpointslices") as refused:
            await looking.look()
    assert "of-another" not in str(refused.value)


async def test_outside_of_a_cluster_it_fails_in_words(api: KubernetesApi) -> None:
    """Neither variables nor the account are there; or the API server does not answer."""
    account, environment = api.account, api.environment
    for wrong, words in (({}, "no pod of Kubernetes"), ({**environment, "KUBERNETES_SERVICE_PORT": "1"}, "API server")):
        api.environment = wrong
        async with finder(api) as looking:
            with pytest.raises(RouterError, match=words):
                await looking.look()
    api.environment, api.account = environment, account / "nowhere"
    async with finder(api) as looking:
        with pytest.raises(LookFailed, match="No such file"):
            await looking.look()


async def test_discovery_tells_of_a_change_and_ends_the_watch(
    api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without waiting for the interval; no connection is left behind."""
    async with discovery(api, monkeypatch, interval=600) as looking:
        assert [one.name for one in looking.found] == ["ollama-0"]
        api.put("ollama-y", endpoint("10.1.0.2", "ollama-1"))
        await eventually(lambda: [one.name for one in looking.found] == ["ollama-0", "ollama-1"])
    api.end_watches()
    await eventually(lambda: not any("process_request" in one.name for one in threading.enumerate()))
