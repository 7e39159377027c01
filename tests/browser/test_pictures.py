"""The pictures of the documentation; written with `nox -s browser -- --pictures docs/images`.

Times are those of one fixed afternoon, rows of the log are written with a seed, ids and ports are the same each time: a
picture changes when its page does.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, Page

from browser.conftest import Watched, signed_in
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.testing import OllamaSimulator
from ollama_router_server.storage.incident_changes import Began, Ended, IncidentKind
from ollama_router_server.telemetry.last_hour import LastHour, Row
from support.eventually import eventually, eventually_async
from support.plain_http import async_client
from support.records import make_record
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

GIB = 1024**3
FLEET: dict[str, tuple[int, list[str]]] = {
    "big": (96, ["llama3.3:70b", "llama3.2:3b", "qwen3:8b"]),
    "mid": (16, ["qwen3:8b", "llama3.2:3b"]),
    "lab": (24, ["gemma3:12b", "qwen3:8b"]),
    "old": (8, ["llama3.2:3b"]),
}
PEOPLE = ("carol", "dave", "erin", "frank")


DECISION = {
    "strategy": "fastest",
    "server": "big",
    "reason": "done in 43 s, of which 33 s are loading",
    "candidates": [
        {
            "server": "big", "verdict": "chosen", "bytes": 45_419_279_155, "memory": "weights, KV cache",
            "reasons": [{"code": "not_loaded", "text": "not loaded, fits beside the loaded models"}],
            "ready_seconds": 35.4, "done_seconds": 43.1,
        },
        {
            "server": "mid", "verdict": "refused", "bytes": 45_419_279_155, "memory": "weights, KV cache",
            "reasons": [{"code": "too_large", "text": "needs 42.3 GiB, the limit is 16 GiB"}],
        },
        {"server": "mac", "verdict": "refused", "reasons": [{"code": "down", "text": "is down"}]},
    ],
    "others": {"model_missing": 2},
    "expected": {"wait_seconds": 0.0, "load_seconds": 33.4, "prefill_seconds": 2.0, "decode_seconds": 7.7},
}  # fmt: skip


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Path:
    """Where pictures go; without it they are not made."""
    found = request.config.getoption("--pictures")
    if found is None:
        pytest.skip("asked for with --pictures FOLDER")
    return Path(found).resolve()


async def shoot(watched: Watched, path: str, name: Path, ready: str = "h1") -> None:
    """Open a page, stop what moves, and write its picture."""
    await watched.open(path)
    await watched.page.wait_for_selector(ready)
    await watched.page.keyboard.press("p")
    await settle(watched.page)
    await watched.page.screenshot(path=name, animations="disabled", caret="hide")


SETTLE = r"""() => {
    for (let timer = setTimeout(() => {}); timer; timer--) clearTimeout(timer);
    const fixed = new Date(2026, 8, 14, 14, 2, 11).getTime();
    const minutes = (wall) => Math.floor((Number(wall) * 1000 - Date.now()) / 60000);
    const shown = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
    for (const one of document.querySelectorAll("time[data-wall]"))
        one.textContent = shown.format(new Date(fixed + minutes(one.dataset.wall) * 60000));
    for (const one of document.querySelectorAll("[data-label=probe]"))
        if (/\d/.test(one.textContent)) one.textContent = "3 ms";
    for (const one of document.querySelectorAll("meter[max='400000']")) {
        one.value = 308_420;
        one.nextSibling.data = " 308,420 of 400,000";
        one.closest("td").nextElementSibling.textContent = "10 h";
    }
    const rows = [...document.querySelectorAll("tr[id^=active-]")];
    rows.forEach((row, number) => {
        const elapsed = row.querySelector("[data-elapsed]");
        elapsed.removeAttribute("data-elapsed");
        elapsed.textContent = `${[9.1, 7.4, 38, 31, 24, 16, 12][number % 7]} s`;
        row.querySelector("small").textContent = `…670a87${(64 + number).toString(16)}`;
    });
    const live = document.querySelector("[data-liveness]");
    if (live && document.querySelector("[data-live]")) live.textContent = "live";
    const same = [
        [/gpu-box:\d+/g, "gpu-box:11434"],
        [/127\.0\.1\.(\d+):\d+/, "10.0.0.$1:11434"],
        [/\b[0-9a-f]{28}\b/, "01a22874f38486f7b469670a8763"],
        [/^[\w-]{8}…$/, "k3V9xQ2m…"],
        [/^[\d.]+ m?s, \d+ s ago$/, "3 ms, 2 s ago"],
        [/^\d+ s old$/, "2 s old"],
        [/longest \d+ s/, "longest 9 s"],
        [/^(\d+) · .*$/, (_, place) => `${place} · about ${16 + 14 * place} s`],
    ];
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walk.nextNode(); node; node = walk.nextNode())
        for (const [what, by] of same) node.data = node.data.replace(what, by);
}"""
"""Take out what differs from run to run: times, what has elapsed, ids, ports, the word that a page is paused."""


async def settle(page: Page) -> None:
    """Make a page the same as in the run before."""
    await page.evaluate(SETTLE)


@asynccontextmanager
async def fleet(tmp_path: Path, *, down: bool = False) -> AsyncIterator[RunningRouter]:
    """Four servers that work, and one that is down."""
    async with AsyncExitStack() as stack:
        servers: dict[str, dict[str, Any]] = {}
        if down:
            servers["mac"] = {"host": "127.0.0.1", "port": 9, "max_memory_gb": 24}
        for name, (gib, models) in FLEET.items():
            simulator = OllamaSimulator(models=models, vram=gib * GIB, answer_tokens=400, time_scale=1.0)
            sim = await stack.enter_async_context(simulator)
            sim.load_speed = 1e12
            servers[name] = server_entry(sim, max_memory_gb=gib, max_concurrent=2)
        yield await stack.enter_async_context(running_router(tmp_path, servers))


async def asked(
    router: RunningRouter, tasks: list[asyncio.Task[None]], who: Sequence[str], models: Sequence[str]
) -> None:
    """Requests of several people, in progress or in the line."""
    tokens = []
    async with router.client(router.admin_token) as admin:
        for name in who:
            tokens.append((await admin.post("/router/users", json={"name": name})).json()["token"])  # noqa: PERF401
    await router.services.authenticator.refresh()
    for number, name in enumerate(models):
        tasks.append(asyncio.create_task(ask(router, tokens[number % len(tokens)], name)))
        await asyncio.sleep(0)


async def ask(router: RunningRouter, token: str, name: str) -> None:
    """One request, until it is cancelled."""
    async with router.client(token) as client:
        body = {"model": name, "messages": [{"role": "user", "content": "Why is the sky blue? " * 40}]}
        while (await client.post("/api/chat", json=body)).status_code == httpx.codes.OK:
            pass


def day_of(user: str, now: float) -> list[RequestRecord]:
    """Requests of a week, the same ones each time."""
    dice = random.Random(7)  # noqa: S311 - a picture
    rows = []
    for number in range(180):
        model = dice.choice(["llama3.2:3b", "llama3.2:3b", "qwen3:8b"])
        prompt, words = dice.randrange(80, 2_400), dice.randrange(20, 600)
        rows.append(
            make_record(
                number, id=f"{number:028x}", user=user, started_at=now - 60 - number * 3_000, model_asked=model,
                model_served=model, server="mid", status=200, attempts=1, prompt_tokens=prompt,
                completion_tokens=words, queue_ms=3.0, ttft_ms=250.0, total_ms=250.0 + words * 12.0,
            )
        )  # fmt: skip
    return rows


def hour_until(minute: int) -> list[Row]:
    """What a worker that is gone counted in the hour until this minute, counted since 1970; a few requests failed."""
    dice, hour = random.Random(11), LastHour()  # noqa: S311 - a picture
    for ago in range(59, 0, -1):
        crowded = 22 <= ago <= 33
        for number in range(dice.randrange(2, 9) + 8 * crowded):
            words, status = dice.randrange(40, 500), 500 if dice.random() < 0.02 else 200
            waits, loads, decode_ms = 9_000.0 * crowded, 6_000.0 * (number % 5 == 0), words * 18.0
            hour.add(
                make_record(
                    number, started_at=(minute - ago) * 60.0, status=status, completion_tokens=words, queue_ms=waits,
                    ttft_ms=waits + loads + 701.0, connect_ms=1.0, load_ms=loads, prefill_ms=700.0, decode_ms=decode_ms,
                    total_ms=waits + loads + 701.0 + decode_ms,
                )
            )  # fmt: skip
    return hour.rows()


async def bad_day(router: RunningRouter, name: str) -> None:
    """Let the router have run for a day, in which this server was down and suspended, and the router once off.

    Marks lie where a few seconds between this and the look do not move them.
    """
    store, now = router.services.incidents.store, router.services.clock.wall()
    await store.cleanup(before=now + 1)  # that it started for the first time
    what: list[tuple[IncidentKind, float, float]] = [
        ("server.down", 20.5, 19.0), ("router.restart", 14.0, 13.0), ("server.suspended", 6.0, 5.5),
        ("server.suspended", 3.0, 2.25),
    ]  # fmt: skip
    for kind, began, ended in what:
        server = "" if kind == "router.restart" else name
        times = [now - hours * 3_600 + 2.4 for hours in (began, ended)]
        changes = [
            Began(kind=kind, at=times[0], cause="was unplugged", server=server),
            Ended(kind=kind, at=times[1], server=server),
        ]
        await store.apply(router.services.incidents.writer.origin, changes)


async def test_start_on_a_first_run(browser: Browser, tmp_path: Path, folder: Path) -> None:
    """What works, and what to paste; light."""
    context = {"color_scheme": "light", "viewport": {"width": 1280, "height": 800}}
    async with fleet(tmp_path) as router, signed_in(browser, router, router.admin_token, **context) as watched:
        await shoot(watched, "", folder / "console-start.png")


async def test_now_with_a_line(browser: Browser, tmp_path: Path, folder: Path) -> None:
    """Five servers, a line, one thing that needs attention, the last hour; dark."""
    tasks: list[asyncio.Task[None]] = []
    context = {"color_scheme": "dark", "viewport": {"width": 1440, "height": 1160}}
    async with fleet(tmp_path, down=True) as router:
        wanted = ["llama3.3:70b", "qwen3:8b", "gemma3:12b", "qwen3:8b", "llama3.3:70b", "llama3.3:70b", "llama3.3:70b"]
        clock = router.services.clock
        await eventually(lambda: clock.wall() % 60 < 45, seconds=20)  # no new minute while the picture is taken
        await asked(router, tasks, PEOPLE, wanted)
        await eventually_async(lambda: answers(router, 3))  # one at each server
        assert router.services.worker_news.sync is not None
        router.services.worker_news.sync._inherited_hour = hour_until(int(clock.wall()) // 60)
        async with signed_in(browser, router, router.admin_token, **context) as watched:
            await shoot(watched, "now", folder / "console-now.png", "[aria-labelledby=running] tbody tr")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_one_slow_request(browser: Browser, tmp_path: Path, folder: Path) -> None:
    """Where its time went, and its routing decision; light."""
    context = {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}}
    servers = {name: {"host": f"127.0.2.{gib}", "port": 9, "max_memory_gb": gib} for name, (gib, _) in FLEET.items()}
    async with running_router(tmp_path, servers) as router:
        now = router.services.clock.wall()
        slow = make_record(
            1, id=f"{int((now - 41) * 1_000):012x}{7:016x}", started_at=now - 41, user="carol", server="big",
            model_asked="llama3.3:70b", model_served="llama3.3:70b",
            prompt_tokens=1_904, completion_tokens=212, num_ctx=8_192,
            queue_ms=1_640.0, connect_ms=2.0, load_ms=33_120.0, prefill_ms=2_210.0, decode_ms=6_480.0,
            ttft_ms=37_020.0, total_ms=43_560.0, bytes_in=9_216, bytes_out=31_488, expected_wait_ms=1_500.0,
            reason=DECISION["reason"], decision=json.dumps(DECISION),
        )  # fmt: skip
        await router.services.request_log.insert([slow])
        async with signed_in(browser, router, router.admin_token, **context) as watched:
            await shoot(watched, f"requests/{slow.id}", folder / "console-request.png")


async def test_two_hundred_servers_and_one_of_them(browser: Browser, tmp_path: Path, folder: Path) -> None:
    """The list, those that need attention first, and one server's memory; dark."""
    loaded = (["qwen3:8b", "llama3.2:3b"], ["gemma3:12b"], ["llama3.2:3b"], ["gemma3:12b", "qwen3:8b", "llama3.2:3b"])
    context = {"color_scheme": "dark", "viewport": {"width": 1440, "height": 900}}
    async with AsyncExitStack() as stack:
        sims = [await stack.enter_async_context(holding(names)) for names in loaded]
        servers = {
            f"gpu-{number:03}": {**server_entry(sims[number % 4], max_memory_gb=24), "host": f"127.0.1.{number + 1}"}
            for number in range(200)
        }
        servers["gpu-017"]["port"] = 9
        async with running_router(tmp_path, servers, health_check_interval=600.0, probe_timeout=30.0) as router:

            async def are_known() -> bool:
                return all(one.up is not None for one in router.services.fleet.servers.values())

            await eventually_async(are_known, seconds=60)
            router.services.fleet.drain("gpu-042", on=True)
            async with signed_in(browser, router, router.admin_token, **context) as watched:
                await shoot(watched, "servers", folder / "console-servers.png")
                await bad_day(router, "gpu-003")
                await shoot(watched, "servers/gpu-003", folder / "console-server.png")


@asynccontextmanager
async def holding(names: list[str]) -> AsyncIterator[OllamaSimulator]:
    """A server with these models in memory, for good."""
    async with OllamaSimulator(models=["gemma3:12b", "llama3.2:3b", "qwen3:8b"], vram=24 * GIB, host="0.0.0.0") as sim:
        async with async_client(f"http://127.0.0.1:{sim.port}") as ollama:
            for name in names:
                asked = {"model": name, "keep_alive": -1, "options": {"num_ctx": 4_096}}
                await ollama.post("/api/generate", json=asked)
        yield sim


async def test_mine_on_a_phone(browser: Browser, tmp_path: Path, folder: Path) -> None:
    """A user's limits, usage and tokens; light."""
    phone = {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "device_scale_factor": 2}
    async with fleet(tmp_path) as router:
        await router.services.request_log.insert(day_of("alice", router.services.clock.wall()))
        async with router.client(router.admin_token) as admin:
            limits = {"requests_per_minute": 60, "tokens_per_day": 400_000}
            await admin.patch("/router/users/alice", json={"grants": limits})
        await router.services.authenticator.refresh()
        async with signed_in(browser, router, router.token, **phone) as watched:
            await watched.open("")
            await settle(watched.page)
            await watched.page.screenshot(path=folder / "console-mine-phone.png", animations="disabled")


async def answers(router: RunningRouter, wanted: int) -> bool:
    """Whether so many are being answered."""
    found = router.services.worker_news.sync.active_requests() if router.services.worker_news.sync else []
    return sum(one["state"] == "answering" for one in found) >= wanted
