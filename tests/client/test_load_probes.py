"""A runner that stands still, seen by requests of the program that wait there in vain; a probe of one token decides."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import anyio
import httpx
import pytest
from anyio.lowlevel import checkpoint

from ollama_router_core import AsyncRouterTransport, RouterTransport
from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.config import Config, load_config
from ollama_router_core.fleet.stalls import Wait
from ollama_router_core.testing import OllamaSimulator, Silence, SimulatorThread
from support.waiting import wait_until

NAME = "llama3.1:8b"
MODEL = canonical_name(NAME)
CHAT: Mapping[str, Any] = {"model": NAME, "messages": [{"role": "user", "content": "hi"}], "stream": False}
LONG = 9999.0


@contextmanager
def two_servers(**settings: Any) -> Iterator[tuple[Config, SimulatorThread]]:
    """Servers `one`, which is preferred, and `two` with the model; gives the first."""
    with SimulatorThread(models=[NAME]) as one, SimulatorThread(models=[NAME]) as two:
        servers = {
            name: {"host": "127.0.0.1", "port": server.port, "priority": place}
            for place, (name, server) in enumerate({"one": one, "two": two}.items(), 1)
        }
        yield load_config(json.dumps({"servers": servers, **settings}), env={}), one


def asked_for_one_token(server: SimulatorThread) -> bool:
    """Whether a load probe came."""
    return any(b'"num_predict": 1}' in bytes(one.body) for one in server.simulator.requests_to("/api/generate"))


def is_out(transport: Any) -> bool:
    """Whether the model is out on the first server."""
    return transport._state.fleet.health.models.until("one", MODEL) is not None


def suspect(transport: Any) -> None:
    """Let a request have waited on the first server for hours, and have that asked for news."""
    fleet = transport._state.fleet
    wait = Wait("one", RouteRequest(model=MODEL, model_text=NAME, stream=True), fleet.now() - LONG)
    fleet.state.runners.suspect("one", [wait], fleet.now())
    fleet.measure_soon("one")


def test_a_request_that_waits_in_vain_is_seen(clock: Any) -> None:
    """The next request prompts the poll; those after it go elsewhere, and the model is not out without a reason."""
    with two_servers() as (config, one), ThreadPoolExecutor(1) as pool:
        transport = RouterTransport(config, clock=clock)
        with httpx.Client(transport=transport, base_url="http://router", timeout=60) as client:
            assert client.post("/api/chat", json=CHAT).headers["x-router-server"] == "one"
            clock.now += 1.0
            one.simulator.misbehave(Silence(), path="/api/chat", times=1)
            waits = pool.submit(client.post, "/api/chat", json=CHAT)
            wait_until(lambda: len(one.simulator.requests_to("/api/chat")) == 2, "the request waits on the server")
            assert not is_out(transport)
            clock.now += LONG
            wait_until(lambda: _looks(transport, clock), "the model is out")
            assert client.post("/api/chat", json=CHAT).headers["x-router-server"] == "two"
            assert not asked_for_one_token(one)  # by default
            one.call(OllamaSimulator.drop_connections)
            assert waits.result().status_code == 200


def _looks(transport: RouterTransport, clock: Any) -> bool:
    clock.now += 10.0
    transport.explain(NAME)
    return is_out(transport)


@pytest.mark.parametrize("driver", ["sync", "asyncio", "trio"])
def test_a_runner_that_answers_its_load_probe_is_asked_again(driver: str, clock: Any) -> None:
    """With `load_probe: true` the transport asks for one token, beside the request that prompts it."""
    with two_servers(load_probe=True) as (config, one):
        if driver == "sync":
            _returns(config, clock)
        else:
            anyio.run(_returns_async, config, clock, backend=driver)
        assert asked_for_one_token(one)


def _returns(config: Config, clock: Any) -> None:
    with RouterTransport(config, clock=clock) as transport:
        transport.explain(NAME)
        suspect(transport)
        assert is_out(transport)
        wait_until(lambda: not _looks(transport, clock), "the model is asked for again")


async def _returns_async(config: Config, clock: Any) -> None:
    async with AsyncRouterTransport(config, clock=clock) as transport:
        await transport.explain(NAME)
        suspect(transport)
        assert is_out(transport)
        with anyio.fail_after(20):
            while is_out(transport):
                clock.now += 10.0
                await transport.explain(NAME)
                await checkpoint()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_closing_gives_up_a_load_probe(backend: str, clock: Any) -> None:
    """Its answer may take minutes; nobody waits for it."""
    with two_servers(load_probe=True, health_check_interval=300.0) as (config, one):
        one.simulator.misbehave(Silence(), path="/api/generate")

        async def run() -> None:
            async with AsyncRouterTransport(config, clock=clock) as transport:
                await transport.explain(NAME)
                suspect(transport)
                with anyio.fail_after(20):
                    while not asked_for_one_token(one):
                        clock.now += 10.0
                        await transport.explain(NAME)
                        await checkpoint()

        with_time_limit = threading.Thread(target=anyio.run, args=(run,), kwargs={"backend": backend}, daemon=True)
        with_time_limit.start()
        with_time_limit.join(40)
        assert not with_time_limit.is_alive()


def test_closing_wakes_the_thread_of_a_load_probe(clock: Any) -> None:
    """The synchronous transport leaves no thread behind, and waits for none that waits for a frozen runner."""
    with two_servers(load_probe=True, health_check_interval=300.0) as (config, one):
        one.simulator.misbehave(Silence(), path="/api/generate")
        transport = RouterTransport(config, clock=clock)
        transport.explain(NAME)
        suspect(transport)

        def asked() -> bool:
            _looks(transport, clock)
            return asked_for_one_token(one)

        wait_until(asked, "the probe is on its way")
        closing = threading.Thread(target=transport.close, daemon=True)
        closing.start()
        closing.join(40)
        assert not closing.is_alive()
        assert is_out(transport)
        assert not transport._driver._threads._running
