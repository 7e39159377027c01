"""Hostile inputs against a running router: how long a neighbour's `/livez` pauses meanwhile, and what came of them.

    python benchmarks/hostile.py [--only forms,zstd]

The router is a process of its own, the servers are in this one, `/livez` is asked by a third, all over loopback. Each
row is an async function with the decorator `row`; it gets a `Stage` and returns what was counted, in words.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from ollama_router_core.testing import Answer, OllamaSimulator, model
from support.raw_client import RawClient
from support.router import server_entry
from support.router_process import RouterProcess, router_process

GOAL = 0.050
MODEL = "llama3.1:8b"
EMPTY_FRAME = bytes.fromhex("28b52ffd2000010000")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A router over one server, and the external host `paid` that is the same simulator and has the model `gpt-4`."""

    router: RouterProcess
    server: OllamaSimulator

    def client(self) -> httpx.AsyncClient:
        """A client that is the user alice."""
        headers = {"authorization": f"Bearer {self.router.token}"}
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.router.port}", headers=headers, timeout=300, trust_env=False
        )


Row = Callable[[Stage], Awaitable[str]]
ROWS: dict[str, Row] = {}


def row(name: str) -> Callable[[Row], Row]:
    """Register a row under a short name."""

    def register(function: Row) -> Row:
        ROWS[name] = function
        return function

    return register


@row("forms")
async def forms(stage: Stage) -> str:
    """A form field of 8,000 blanks and a control character."""
    body = b"--XX\r\nX:" + b" " * 8000 + b"\x01\r\n\r\n\r\n--XX--\r\n"
    async with stage.client() as client:
        answer = await client.post(
            "/v1/audio/transcriptions", content=body, headers={"content-type": "multipart/form-data; boundary=XX"}
        )
    return f"answered {answer.status_code}"


@row("zstd")
async def zstd(stage: Stage) -> str:
    """1.5 MB of empty frames."""
    async with stage.client() as client:
        answer = await client.post(
            "/v1/chat/completions", content=EMPTY_FRAME * 166_000, headers={"content-encoding": "zstd"}
        )
    return f"answered {answer.status_code}"


@row("rows")
async def rows(stage: Stage) -> str:
    """120,000 models of one digest on a server."""
    listed = b",".join(b'{"name":"m%d:1b","digest":"d"}' % number for number in range(120_000))
    return await _lists(stage, "/api/tags", b'{"models":[' + listed + b"]}")


@row("most-rows")
async def most_rows(stage: Stage) -> str:
    """As many models of one digest as are believed, 2,000."""
    listed = b",".join(b'{"name":"m%d:1b","digest":"d"}' % number for number in range(2000))
    return await _lists(stage, "/api/tags", b'{"models":[' + listed + b"]}")


@row("version")
async def version(stage: Stage) -> str:
    """A version of 60 MB."""
    return await _lists(stage, "/api/version", b'{"version":"' + b"1" * 60_000_000 + b'"}')


async def _lists(stage: Stage, path: str, body: bytes) -> str:
    stage.server.misbehave(Answer(status=200, body=body), path=path)
    before = len(stage.server.requests_to("/api/version"))
    async with stage.client() as client:
        while len(stage.server.requests_to("/api/version")) < before + 3:  # noqa: ASYNC110 - nothing announces a request
            await asyncio.sleep(0.1)
        answers = [(await client.get(each)).status_code for each in ("/api/tags", "/api/version", "/v1/models")]
    return f"/api/tags, /api/version, /v1/models answered {answers}"


@row("keys")
async def keys(stage: Stage) -> str:
    """A request of 14 MB with a million keys."""
    members = ",".join(f'"{number}":1' for number in range(1_000_000))
    body = f'{{"model":"{MODEL}","stream":false,"messages":[],"options":{{{members}}}}}'
    async with stage.client() as client:
        answer = await client.post("/api/chat", content=body)
    return f"{len(body) / 1e6:.0f} MB, answered {answer.status_code}"


@row("translated")
async def translated(stage: Stage) -> str:
    """A whole answer of 60 MB from an external host, translated."""
    part = json.dumps({"type": "text", "text": "x" * 40})
    text = ",".join([part] * 1_000_000)
    stage.server.misbehave(
        Answer(status=200, body=f'{{"choices":[{{"message":{{"content":[{text}]}}}}]}}'.encode()),
        path="/v1/chat/completions",
    )
    chat = {"model": "gpt-4", "messages": [{"role": "user", "content": "hi"}], "stream": False}
    async with stage.client() as client:
        answer = await client.post("/api/chat", json=chat)
    return f"answered {answer.status_code}"


@row("unfinished")
async def unfinished(stage: Stage) -> str:
    """Twenty bodies of 31 MB from one user, none of which is ever finished."""
    before = stage.router.rss()
    head = (
        b"POST /api/chat HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 31000001\r\n\r\n"
        % stage.router.token.encode()
    )

    async def send() -> None:
        async with RawClient.open(stage.router.port) as client:
            try:
                await client.send(head + b"x" * 31_000_000)
                await asyncio.sleep(1)
            except OSError:
                return

    most = before

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, stage.router.rss())
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(send() for _ in range(20)))
    watching.cancel()
    return f"{(most - before) / 1e6:.0f} MB more held"


# --- measuring --------------------------------------------------------------------------------------------------------


def neighbour(port: int, ready: Any, stop: Any, out: Any) -> None:
    """Ask `/livez` every few ms; put the longest time an answer took."""
    longest, count = 0.0, 0
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300, trust_env=False) as client:
        client.get("/livez")
        ready.set()
        while not stop.is_set():
            started = time.perf_counter()
            client.get("/livez")
            longest = max(longest, time.perf_counter() - started)
            count += 1
            time.sleep(0.002)
    out.put((longest, count))


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """A fresh router and server for each row."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PAID_KEY"] = "sk-paid-key"
        async with OllamaSimulator(models=[model(MODEL)]) as server:
            paid = server_entry(server, protocol="http", api="openai", models={"gpt-4": MODEL}, api_key_env="PAID_KEY")
            async with router_process(
                Path(folder),
                {"one": server_entry(server)},
                external_hosts={"paid": paid},
                model_config={"explicit_assignments": {"gpt-4": "paid"}, "cache_model_info": False},
                health_check_interval=0.5,
            ) as router:
                yield Stage(router=router, server=server)


async def measured(name: str) -> tuple[float, str]:
    """The longest pause, and what the row counted."""
    context = multiprocessing.get_context("spawn")
    ready, stop, out = context.Event(), context.Event(), context.Queue()
    async with stage() as here:
        asker = context.Process(target=neighbour, args=(here.router.port, ready, stop, out))
        asker.start()
        await asyncio.to_thread(ready.wait)
        counted = await ROWS[name](here)
        stop.set()
        longest, _ = await asyncio.to_thread(out.get)
        await asyncio.to_thread(asker.join)
    return longest, counted


async def main() -> None:
    """Run the rows and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(ROWS))
    chosen = parser.parse_args().only.split(",")
    for name in chosen:
        longest, counted = await measured(name)
        mark = "" if longest < GOAL else "  (goal 50 ms)"
        print(f"{name:12} longest pause {longest * 1000:7.1f} ms{mark}; {counted}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
