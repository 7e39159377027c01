"""The client-side router beside a bare httpx client: cost of a request, cost of an import, a minute of cancelling.

    python benchmarks/client.py [overhead|churn|imports] [--seconds 60]

Overhead is the median of paired runs over an inner transport in memory, so that no socket's noise is in it. Times are
the process's own: what other processes do beside it still shows in its caches, so compare the ratio on a busy machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from ollama_router_core import AsyncRouterTransport, RouterTransport
from ollama_router_core.testing import FakeFleet, SimulatorThread

CHAT = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hi"}], "stream": False}


class Canned:
    """An inner transport that costs as little as possible: chats get one canned answer, the rest a fake fleet's."""

    def __init__(self) -> None:
        self.fleet = FakeFleet({"a": ["llama3.1:8b"], "b": ["qwen3:8b"]})
        self.content = b'{"model":"llama3.1:8b","message":{"role":"assistant","content":"Hi"},"done":true}'

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer at once."""
        if request.url.path != "/api/chat" or not self.fleet.requests:
            return self.fleet.handle_request(request)
        fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(self.content))]
        return httpx.Response(200, headers=fields, stream=httpx.ByteStream(self.content))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer at once."""
        return self.handle_request(request)

    def close(self) -> None:
        """Nothing to close."""

    async def aclose(self) -> None:
        """Nothing to close."""


def _times(client: httpx.Client, count: int) -> list[float]:
    times = []
    for _ in range(count):
        start = time.process_time()
        answer = client.post("http://a:11434/api/chat", json=CHAT)
        times.append((time.process_time() - start) * 1e6)
        assert answer.status_code == 200
    return times


async def _async_times(client: httpx.AsyncClient, count: int) -> list[float]:
    times = []
    for _ in range(count):
        start = time.process_time()
        answer = await client.post("http://a:11434/api/chat", json=CHAT)
        times.append((time.process_time() - start) * 1e6)
        assert answer.status_code == 200
    return times


def overhead(rounds: int = 15, count: int = 400) -> None:
    """Print the median of a bare request, of a routed one and of the difference between neighbouring runs."""
    config = Canned().fleet.config
    bare = httpx.Client(transport=Canned())  # type: ignore[arg-type]
    routed = httpx.Client(transport=RouterTransport(config, inner=Canned()))
    pairs = [(_median(bare, count), _median(routed, count)) for _ in range(rounds + 1)]
    _print("sync", pairs[1:])
    routed.close()
    _print("async", asyncio.run(_async_pairs(config, rounds, count)))


def _median(client: httpx.Client, count: int) -> float:
    return statistics.median(_times(client, count))


async def _async_pairs(config: Any, rounds: int, count: int) -> list[tuple[float, float]]:
    bare = httpx.AsyncClient(transport=Canned())  # type: ignore[arg-type]
    routed = httpx.AsyncClient(transport=AsyncRouterTransport(config, inner=Canned()))
    pairs = []
    for _ in range(rounds + 1):
        plain = statistics.median(await _async_times(bare, count))
        pairs.append((plain, statistics.median(await _async_times(routed, count))))
    await routed.aclose()
    return pairs[1:]


def _print(name: str, pairs: list[tuple[float, float]]) -> None:
    bare = statistics.median(pair[0] for pair in pairs)
    routed = statistics.median(pair[1] for pair in pairs)
    extra = statistics.median(pair[1] - pair[0] for pair in pairs)
    ratio = statistics.median(pair[1] / pair[0] for pair in pairs)
    print(
        f"{name:6} bare {bare:6.1f} us   routed {routed:6.1f} us   overhead {extra:6.1f} us   ratio {ratio:4.2f}"
        f"   (medians of {len(pairs)})"
    )


def imports(runs: int = 9) -> None:
    """Print the least time of an import in a fresh interpreter, and that of what it depends on."""
    dependencies = (
        "import anyio, msgspec, pydantic, yaml\nclass Model(pydantic.BaseModel): a: int = pydantic.Field(default=1)"
    )
    both = "from ollama_router_core import AsyncRouterTransport, RouterTransport"
    for name, code in {
        "dependencies": dependencies,
        "ollama_router_core": "import ollama_router_core",
        "sync transport": "from ollama_router_core import RouterTransport",
        "both transports": both,
        "both, after dependencies": f"{dependencies}\na=t()\n{both}",
    }.items():
        script = f"from time import process_time as t\na=t()\n{code}\nprint((t()-a)*1000)"
        found = [
            float(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout)
            for _ in range(runs)
        ]
        print(f"{name:28} {min(found):7.1f} ms least, {statistics.median(found):7.1f} ms median of {runs}")


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def _churn(url: str, seconds: float, transport: Any) -> None:
    done = cancelled = failed = 0
    end = time.monotonic() + seconds

    async def worker(client: httpx.AsyncClient, number: int) -> None:
        nonlocal done, cancelled, failed
        turn = number
        while time.monotonic() < end:
            turn += 1
            try:
                async with asyncio.timeout(0.002 * (turn * 7 % 80)):
                    await client.post(f"{url}/api/chat", json={**CHAT, "stream": bool(turn % 2)})
                    done += 1
            except TimeoutError:
                cancelled += 1
            except httpx.HTTPError:
                failed += 1

    async with httpx.AsyncClient(transport=transport, timeout=10) as client:
        await asyncio.gather(*(worker(client, number) for number in range(20)))
        usable = 0
        for _ in range(5):
            with contextlib.suppress(httpx.HTTPError):
                usable += (await client.post(f"{url}/api/chat", json=CHAT)).status_code == 200
        gc.collect()
        files = _open_files()
    print(
        f"  done {done}, cancelled {cancelled}, failed {failed}; afterwards {usable} of 5 succeed, {files} files open"
    )


def churn(seconds: float) -> None:
    """Twenty tasks that cancel at any moment, over the router's transport and over httpx's own pool."""
    with SimulatorThread(models=["llama3.1:8b"], answer_tokens=4, time_scale=0.01) as server:
        print(f"router's transport, {seconds:g} s")
        asyncio.run(_churn(server.url, seconds, AsyncRouterTransport.from_urls([server.url])))
    short = min(seconds, 10.0)
    with SimulatorThread(models=["llama3.1:8b"], answer_tokens=4, time_scale=0.01) as server:
        print(f"httpx {httpx.__version__}'s own pool of 10 connections, {short:g} s")
        asyncio.run(_churn(server.url, short, httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=10))))


def main() -> None:
    """Run what is asked for, or everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["overhead", "churn", "imports"])
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    if options.what in {None, "overhead"}:
        overhead()
    if options.what in {None, "imports"}:
        imports()
    if options.what in {None, "churn"}:
        churn(options.seconds)


if __name__ == "__main__":
    main()
