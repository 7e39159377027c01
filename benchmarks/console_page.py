"""What an open page costs its browser while much happens: long tasks, elements, heap, bytes.

    python benchmarks/console_page.py [--minutes 5] [--rate 100] [--page requests]

A router over the benchmark backend gets `--rate` requests a second, paced, while Debian's Chromium shows one page.
Each minute one line: answers a second, tasks of the page over 50 and over 100 ms, elements, heap after a collection,
bytes received. Less than two minutes are watched in two halves.
The last line holds all against what may be: 40 KB a second, no task over 100 ms and five a minute over 50, elements
within a tenth of the first minute's (rows of what runs come and go), a heap that grows by less than 2 MB from the first
minute to the last. Exit code 1 where it is more. Tasks are told in processor time, from a trace, so that what else the
machine does is not in them. Needs playwright and chromium; Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import httpx
from console import admin_of
from playwright.async_api import async_playwright
from soak import running

TASKS = {"traceConfig": {"includedCategories": ["toplevel"]}, "transferMode": "ReportEvents"}
LEAST = 20_000  # microseconds: shorter tasks are not looked at


async def ask(router, rate, answered):
    """Send requests at an even pace until cancelled, and count the answers.

    One that is late does not delay the next, but at most two seconds' worth are under way: a machine that cannot do
    the rate shows it in the count, and not in a browser that starves beside a heap of waiting requests.
    """
    headers = {"authorization": f"Bearer {router.token}"}
    body = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hi"}], "stream": False}
    limits = httpx.Limits(max_connections=200)

    async def one(client):
        with contextlib.suppress(httpx.HTTPError):
            answered[0] += (await client.post("/v1/chat/completions", json=body)).is_success

    async with (
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{router.port}", headers=headers, limits=limits, trust_env=False, timeout=60
        ) as client,
        asyncio.TaskGroup() as tasks,
    ):
        running, due = set(), time.monotonic()
        while True:
            if len(running) < 2 * rate:
                task = tasks.create_task(one(client))
                running.add(task)
                task.add_done_callback(running.discard)
            due = max(due + 1 / rate, time.monotonic() - 1)
            await asyncio.sleep(max(0.0, due - time.monotonic()))


@contextlib.asynccontextmanager
async def traced(browser):
    """Milliseconds of processor time of each task of pages, once the block has ended."""
    tools, pages, tasks, ended = await browser.new_browser_cdp_session(), set(), [], asyncio.Event()
    found = []

    def collect(told):
        for one in told["value"]:
            if one.get("args", {}).get("name") == "CrRendererMain":
                pages.add((one["pid"], one["tid"]))
            elif one["name"].endswith("RunTask") and one.get("tdur", 0) > LEAST:
                found.append(((one["pid"], one["tid"]), one["tdur"] / 1000))

    tools.on("Tracing.dataCollected", collect)
    tools.on("Tracing.tracingComplete", lambda _: ended.set())
    await tools.send("Tracing.start", TASKS)
    yield tasks
    await tools.send("Tracing.end")
    await ended.wait()
    await tools.detach()
    tasks.extend(took for thread, took in found if thread in pages)


async def minute(page, tools, counts, seconds):
    """Watch for so long: long tasks, elements, heap, and of each count how much there was a second."""
    before, began = [count[0] for count in counts], time.monotonic()
    async with traced(page.context.browser) as tasks:
        await asyncio.sleep(seconds)
        took = time.monotonic() - began
        rates = [(count[0] - old) / took for count, old in zip(counts, before, strict=True)]
    await tools.send("HeapProfiler.collectGarbage")
    heap = (await tools.send("Runtime.getHeapUsage"))["usedSize"]
    nodes = await page.evaluate("document.querySelectorAll('*').length")
    print(f"longest tasks {', '.join(f'{one:.0f}' for one in sorted(tasks)[-3:])} ms", end="; ")
    return sum(one > 50 for one in tasks), sum(one > 100 for one in tasks), nodes, heap, *rates


async def watch(router, token, options):
    """Open the page, and print a line a minute; whether all budgets hold."""
    async with async_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = await playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        page = await (await browser.new_context()).new_page()
        await page.goto(f"http://127.0.0.1:{router.port}/console/{options.page}")
        await page.fill("#token", token)
        await page.click("button[type=submit]")
        await page.wait_for_selector("nav", state="attached")
        tools, received = await page.context.new_cdp_session(page), [0]
        tools.on("Network.loadingFinished", lambda end: received.__setitem__(0, received[0] + end["encodedDataLength"]))
        await tools.send("Network.enable")
        answered = [0]
        asking = asyncio.create_task(ask(router, options.rate, answered))
        if options.page == "requests":
            await page.wait_for_selector("tr[id^=row-]:nth-child(50)", timeout=120_000)
        rows = []
        for number in range(max(2, round(options.minutes))):
            rows.append(await minute(page, tools, (received, answered), 60 * min(1, options.minutes / 2)))
            over50, over100, nodes, heap, bytes_, answers = rows[-1]
            print(
                f"minute {number + 1}: {answers:.0f} answers/s, {over50} tasks over 50 ms, {over100} over 100 ms,"
                f" {nodes} elements,"
                f" heap {heap / 1e6:.2f} MB, {bytes_ / 1000:.1f} KB/s",
                flush=True,
            )
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        await browser.close()
    return told(rows)


def told(rows):
    """Print what grew, and what is over its budget; whether nothing is."""
    over50, over100, nodes, heap, received, _ = zip(*rows, strict=True)
    grown = (heap[-1] - heap[0]) / 1e6
    print(f"heap grew {grown:+.2f} MB (less than 2), elements {nodes[-1] - nodes[0]:+d}")
    budgets = {
        "a task over 100 ms": max(over100) > 0,
        "more than five tasks a minute over 50 ms": max(over50) > 5,
        "more than 40 KB a second": max(received) > 40_000,
        "elements": max(nodes) > 1.1 * nodes[0],
        "heap": grown >= 2,
    }
    over = [name for name, is_over in budgets.items() if is_over]
    print(f"over: {', '.join(over)}" if over else "within all budgets")
    return not over


def main():
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--minutes", type=float, default=5)
    asked.add_argument("--rate", type=float, default=100)
    asked.add_argument("--page", default="requests")
    options = asked.parse_args()
    with running() as router:
        token = admin_of(router)
        time.sleep(1)  # the token is younger than what the router knows
        return 0 if asyncio.run(watch(router, token, options)) else 1


if __name__ == "__main__":
    sys.exit(main())
