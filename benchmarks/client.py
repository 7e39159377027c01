"""The client-side router beside a bare httpx client: cost of a request, cost of an import, a minute of cancelling.

    python benchmarks/client.py [overhead|churn|imports] [--seconds 60]

Overhead is what a request costs more through `RouterTransport()` than through httpx's own transport: a whole small
`/api/chat` over loopback to a server in another process that answers at once, four servers that all have the model.
Bare and routed requests take turns, and times are the process's own; what other processes do still shows in its caches,
so compare the ratio. The goal is a ratio of at most 2.0.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx

from ollama_router_core import AsyncRouterTransport, RouterTransport
from ollama_router_core.config import Config
from ollama_router_core.testing import FakeFleet, SimulatorThread

MODEL = "llama3.1:8b"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": False}
ANSWER = json.dumps({
    "model": MODEL, "created_at": "2025-01-01T00:00:00Z", "message": {"role": "assistant", "content": "Hi"},
    "done_reason": "stop", "done": True, "total_duration": 9_000_000, "load_duration": 1000, "prompt_eval_count": 26,
    "prompt_eval_duration": 2_000_000, "eval_count": 12, "eval_duration": 7_000_000,
}).encode()  # fmt: skip
STRATEGIES = ("priority_with_memory", "fastest")
SERVERS = "abcd"
Pairs = list[tuple[float, float]]


def overhead(rounds: int = 9, count: int = 300) -> None:
    """Print the median of a bare request, of a routed one, and what both say of each other."""
    with _canned_server() as ports:
        for strategy in STRATEGIES:
            servers = {name: {"host": "127.0.0.1", "port": port} for name, port in zip(SERVERS, ports, strict=True)}
            config = Config.model_validate({"servers": servers, "routing_strategy": strategy})
            _compare(strategy, f"http://127.0.0.1:{ports[0]}", partial(_over_sockets, config), rounds, count)


def _over_sockets(config: Config, kind: str) -> tuple[Any, Any]:
    if kind == "sync":
        return httpx.HTTPTransport(trust_env=False), RouterTransport(config)
    return httpx.AsyncHTTPTransport(trust_env=False), AsyncRouterTransport(config)


def _compare(name: str, url: str, make: Callable[[str], tuple[Any, Any]], rounds: int, count: int) -> None:
    for kind in ("sync", "asyncio", "trio"):
        if kind == "trio" and importlib.util.find_spec(kind) is None:
            continue
        bare, routed = make(kind)
        if kind == "sync":
            pairs = _pairs(bare, routed, url, rounds, count)
        else:
            pairs = anyio.run(_async_pairs, bare, routed, url, rounds, count, backend=kind)
        _print(f"{name}, {kind}", pairs[1:])


def _pairs(bare: Any, routed: Any, url: str, rounds: int, count: int) -> Pairs:
    with httpx.Client(transport=bare, timeout=10) as one, httpx.Client(transport=routed, timeout=10) as other:
        return [_medians(one, other, url, count) for _ in range(rounds + 1)]


def _medians(one: httpx.Client, other: httpx.Client, url: str, count: int) -> tuple[float, float]:
    """Ask in turn, so that whatever slows the machine slows both."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(count):
        for client, taken in zip((one, other), times, strict=True):
            start = time.process_time()
            answer = client.post(f"{url}/api/chat", json=CHAT)
            taken.append((time.process_time() - start) * 1e6)
            assert answer.status_code == 200
    return statistics.median(times[0]), statistics.median(times[1])


async def _async_pairs(bare: Any, routed: Any, url: str, rounds: int, count: int) -> Pairs:
    async with (
        httpx.AsyncClient(transport=bare, timeout=10) as one,
        httpx.AsyncClient(transport=routed, timeout=10) as other,
    ):
        return [await _async_medians(one, other, url, count) for _ in range(rounds + 1)]


async def _async_medians(one: httpx.AsyncClient, other: httpx.AsyncClient, url: str, count: int) -> tuple[float, float]:
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(count):
        for client, taken in zip((one, other), times, strict=True):
            start = time.process_time()
            answer = await client.post(f"{url}/api/chat", json=CHAT)
            taken.append((time.process_time() - start) * 1e6)
            assert answer.status_code == 200
    return statistics.median(times[0]), statistics.median(times[1])


def _print(name: str, pairs: Pairs) -> None:
    bare, routed = (statistics.median(pair[place] for pair in pairs) for place in (0, 1))
    extra = statistics.median(pair[1] - pair[0] for pair in pairs)
    ratio = statistics.median(pair[1] / pair[0] for pair in pairs)
    print(
        f"{name:32} bare {bare:6.1f} us   routed {routed:6.1f} us   overhead {extra:6.1f} us   ratio {ratio:4.2f}"
        f"   ({len(pairs)} runs)",
        flush=True,
    )


@contextlib.contextmanager
def _canned_server() -> Iterator[list[int]]:
    command = [sys.executable, __file__, "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


class _CannedServer(asyncio.Protocol):
    """Answers every chat with the canned answer and every question about the server as a fake fleet does."""

    def __init__(self, fleet: FakeFleet, name: str) -> None:
        self._fleet = fleet
        self._name = name
        self._held = b""

    def connection_made(self, transport: Any) -> None:
        """A client has come."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer when a whole request is there."""
        self._held += data
        head, end, body = self._held.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        if not end or len(body) < length:
            return
        self._held = b""
        method, path, _ = head.split(b" ", 2)
        content = ANSWER
        if path != b"/api/chat" or not self._fleet.requests:
            request = httpx.Request(method.decode(), f"http://{self._name}{path.decode()}", content=body)
            content = self._fleet.handle_request(request).content
        fields = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(content)
        self._transport.write(b"HTTP/1.1 200 OK\r\n" + fields + content)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    fleet = FakeFleet({name: [MODEL, "qwen3:8b"] for name in SERVERS})
    servers = [await loop.create_server(partial(_CannedServer, fleet, name), "127.0.0.1", 0) for name in SERVERS]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    await asyncio.Event().wait()


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
    parser.add_argument("what", nargs="?", choices=["overhead", "churn", "imports", "serve"])
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    if options.what in {None, "overhead"}:
        overhead()
    if options.what == "serve":
        asyncio.run(_serve())
    if options.what in {None, "imports"}:
        imports()
    if options.what in {None, "churn"}:
        churn(options.seconds)


if __name__ == "__main__":
    main()
