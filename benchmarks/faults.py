"""Promises under faults, with their numbers: time limits, clients that leave, cut answers, draining.

    python benchmarks/faults.py [--only timeouts,leaving,cuts,draining]

The long versions of `tests/server/faults`: a router process, and in this process scripted servers and raw clients.
Times are wall-clock and include whatever else the machine does. Overload has a program of its own, `overload.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.faulty_ollama import STREAM, chunk, entry, faulty_ollama, length_of, whole
from support.raw_client import RawClient, chat, parsed, request_bytes
from support.router_process import router_process

LINE = b'{"message":{"content":"abc"}}\n'
SET = 0.5


def percentiles(seconds):
    """Median, p99 and the most, in milliseconds."""
    times = sorted(seconds)
    p50, p99 = (times[min(int(len(times) * share), len(times) - 1)] for share in (0.5, 0.99))
    return f"p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, at most {times[-1] * 1000:.1f} ms"


@asynccontextmanager
async def stage(script, *, server=None, **config):
    """A router process over one scripted server."""
    with tempfile.TemporaryDirectory() as folder:
        async with faulty_ollama(script) as one:
            servers = {"one": entry(one, **(server or {}))}
            async with router_process(Path(folder), servers, **config) as router:
                yield router, one


async def ask(router, body=None, **more):
    """One request on a connection of its own: the answer, and the seconds it took."""
    started = time.perf_counter()
    async with RawClient.open(router.port) as client:
        await client.send(request_bytes(router.token, body or chat(), headers={"Connection": "close"}, **more))
        answer = await client.answer()
    return answer, time.perf_counter() - started


async def timeouts():
    """Each limit set to half a second: when it struck."""

    async def silent(peer, head):
        await peer.body(length_of(head))
        await peer.at_eof()
        return False

    async def stalls(peer, head):
        await peer.body(length_of(head))
        await peer.send(STREAM, chunk(LINE))
        await peer.at_eof()
        return False

    for name, script, setting in (("first byte", silent, "request_timeout"), ("silence", stalls, "idle_timeout")):
        async with stage(script, **{setting: SET}) as (router, _):
            seconds = [(await ask(router))[1] for _ in range(20)]
        off = max(abs(one - SET) / SET for one in seconds)
        print(f"row 12, {name} after {SET} s: {min(seconds):.3f} to {max(seconds):.3f} s, at most {off:.1%} off")


async def leaving(count=1000):
    """How long after a client left the server's connection closed."""
    left, gone = {}, {}

    async def endless(peer, head):
        number = int(re.search(rb'"number": (-?\d+)', await peer.body(length_of(head)))[1])
        end = asyncio.ensure_future(peer.at_eof())
        await asyncio.wait([end], timeout=0.05)
        if not end.done():
            await peer.send(STREAM)
        while not end.done():
            await peer.send(chunk(LINE))
            await asyncio.wait([end], timeout=0.02)
        gone[number] = time.perf_counter()
        return False

    async def leave(router, number, rng):
        body = chat(number=number, stream=rng.random() < 0.8)
        async with RawClient.open(router.port) as client:
            await client.send(request_bytes(router.token, body))
            await asyncio.sleep(0.005 + rng.random() * 0.2)
            left[number] = time.perf_counter()
            if rng.random() < 0.5:
                client.reset()

    rng = random.Random(13)
    async with stage(endless) as (router, server):
        await leave(router, -1, rng)
        files = router.files()
        for begin in range(0, count, 20):
            await asyncio.gather(*(leave(router, begin + one, rng) for one in range(20)))
        await asyncio.sleep(1)
        after = router.files()
        reached = [number for number in left if number in gone]
        print(f"row 13, {count} clients left, {len(reached)} of them after the server had the request:", end=" ")
        print(percentiles([max(0.0, gone[number] - left[number]) for number in reached]))
        print(f"  files {files} -> {after}, connections open at the server {server.open}")


async def cuts(count=200):
    """Answers cut anywhere: how many looked complete."""
    rng = random.Random(16)
    bodies = (STREAM + chunk(LINE) * 5 + chunk(b'{"done":true}\n') + chunk(b""), whole(LINE * 5))

    async def cut(peer, head):
        await peer.body(length_of(head))
        data = rng.choice(bodies)
        await peer.send(data[: rng.randrange(len(data))])
        if rng.random() < 0.5:
            peer.reset()
        return False

    async with stage(cut) as (router, _):
        answers = [(await ask(router))[0] for _ in range(count)]
    ended = sum(answer.status == 200 and answer.complete for answer in answers)
    statuses = Counter(answer.status for answer in answers)
    print(f"row 16, {count} cuts: {ended} ended as complete; statuses {dict(statuses)}")


async def draining(count=50, grace=5.0):
    """SIGTERM with streams under way: how many were cut, and when the process had ended."""
    for name, lasting in (("that end within the grace period", 2.0), ("that do not", 60.0)):
        ending = asyncio.Event()

        async def streams(peer, head, *, ending=ending):
            await peer.body(length_of(head))
            await peer.send(STREAM)
            while not ending.is_set():
                await peer.send(chunk(LINE))
                await asyncio.sleep(0.02)
            await peer.send(chunk(b'{"done":true}\n'), chunk(b""))

        async with stage(streams, limits={"shutdown_grace": grace}) as (router, _), AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(RawClient.open(router.port)) for _ in range(count)]
            for client in clients:
                await client.send(request_bytes(router.token, chat()))
                await client.until(LINE)
            began = time.perf_counter()
            router.process.send_signal(signal.SIGTERM)
            asyncio.get_running_loop().call_later(lasting, ending.set)
            answers = [parsed(await client.to_end()) for client in clients]
            await router.process.wait()
            seconds = time.perf_counter() - began
            whole_ones = sum(answer.complete for answer in answers)
            print(f"row 20, {count} streams {name} ({grace:g} s): {whole_ones} complete, ended after {seconds:.1f} s")


PARTS = {"timeouts": timeouts, "leaving": leaving, "cuts": cuts, "draining": draining}


def main():
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--only", default=",".join(PARTS))
    for name in asked.parse_args().only.split(","):
        asyncio.run(PARTS[name]())


if __name__ == "__main__":
    main()
