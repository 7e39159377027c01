"""Hostile inputs against a running router: how long a neighbour's `/livez` pauses meanwhile, and what came of them.

    python benchmarks/hostile.py [--only forms,zstd]

The router is a process of its own, the servers and the attacker are in this one, `/livez` is asked by a third, all over
loopback. This process gets what the other two leave of the processors (root only), as a machine of its own would. Each
row is an async function with the decorator `row`, which may say how the stage is set; it gets a `Stage` and returns
what was counted, in words, and whether that is the goal.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from ollama_router_core.testing import Answer, OllamaSimulator, model
from support.postgresql import Cluster, find_binaries, running_cluster
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
    folder: Path

    def client(self, token: str | None = None) -> httpx.AsyncClient:
        """A client that is the user alice, or another."""
        headers = {"authorization": f"Bearer {self.router.token if token is None else token}"}
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.router.port}", headers=headers, timeout=300, trust_env=False
        )

    async def grant(self, name: str = "alice", **grants: object) -> None:
        """Change a user's grants."""
        async with self.client(self.router.admin_token) as admin:
            (await admin.patch(f"/router/users/{name}", json={"grants": grants})).raise_for_status()
        await asyncio.sleep(0.5)  # every process reads the change within a quarter of a second

    async def usage(self, name: str = "alice") -> dict[str, Any]:
        """The totals of a user's rows."""
        async with self.client(self.router.admin_token) as admin:
            found: dict[str, Any] = (await admin.get("/router/usage", params={"user": name})).json()
        return found

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """What the router's SQLite file says."""
        with closing(sqlite3.connect(self.folder / "router.sqlite3")) as connection:
            return connection.execute(query).fetchall()

    def written(self) -> int:
        """Bytes of everything that the router has written."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


Counted = tuple[str, bool | None]
"""What was counted, in words, and whether it is the goal; None where there is no goal but the pause."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One hostile input, and the stage that it needs."""

    play: Callable[[Stage], Awaitable[Counted]]
    server: Mapping[str, Any]
    config: Mapping[str, Any]
    postgresql: bool


ROWS: dict[str, Row] = {}


def row(
    name: str, *, server: Mapping[str, Any] | None = None, postgresql: bool = False, **config: Any
) -> Callable[[Callable[[Stage], Awaitable[Counted]]], Callable[[Stage], Awaitable[Counted]]]:
    """Register a row under a short name; `server` are the simulator's settings, `config` is the router's."""

    def register(function: Callable[[Stage], Awaitable[Counted]]) -> Callable[[Stage], Awaitable[Counted]]:
        ROWS[name] = Row(play=function, server=server or {}, config=config, postgresql=postgresql)
        return function

    return register


@row("forms")
async def forms(stage: Stage) -> Counted:
    """A form field of 8,000 blanks and a control character."""
    body = b"--XX\r\nX:" + b" " * 8000 + b"\x01\r\n\r\n\r\n--XX--\r\n"
    async with stage.client() as client:
        answer = await client.post(
            "/v1/audio/transcriptions", content=body, headers={"content-type": "multipart/form-data; boundary=XX"}
        )
    return f"answered {answer.status_code}", None


@row("zstd")
async def zstd(stage: Stage) -> Counted:
    """1.5 MB of empty frames."""
    async with stage.client() as client:
        answer = await client.post(
            "/v1/chat/completions", content=EMPTY_FRAME * 166_000, headers={"content-encoding": "zstd"}
        )
    return f"answered {answer.status_code}", None


@row("rows")
async def rows(stage: Stage) -> Counted:
    """120,000 models of one digest on a server."""
    listed = b",".join(b'{"name":"m%d:1b","digest":"d"}' % number for number in range(120_000))
    return await _lists(stage, "/api/tags", b'{"models":[' + listed + b"]}")


@row("most-rows")
async def most_rows(stage: Stage) -> Counted:
    """As many models of one digest as are believed, 2,000."""
    listed = b",".join(b'{"name":"m%d:1b","digest":"d"}' % number for number in range(2000))
    return await _lists(stage, "/api/tags", b'{"models":[' + listed + b"]}")


@row("version")
async def version(stage: Stage) -> Counted:
    """A version of 60 MB."""
    return await _lists(stage, "/api/version", b'{"version":"' + b"1" * 60_000_000 + b'"}')


async def _lists(stage: Stage, path: str, body: bytes) -> Counted:
    stage.server.misbehave(Answer(status=200, body=body), path=path)
    before = len(stage.server.requests_to("/api/version"))
    async with stage.client() as client:
        while len(stage.server.requests_to("/api/version")) < before + 3:  # noqa: ASYNC110 - nothing announces a request
            await asyncio.sleep(0.1)
        answers = [(await client.get(each)).status_code for each in ("/api/tags", "/api/version", "/v1/models")]
    return f"/api/tags, /api/version, /v1/models answered {answers}", None


@row("keys")
async def keys(stage: Stage) -> Counted:
    """A request of 14 MB with a million keys."""
    members = ",".join(f'"{number}":1' for number in range(1_000_000))
    body = f'{{"model":"{MODEL}","stream":false,"messages":[],"options":{{{members}}}}}'
    async with stage.client() as client:
        answer = await client.post("/api/chat", content=body)
    return f"{len(body) / 1e6:.0f} MB, answered {answer.status_code}", None


@row("translated")
async def translated(stage: Stage) -> Counted:
    """A whole answer of 15 MB from an external host, translated: a text of 5 MB and 10,000 tool calls."""
    status, calls = await _translated(stage, text=5_000_000, calls=10_000, arguments=900)
    return f"answered {status} with {calls} tool calls", calls == 10_000


@row("untranslatable")
async def untranslatable(stage: Stage) -> Counted:
    """Likewise with 60 MB, a text of 30 MB and 150,000 tool calls, which is more than is translated."""
    status, _ = await _translated(stage, text=30_000_000, calls=150_000, arguments=100)
    return f"answered {status}", status == 502


async def _translated(stage: Stage, *, text: int, calls: int, arguments: int) -> tuple[int, int]:
    """Ask for an answer with so long a text and so many calls; return the status and how many calls came."""
    function = {"name": "f", "arguments": json.dumps({"x": "y" * arguments})}
    call = {"id": "c", "type": "function", "function": function}
    message = {"role": "assistant", "content": "x" * text, "tool_calls": [call] * calls}
    reply = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
    }
    stage.server.misbehave(Answer(status=200, body=json.dumps(reply).encode()), path="/v1/chat/completions")
    chat = {"model": "gpt-4", "messages": [{"role": "user", "content": "hi"}], "stream": False}
    async with stage.client() as client:
        answer = await client.post("/api/chat", json=chat)
    return answer.status_code, len(answer.json().get("message", {}).get("tool_calls", ()))


@row("facts")
async def facts(stage: Stage) -> Counted:
    """A row of a server's list with `1e999` where a size should be."""
    listed = b'{"name":"m:1b","digest":"d","size":1e999,"context_length":1e999,"details":{"context_length":1e999}}'
    text, _ = await _lists(stage, "/api/tags", b'{"models":[' + listed + b"]}")
    async with stage.client() as client:
        shown = (await client.get("/api/tags")).text
    return text + f"; Infinity {'shown' if 'Infinity' in shown else 'not shown'}", "Infinity" not in shown


@row("pattern", model_config={"memory_patterns": [{"pattern": "(a+)+$", "memory_gb": 1}]})
async def pattern(stage: Stage) -> Counted:
    """An operator's pattern that takes a backtracking engine 2^28 steps on a model's name."""
    async with stage.client() as client:
        answer = await client.post("/api/chat", json={"model": "a" * 28 + "b", "messages": [], "stream": False})
    return f"answered {answer.status_code}", None


@row("unfinished")
async def unfinished(stage: Stage) -> Counted:
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
    return f"{(most - before) / 1e6:.0f} MB more held", None


# --- what was used is counted -----------------------------------------------------------------------------------------


@row("streams", server={"answer_tokens": 2_000})
async def streams(stage: Stage) -> Counted:
    """40 streams of 2,000 tokens, one after the other, whose client asks for no counts; 10,000 are allowed a day."""
    await stage.grant(tokens_per_day=10_000)
    ask = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    passed = 0
    async with stage.client() as client:
        for _ in range(40):
            passed += (await client.post("/v1/chat/completions", json=ask)).status_code == 200
    await asyncio.sleep(1)
    usage = await stage.usage()
    counted, true = usage["completion_tokens"], passed * 2_000
    return f"{passed} passed (goal: at most 6), {counted} of {true} tokens counted", passed <= 6 and counted == true


@row("leavers", server={"answer_tokens": 2_000, "time_scale": 1.0}, external_hosts={})
async def leavers(stage: Stage) -> Counted:
    """20 clients leave after 30 of 2,000 tokens; each asked for a million."""
    await stage.grant(tokens_per_day=10**6)
    ask = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "options": {"num_predict": 10**6}}
    read = 0
    async with stage.client() as client:
        for _ in range(20):
            async with client.stream("POST", "/api/chat", json=ask) as answer:
                lines = answer.aiter_lines()
                for _ in range(30):
                    await anext(lines)
                    read += 1
    await asyncio.sleep(1)
    usage = await stage.usage()
    counted = usage["completion_tokens"]
    charged = stage.ask("SELECT coalesce(sum(tokens), 0) FROM token_usage WHERE user = 'alice'")[0][0]
    met = charged == counted + usage["prompt_tokens"] and read <= counted <= read + 20 * 10
    return f"{read} tokens read, {counted} counted, {charged} charged with the prompts", met


@row("numbers")
async def numbers(stage: Stage) -> Counted:
    """A server that counts 2^63-1 tokens, a client that asks for as many, and a user whose counts must be kept."""
    async with stage.client(stage.router.admin_token) as admin:
        made = (await admin.post("/router/users", json={"name": "bob"})).json()
    await stage.grant(tokens_per_day=10**9)
    await stage.grant("bob", tokens_per_day=10**9)
    end = b'{"done":true,"prompt_eval_count":9223372036854775807,"eval_count":9223372036854775807}\n'
    ask = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": False}
    async with stage.client() as alice, stage.client(made["token"]) as bob:
        stage.server.misbehave(Answer(status=200, body=end), path="/api/chat", times=1)
        statuses = [(await alice.post("/api/chat", json={**ask, "options": {"num_predict": 2**63 - 1}})).status_code]
        answers = [await bob.post("/api/chat", json=ask) for _ in range(5)]
    await asyncio.sleep(1)
    true = sum(answer.json()["prompt_eval_count"] + answer.json()["eval_count"] for answer in answers)
    counted = dict(stage.ask("SELECT user, sum(tokens) FROM token_usage GROUP BY user"))
    rows = stage.ask("SELECT count(*) FROM request_log")[0][0]
    met = counted.get("bob") == true and rows == 6
    return (
        f"{statuses[0]}; bob {counted.get('bob')} of {true} tokens, alice {counted.get('alice')}, {rows} of 6 rows",
        met,
    )


@row("restart", postgresql=True)
async def restart(stage: Stage) -> Counted:
    """PostgreSQL stops for 20 s while 120 requests come, one each quarter of a second."""
    ask = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": False}
    cluster = CLUSTERS[stage.folder]
    answered = 0

    async def away() -> None:
        await asyncio.sleep(5)
        await asyncio.to_thread(cluster.stop, "fast")
        await asyncio.sleep(20)
        await asyncio.to_thread(cluster.start)

    async with stage.client() as client:
        going = asyncio.create_task(away())
        for _ in range(120):
            answered += (await client.post("/api/chat", json=ask)).status_code == 200
            await asyncio.sleep(0.25)
        await going
    await asyncio.sleep(5)
    usage = await stage.usage()
    return f"{answered} answered, {usage['requests']} of 120 rows, {usage['dropped']} dropped", usage["requests"] == 120


# --- tokens stay quick and cannot be locked out -----------------------------------------------------------------------


@row("tokens")
async def tokens(stage: Stage) -> Counted:
    """100 users whose tokens nobody has used yet, within 5 s."""
    async with stage.client(stage.router.admin_token) as admin:
        made = [(await admin.post("/router/users", json={"name": f"u{number}"})).json() for number in range(100)]
    times, statuses = [], []

    async def first(number: int) -> None:
        await asyncio.sleep(number * 0.05)
        async with stage.client(made[number]["token"]) as client:
            started = time.perf_counter()
            statuses.append((await client.get("/api/version")).status_code)
            times.append(time.perf_counter() - started)

    await asyncio.gather(*(first(number) for number in range(100)))
    p99 = sorted(times)[98] * 1000
    good = statuses.count(200)
    return f"{good} of 100 answered, p99 of the first requests {p99:.0f} ms (goal: 50)", good == 100 and p99 < 50


@row("lockout")
async def lockout(stage: Stage) -> Counted:
    """A stranger sends tokens with the public first characters of alice's, eight at a time, while she asks 40 times."""
    public = stage.router.token[:8]
    going = True

    async def stranger() -> None:
        async with stage.client("x") as client:
            while going:
                junk = public + os.urandom(12).hex()
                await client.get("/api/version", headers={"authorization": f"Bearer {junk}"})

    strangers = [asyncio.create_task(stranger()) for _ in range(8)]
    await asyncio.sleep(0.5)
    async with stage.client() as client:
        statuses = [(await client.get("/api/version")).status_code for _ in range(40)]
    going = False
    await asyncio.gather(*strangers)
    refused = sum(status != 200 for status in statuses)
    return f"{refused} of 40 requests of the owner refused", refused == 0


@row("idle")
async def idle(stage: Stage) -> Counted:
    """1,200 connections of one stranger, of which none says anything."""
    opened = [await asyncio.open_connection("127.0.0.1", stage.router.port) for _ in range(1_200)]
    async with stage.client() as client:
        statuses = [(await client.get("/api/version")).status_code for _ in range(20)]
    for _, writer in opened:
        writer.close()
    return f"{statuses.count(200)} of 20 requests of a user answered", statuses.count(200) == 20


@row("refused", logging={"enabled": True})
async def refused(stage: Stage) -> Counted:
    """3,000 refused requests with names of 1,000 characters, half of a user, half of strangers."""
    await stage.grant(models=["nothing"])
    before = stage.written()
    ask = {"model": "m" * 1_000, "messages": []}
    async with stage.client() as alice, stage.client("mistyped-token") as stranger:
        for _ in range(1_500):
            await alice.post("/api/chat", json=ask)
            await stranger.post("/api/chat/" + "x" * 1_000, json=ask)
    await asyncio.sleep(1)
    grown = stage.written() - before
    return f"{grown / 1e6:.2f} MB written (31 MB before; goal: 1 MB)", grown < 1e6


# --- measuring --------------------------------------------------------------------------------------------------------


def neighbour(port: int, ready: Any, stop: Any, out: Any) -> None:
    """Ask `/livez` every few ms; put the longest time an answer took."""
    gc.disable()  # a full collection of this process takes 70 ms, which are no pause of the router
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


CLUSTERS: dict[Path, Cluster] = {}
"""The PostgreSQL of a stage that has one, by the stage's folder."""


@asynccontextmanager
async def stage(of: Row) -> AsyncIterator[Stage]:
    """A fresh router and server for each row."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = None
        if of.postgresql:
            binaries = find_binaries()
            if binaries is None:
                raise SystemExit("this row needs PostgreSQL: install the package postgresql")
            CLUSTERS[folder] = stack.enter_context(running_cluster(binaries))
            url = CLUSTERS[folder].url
        os.environ["PAID_KEY"] = "sk-paid-key"
        server = await stack.enter_async_context(OllamaSimulator(models=[model(MODEL)], **of.server))
        paid = server_entry(server, protocol="http", api="openai", models={"gpt-4": MODEL}, api_key_env="PAID_KEY")
        models = {"explicit_assignments": {"gpt-4": "paid"}, "cache_model_info": False}
        config = {"external_hosts": {"paid": paid}, "external_hosts_for": "all", "health_check_interval": 0.5}
        config |= {**of.config, "external_hosts": {"paid": paid}}
        config["model_config"] = {**models, **of.config.get("model_config", {})}
        router = await stack.enter_async_context(
            router_process(folder, {"one": server_entry(server)}, database_url=url, **config)
        )
        yield Stage(router=router, server=server, folder=folder)


@contextmanager
def behind_all_others() -> Iterator[None]:
    """Give this process only the time that no other process wants, where it may take that back."""
    if os.geteuid():
        yield
        return
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


async def measured(name: str) -> tuple[float, Counted]:
    """The longest pause, and what the row counted."""
    context = multiprocessing.get_context("spawn")
    ready, stop, out = context.Event(), context.Event(), context.Queue()
    async with stage(ROWS[name]) as here:
        asker = context.Process(target=neighbour, args=(here.router.port, ready, stop, out))
        asker.start()
        await asyncio.to_thread(ready.wait)
        with behind_all_others():
            counted = await ROWS[name].play(here)
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
        longest, (counted, met) = await measured(name)
        mark = "" if longest < GOAL else "  (goal 50 ms)"
        missed = "  (goal missed)" if met is False else ""
        print(f"{name:12} longest pause {longest * 1000:7.1f} ms{mark}; {counted}{missed}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
