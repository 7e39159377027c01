"""`orouter top`: what a running router does at the moment."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from rich.console import Console

from ollama_router_cli.commands.top import _Look, _screen
from ollama_router_core.testing import Answer, OllamaSimulator, model
from support.eventually import eventually
from support.router import RunningRouter, running_router, server_entry
from support.warm_orouter import run_warm

pytestmark = pytest.mark.anyio

CHAT = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
async def sim() -> AsyncIterator[OllamaSimulator]:
    """A server that answers until its client leaves."""
    async with OllamaSimulator(models=[model("llama3.1:8b", decode_speed=50.0)], answer_tokens=100_000) as sim:
        sim.time_scale, sim.load_speed = 1.0, 1e13
        yield sim


async def orouter(*arguments: str, token: str, command: str = "top") -> tuple[int | None, str, str]:
    """The command's exit code and what it wrote."""
    environment = {**os.environ, "OROUTER_TOKEN": token, "NO_COLOR": "1"}
    done = await asyncio.to_thread(run_warm, command, *arguments, environment=environment)
    return done.code, done.stdout, done.stderr


async def test_a_stream_a_server_and_its_model_are_shown(sim: OllamaSimulator, tmp_path: Path) -> None:
    """While one answer streams and another request waits for the only slot."""
    servers = {"one": {**server_entry(sim), "max_concurrent": 1}}
    async with (
        running_router(tmp_path, servers) as router,
        router.client() as alice,
        alice.stream("POST", "/api/chat", json=CHAT) as answer,
        anyio.create_task_group() as tasks,
    ):
        pieces = answer.aiter_raw()  # without a name it would be closed, and the answer with it
        await anext(pieces)
        tasks.start_soon(_ask_and_leave, router)
        await eventually(lambda: router.services.admission.waiting == 1)
        code, out, err = await orouter("--url", router.url, token=router.admin_token)
        status = json.loads((await orouter("--url", router.url, "--json", token=router.admin_token))[1])
        tasks.cancel_scope.cancel()
    assert (code, err) == (0, "")
    head, *lines = out.splitlines()
    assert "1 on servers" in head
    assert "1 waiting" in head
    (server,) = (line.split() for line in lines if line.startswith("one "))
    assert server[1:4] == ["up", "1", "llama3.1:8b"]
    shown = sorted(line.split()[:4] for line in lines if line.startswith("alice"))
    assert shown == [["alice", "llama3.1:8b", "-", "waiting"], ["alice", "llama3.1:8b", "one", "answering"]]
    assert [row["state"] for row in status["active_requests"]] == ["answering", "waiting"]


async def test_what_is_wrong_is_said(sim: OllamaSimulator, tmp_path: Path) -> None:
    """A model that a server could not load, in its words, and a server that is away: by `top` and by `status`."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as two,
        running_router(
            tmp_path, {"one": server_entry(sim), "two": server_entry(two, priority=2), "away": _AWAY}
        ) as router,
        router.client() as alice,
    ):
        sim.misbehave(Answer(status=500, body=b'{"error":"llama runner process has terminated"}'), path="/api/chat")
        answer = await alice.post("/api/chat", json={**CHAT, "stream": False})
        _, top, _ = await orouter("--url", router.url, token=router.admin_token)
        config = tmp_path / "orouter.yml"
        entries = {"one": server_entry(sim), "two": server_entry(two)}
        config.write_text(json.dumps({"proxy_port": router.port, "servers": entries}))
        _, status, error = await orouter("--config", str(config), token=router.admin_token, command="status")
    assert answer.headers["x-router-server"] == "two"
    for text in (top, status):
        assert "1 of 3 servers are down: away" in text, error
        assert "llama runner process has terminated" in text, error


_AWAY = {"host": "127.0.0.1", "port": 9}


async def _ask_and_leave(router: RunningRouter) -> None:
    async with router.client() as alice:
        with suppress(httpx.HTTPError):
            await alice.post("/api/chat", json={**CHAT, "stream": False})


@pytest.mark.parametrize(
    ("whose", "said"),
    [
        ("alice", "an admin or a viewer"),
        ("nobody", "rejected the token"),
        ("elsewhere", "another program, not the router"),
    ],
)
async def test_who_may_not_look_is_told_why(sim: OllamaSimulator, tmp_path: Path, whose: str, said: str) -> None:
    """Exit code 1 and one line."""
    async with running_router(tmp_path, {"one": server_entry(sim)}) as router:
        token = {"alice": router.token, "nobody": "wrong", "elsewhere": router.admin_token}[whose]
        url = sim.url if whose == "elsewhere" else router.url
        code, out, err = await orouter("--url", url, token=token)
    assert (code, out) == (1, "")
    assert said in err
    assert token not in err


async def test_on_a_terminal_it_goes_on_until_it_is_interrupted(sim: OllamaSimulator, tmp_path: Path) -> None:
    """It draws again, and gives the screen back at Ctrl-C."""
    async with running_router(tmp_path, {"one": server_entry(sim)}) as router:
        main, terminal = pty.openpty()
        environment: dict[str, Any] = {**os.environ, "OROUTER_TOKEN": router.admin_token, "TERM": "xterm"}
        command = [sys.executable, "-m", "ollama_router_cli", "top", "--url", router.url, "--interval", "0.1"]
        process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            command, env=environment, stdin=terminal, stdout=terminal, stderr=terminal
        )
        os.close(terminal)
        drawn = bytearray()

        def read() -> bool:
            drawn.extend(os.read(main, 65_536))
            return drawn.count(b"waiting") >= 3

        while not await anyio.to_thread.run_sync(read):
            pass
        process.send_signal(2)
        with suppress(OSError):
            while chunk := await anyio.to_thread.run_sync(os.read, main, 65_536):
                drawn.extend(chunk)
        assert await anyio.to_thread.run_sync(process.wait, 20) == 0
        os.close(main)
    assert b"\x1b[?1049h" in drawn
    assert b"\x1b[?1049l" in drawn


def a_server(name: str, *, up: bool | None = True, draining: bool = False, models: tuple[str, ...] = ()) -> Any:
    """A server as `/router/status` tells of it."""
    return name, {
        "in_flight": 0, "up": up, "draining": draining, "breaker": "closed", "version": "0.33.3", "error": None,
        "loaded": [{"model": one, "bytes": 0} for one in models], "loading": [], "tried_again_in_seconds": None,
        "suspended_models": {},
    }  # fmt: skip


def drawn(look: _Look, height: int = 40, *, width: int = 120, problem: str = "a server does not answer") -> list[str]:
    """The screen over 200 servers, two of which need attention."""
    servers = dict(a_server(f"gpu-{number:03}", models=(f"m{number % 5}:8b",)) for number in range(198))
    servers |= dict([a_server("zz-down", up=False), a_server("zz-leaving", draining=True)])
    status = {
        "servers": servers, "problems": [problem], "active_requests": [], "waiting": 0,
        "request_log": {"pending": 0, "dropped": 0}, "worker": {"index": 0, "count": 1},
    }  # fmt: skip
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=False)
    with console.capture() as capture:
        console.print(_screen("http://router", status, look, height))
    return capture.get().splitlines()


def test_of_many_servers_those_that_need_attention_come_first_and_all_fit() -> None:
    """A screen is never longer than the terminal, wherever it was scrolled to."""
    look = _Look()
    lines = drawn(look)
    names = [line.split()[0] for line in lines if line.startswith(("gpu-", "zz-"))]
    assert names[:3] == ["zz-down", "zz-leaving", "gpu-000"]
    assert len(lines) <= 40
    assert "of 200; arrows scroll" in "".join(lines)
    for key in ("page down",) * 20:
        assert look.press(key, 30)
    lines = drawn(look)
    assert any(line.startswith("gpu-197") for line in lines)
    assert len(lines) <= 40


def test_a_narrow_terminal_cuts_lines_and_keeps_every_part() -> None:
    """A list of what is down, the names of many models: each stays on its line, and requests stay on the screen."""
    long = "200 of 200 servers are down: " + ", ".join(f"gpu-{number:03}" for number in range(200))
    lines = drawn(_Look(), 24, width=60, problem=long)
    assert len(lines) <= 24
    assert any(line.startswith("user") for line in lines)
    assert sum("servers are down" in line for line in lines) == 1


def test_a_filter_is_typed() -> None:
    """By name or by model; Escape shows all again, q ends unless it is typed into the filter."""
    look = _Look()
    for key in ("/", "q", "backspace", "m", "3", "enter"):
        assert look.press(key, 30)
    lines = drawn(look)
    assert "39 servers match" in "".join(lines)
    look.press("escape", 30)
    assert "of 200" in "".join(drawn(look))
    assert not look.press("q", 30)
