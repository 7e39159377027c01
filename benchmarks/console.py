"""What looking costs: requests a processor second with the console off, with nobody watching, with watchers.

    python benchmarks/console.py [--watchers 5] [--rounds 5] [--seconds 4] [--alike]

Two routers, one without a console, are loaded in turns. With `--alike` a third one without a console takes the place
of the watchers: by how much two of a kind differ is what a ratio may be wrong by. A watcher does what the page Now
does: it reads the stream of changes and fetches its part when that is named. Requests are counted for each second of
the router's own processor time, so that neighbours on the machine do not count. The three are measured in another
order each round; a ratio is of one round, and told are the median, the least and the most of the rounds. Then `/livez`
is asked a thousand times beside watchers. Linux only; needs wrk.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import httpx
from soak import per_cpu_second, running

OURS = {"x-console": "1"}


def admin_of(router):
    """The token of a new admin."""
    environment = {**os.environ, "OROUTER_DATABASE_URL": f"sqlite:///{router.folder}/router.sqlite3"}
    config = str(router.folder / "orouter.yml")
    create = [
        sys.executable,
        "-m",
        "ollama_router_cli",
        "--config",
        config,
        "users",
        "create",
        "root",
        "--role",
        "admin",
    ]
    made = subprocess.run(create, env=environment, check=True, capture_output=True, text=True)
    return re.search(r"\b[0-9A-Za-z]{32}\b", made.stdout)[0]


def sessions(router, token, count=2):
    """Cookies of sessions, each of which may watch four times; the token is younger than what the router knows."""
    time.sleep(1)
    with httpx.Client(base_url=f"http://127.0.0.1:{router.port}", headers=OURS, trust_env=False) as client:
        answers = [client.post("/console/session", json={"token": token}).raise_for_status() for _ in range(count)]
    return [answer.headers["set-cookie"].partition(";")[0] for answer in answers]


async def watch(url, cookie, told):
    """One tab that shows Now; `told` gets the size of each part that it fetched."""
    headers = {**OURS, "cookie": cookie}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=60) as client:
        tag = ""
        async with client.stream("GET", "/console/events", params={"topics": "now"}) as events:
            async for line in events.aiter_lines():
                if line.startswith("data: ") and json.loads(line[6:]):
                    part = await client.get("/console/now", headers={"if-none-match": tag})
                    tag = part.headers.get("etag", "")
                    told.append(part.num_bytes_downloaded)


@contextlib.contextmanager
def watching(router, cookies, count, told):
    """So many tabs, in a thread of their own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{router.port}"
    tabs = [asyncio.run_coroutine_threadsafe(watch(url, cookies[number % 2], told), loop) for number in range(count)]
    try:
        deadline = time.monotonic() + 30
        while watchers_of(router) < count and time.monotonic() < deadline:
            time.sleep(0.1)
        yield
    finally:
        for tab in tabs:
            tab.cancel()
        time.sleep(0.5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def watchers_of(router):
    """Streams that are open."""
    with urllib.request.urlopen(f"http://127.0.0.1:{router.port}/metrics") as answer:
        found = re.search(r"^orouter_console_watchers (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def livez(router, times=1_000):
    """Its p99 in milliseconds."""
    with httpx.Client(base_url=f"http://127.0.0.1:{router.port}", trust_env=False) as client:
        took = sorted(client.get("/livez").elapsed.total_seconds() for _ in range(times))
    return took[int(times * 0.99)] * 1000


def ratio(new, old):
    """The median of the rounds' ratios, with the least and the most."""
    found = sorted(one / other for one, other in zip(new, old, strict=True))
    return f"{statistics.median(found):.3f} ({found[0]:.3f} to {found[-1]:.3f})"


def alike(options):
    """Two without a console and one with, in turns, each as often first as the others."""
    off = "console: {enabled: false}\n"
    speeds = {"off": [], "off too": [], "nobody": []}
    with running(off) as one, running(off) as other, running() as on:
        routers = dict(zip(speeds, (one, other, on), strict=True))
        for router in routers.values():
            per_cpu_second(router, 2)
        for number in range(options.rounds):
            for name in [*speeds][number % 3 :] + [*speeds][: number % 3]:
                speeds[name].append(per_cpu_second(routers[name], options.seconds)[0])
    print(f"one without a console, of another without: {ratio(speeds['off too'], speeds['off'])}")
    print(f"nobody watches, of console off: {ratio(speeds['nobody'], speeds['off'])}")
    means = {name: statistics.mean(found) for name, found in speeds.items()}
    told = ", ".join(f"{name} {value / means['off']:.4f}" for name, value in means.items())
    print(f"means of {options.rounds} rounds, of the first: {told}")


def main():
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--watchers", type=int, default=5)
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--seconds", type=int, default=4)
    asked.add_argument("--alike", action="store_true")
    options = asked.parse_args()
    (alike if options.alike else watched)(options)


def watched(options):
    """Without a console, with nobody and with watchers, in turns; then how soon `/livez` is answered."""
    speeds, told = {"off": [], "nobody": [], "watched": []}, []
    with running("console: {enabled: false}\n") as off, running() as on:
        cookies = sessions(on, admin_of(on))
        for router in (off, on):
            per_cpu_second(router, 2)
        seconds = 0.0

        def off_alone():
            speeds["off"].append(per_cpu_second(off, options.seconds)[0])

        def on_alone():
            speeds["nobody"].append(per_cpu_second(on, options.seconds)[0])

        def on_watched():
            nonlocal seconds
            with watching(on, cookies, options.watchers, told):
                began = time.monotonic()
                speeds["watched"].append(per_cpu_second(on, options.seconds)[0])
                seconds += time.monotonic() - began

        turns = [off_alone, on_alone, on_watched]
        for number in range(options.rounds):
            for measure in turns[number % 3 :] + turns[: number % 3]:
                measure()
        with watching(on, cookies, options.watchers, told):
            print(f"/livez beside {options.watchers} watchers: p99 {livez(on):.1f} ms")
    middle = {name: statistics.median(found) for name, found in speeds.items()}
    print(f"requests a processor second: {', '.join(f'{name} {value:.0f}' for name, value in middle.items())}")
    print(f"nobody watches, of console off: {ratio(speeds['nobody'], speeds['off'])}")
    print(f"{options.watchers} watch, of console off: {ratio(speeds['watched'], speeds['off'])}")
    print(f"bytes a second for each watcher: {sum(told) / seconds / options.watchers:.0f}")


if __name__ == "__main__":
    main()
