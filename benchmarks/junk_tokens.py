"""What 10,000 junk tokens cost: bcrypt calls, and the latency of `/livez` meanwhile.

    python benchmarks/junk_tokens.py [--tokens 10000]

The router runs in this process, whoever sends junk and whoever asks `/livez` in two others.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import random
import string
import tempfile
import time
from pathlib import Path
from typing import Any

import uvicorn

from ollama_router_core.access.tokens import mint_token
from ollama_router_core.config import load_config
from ollama_router_server.app import create_app
from ollama_router_server.process.listening import listen
from ollama_router_server.services import Services

BASE62 = string.ascii_letters + string.digits


def junk(number: int, chance: random.Random) -> bytes:
    """A token of nobody: well-formed, with a wrong checksum, too long, an injection, not ASCII."""
    kinds = (
        lambda: mint_token(chance.randrange).reveal(),
        lambda: "".join(chance.choices(BASE62, k=32)),
        lambda: "a" * 100,
        lambda: "' OR 1=1 --",
        lambda: "\xe9" * 32,
    )
    return kinds[number % len(kinds)]().encode("latin-1")


async def _request(reader: Any, writer: Any, head: bytes) -> int:
    writer.write(head)
    status = int((await reader.readline()).split()[1])
    length = 0
    while (line := await reader.readline()) != b"\r\n":
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    await reader.readexactly(length)
    return status


async def _send_junk(port: int, tokens: int) -> None:
    chance = random.Random(port)
    numbers = iter(range(tokens))

    async def one_client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            head = b"GET /api/tags HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n" % junk(number, chance)
            assert await _request(reader, writer, head) == 401
        writer.close()

    await asyncio.gather(*(one_client() for _ in range(8)))


async def _ask_livez(port: int, done: Any, out: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    times = []
    while not done.is_set():
        started = time.perf_counter()
        assert await _request(reader, writer, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n") == 200
        times.append(time.perf_counter() - started)
        await asyncio.sleep(0.005)
    writer.close()
    out.put(sorted(times))


def _junk_process(port: int, tokens: int, done: Any) -> None:
    asyncio.run(_send_junk(port, tokens))
    done.set()


def _livez_process(port: int, done: Any, out: Any) -> None:
    asyncio.run(_ask_livez(port, done, out))


async def main() -> None:
    """Serve, attack, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=10_000)
    tokens = parser.parse_args().tokens
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder, 'router.sqlite3')}"
        config = load_config('{"servers": {"gone": {"host": "127.0.0.1", "port": 9}}}')
        services = Services(config, {"OROUTER_DATABASE_URL": url})
        await services.prepare()
        sock = listen("127.0.0.1", 0)
        server = uvicorn.Server(uvicorn.Config(create_app(services), access_log=False, log_config=None, lifespan="on"))
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        port, done, out = sock.getsockname()[1], context.Event(), context.Queue()
        started = time.perf_counter()
        attack = context.Process(target=_junk_process, args=(port, tokens, done))
        asking = context.Process(target=_livez_process, args=(port, done, out))
        asking.start()
        attack.start()
        times = await asyncio.to_thread(out.get)
        spent = time.perf_counter() - started
        attack.join()
        asking.join()
        server.should_exit = True
        await serving
    p50, p99 = (times[int(len(times) * share)] * 1000 for share in (0.5, 0.99))
    print(f"{tokens:,} junk tokens in {spent:.1f} s: {services.authenticator.verifications} bcrypt calls")
    print(f"/livez meanwhile: p50 {p50:.1f} ms, p99 {p99:.1f} ms, {len(times)} requests")


if __name__ == "__main__":
    asyncio.run(main())
