"""Ten times more clients than fit: what those that are let in and those that are refused see, beside nginx.

    python benchmarks/overload.py [--seconds 6] [--rounds 3] [--clients 160] [--kept]

A backend works on 8 answers of 50 ms at once and 8 more may wait: in the router's line, or with nginx
(`limit_conn 16`) in the backend's. First as many clients come as fit, then ten times as many; who is refused comes
back half a second to one and a half later. Every request opens a connection of its own, or with `--kept` none does.
Router, backend and clients are processes of their own, which run before all others of the machine where that is allowed
(root), and how late the clients' own event loop was is told: that much of every figure is the clients'. Last, the
processor time of one refusal: the line is kept full, wrk asks.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parent / "dataplane"))

import stacks

SLOTS = LINE = 8
WORK_MS = 50
NGINX = stacks.NGINX.replace("upstream b", "limit_conn_zone $server_port zone=all:1m; upstream b", 1).replace(
    "location / {{", f"location / {{{{ limit_conn all {SLOTS + LINE}; "
)
ROUTER = stacks.ROUTER.replace("max_memory_gb: 24", f"max_memory_gb: 24, max_concurrent: {SLOTS}") + (
    f"routing_strategy: least_loaded\nqueue: {{{{max_waiting: {LINE}, max_wait: 60}}}}\n"
)
HEAD = (
    "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nUser-Agent: gap/{gap}/1\r\n"
    "Content-Type: application/json\r\nContent-Length: {length}\r\n{more}\r\n"
)
LUA = """wrk.method="POST"
wrk.body='{body}'
wrk.headers["Authorization"]="Bearer {token}"
wrk.headers["Content-Type"]="application/json"
"""


def request(running, *, gap=WORK_MS, kept=False):
    """The bytes of one request, which takes `gap` milliseconds."""
    more = "" if kept else "Connection: close\r\n"
    head = HEAD.format(token=running.token, gap=gap, length=len(stacks.BODY), more=more)
    return head.encode() + stacks.BODY


class Client:
    """Asks again and again; as cheap as can be, since it shares the machine with what is measured."""

    def __init__(self, crowd):
        self.crowd = crowd
        self.transport = None
        self.asked = 0.0
        self.data = b""

    def ask(self):
        """Send a request, on a connection of its own unless those are kept."""
        if self.crowd.over:
            self.crowd.gone()
            return
        self.asked = time.perf_counter()
        self.data = b""
        if self.transport is not None:
            self.transport.write(self.crowd.request)
        else:
            self.crowd.connect(self)

    def connection_made(self, transport):
        """Connected."""
        self.transport = transport
        transport.write(self.crowd.request)

    def data_received(self, data):
        """An answer, or a part of one."""
        self.data = self.data + data if self.data else data
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.data[:end].lower()
        length = int(head[head.index(b"content-length:") + 15 :].split(b"\r\n", 1)[0])
        if len(self.data) >= end + 4 + length:
            self.crowd.answered(head, time.perf_counter() - self.asked)
            if not self.crowd.kept:
                self.transport.close()
                self.transport = None
            self.again(head)

    def again(self, head):
        """After an answer at once, after a refusal later."""
        wait = 0.0 if head[9:12] == b"200" else 0.5 + self.crowd.rng.random()
        self.crowd.loop.call_later(wait, self.ask)

    def connection_lost(self, _error):
        """The connection has ended."""

    def eof_received(self):
        """The other side has closed."""

    def pause_writing(self):
        """Never happens: requests are small."""

    resume_writing = pause_writing


class Crowd:
    """Many clients, what they saw, and how late their own loop was."""

    def __init__(self, running, *, kept):
        self.loop = None
        self.port = running.port
        self.request = request(running, kept=kept)
        self.kept = kept
        self.rng = random.Random(18)
        self.accepted, self.refused, self.late = [], [], []
        self.without_retry_after = 0
        self.over = False
        self.there = 0

    async def ask(self, clients, seconds):
        """Run for so long."""
        self.loop = asyncio.get_running_loop()
        self.ended = self.loop.create_future()
        self.tasks = set()
        self.there = clients
        for _ in range(clients):
            self.loop.call_later(self.rng.random(), Client(self).ask)
        end = time.perf_counter() + 1 + seconds
        while time.perf_counter() < end:
            began = time.perf_counter()
            await asyncio.sleep(0.005)
            self.late.append(time.perf_counter() - began - 0.005)
        self.over = True
        await self.ended

    def connect(self, client):
        """A connection for a client."""
        task = self.loop.create_task(self.loop.create_connection(lambda: client, "127.0.0.1", self.port))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def answered(self, head, seconds):
        """Note an answer."""
        if head[9:12] == b"200":
            self.accepted.append(seconds)
        elif head[9:12] == b"503":
            self.refused.append(seconds)
            self.without_retry_after += b"retry-after:" not in head
        else:
            raise AssertionError(head)

    def gone(self):
        """A client stops."""
        self.there -= 1
        if not self.there:
            self.ended.set_result(None)


def at(values, share):
    """A percentile, in milliseconds."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] * 1e3


def crowds(running, options):
    """As many as fit, then ten times as many; the figures of this round."""
    fits, many = Crowd(running, kept=options.kept), Crowd(running, kept=options.kept)
    uvloop.run(fits.ask(SLOTS + LINE, options.seconds))
    before = running.cpu()
    uvloop.run(many.ask(options.clients, options.seconds))
    cpu = running.cpu() - before
    return {
        "fit50": at(fits.accepted, 0.5), "fit99": at(fits.accepted, 0.99),
        "many50": at(many.accepted, 0.5), "many99": at(many.accepted, 0.99),
        "ratio": at(many.accepted, 0.99) / at(fits.accepted, 0.99),
        "refused50": at(many.refused, 0.5), "refused99": at(many.refused, 0.99), "refused_most": at(many.refused, 1),
        "late99": at(many.late, 0.99), "late_most": at(many.late, 1),
        "accepted": len(many.accepted), "refused": len(many.refused),
        "without": many.without_retry_after, "cpu": cpu / options.seconds,
    }  # fmt: skip


def refusal_cost(running, seconds):
    """Processor time (us) of one refusal, and refusals a second: the line is full of requests that take long."""
    with contextlib.ExitStack() as stack, tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        for _ in range(SLOTS + LINE):
            holder = stack.enter_context(socket.create_connection(("127.0.0.1", running.port)))
            holder.sendall(request(running, gap=60_000))
        time.sleep(0.5)
        Path(script.name).write_text(LUA.format(body=stacks.BODY.decode(), token=running.token))
        command = ["wrk", "-t1", "-c16", f"-d{seconds}", "--latency", "-s", script.name]
        before = running.cpu()
        done = subprocess.run(
            [*command, f"http://127.0.0.1:{running.port}/v1/chat/completions"],
            check=True,
            capture_output=True,
            text=True,
        )
        cpu = running.cpu() - before
    count = int(re.search(r"(\d+) requests in", done.stdout)[1])
    refused = int(re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)[1])
    assert count - refused <= SLOTS + LINE
    return cpu / count * 1e6, count / seconds


def main():
    """Measure, alternating, and print medians of the rounds."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seconds", type=int, default=6)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--clients", type=int, default=10 * (SLOTS + LINE))
    asked.add_argument("--kept", action="store_true")
    options = asked.parse_args()
    with stacks.backend(SLOTS) as direct, stacks.nginx(NGINX) as nginx, stacks.router(config=ROUTER) as router:
        rounds = {one.name: [] for one in (nginx, router)}
        for _ in range(options.rounds):
            for one in (nginx, router):
                with stacks.before_all_others(direct, one):
                    rounds[one.name].append(crowds(one, options))
                print(one.name, {key: round(value, 2) for key, value in rounds[one.name][-1].items()}, flush=True)
        for name, found in rounds.items():
            print(name, "medians", {key: round(statistics.median(one[key] for one in found), 2) for key in found[0]})
        for one in (nginx, router):
            cost, rate = refusal_cost(one, 4)
            print(f"{one.name}: a refusal costs {cost:.0f} us, {rate:.0f} a second")


if __name__ == "__main__":
    main()
