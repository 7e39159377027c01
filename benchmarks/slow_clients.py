"""A thousand slow clients of each kind, and what others notice: the latency of `/livez` meanwhile.

    python benchmarks/slow_clients.py [--connections 1000] [--seconds 120] [--only KINDS] [--slowhttptest]

Kinds: a head that drips (slowloris), a body that drips, an answer of which nothing is taken, one that is taken a few
bytes at a time, and one that is taken slowly but steadily, which must live. By default with our own clients;
`--slowhttptest` runs that program in their place (-H, -B, -R, -X), where it is installed. The router runs as a process
with its real deadlines: head 10 s, body 30 s between bytes, 60 s in which less than 30 KiB of what waits is taken.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from soak import running

HEAD = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
BODY = b'{"model":"llama3.1:8b","messages":[{"role":"user","content":"hello"}],"stream":true}'


async def _drip(sock, piece, gap, until):
    """Send a piece now and then until the router cuts; what it said."""
    loop, said = asyncio.get_running_loop(), b""
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < until:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(gap):
                    data = await loop.sock_recv(sock, 65536)
                    said += data
                    if not data:
                        return "cut", said
            await loop.sock_sendall(sock, piece)
        return "still open", said
    return "cut", said


async def slow_head(sock, token, until):
    """A field every second."""
    await asyncio.get_running_loop().sock_sendall(sock, HEAD.format(token=token).encode())
    return await _drip(sock, b"X-A: b\r\n", 1.0, until)


async def slow_body(sock, token, until):
    """A body whose bytes are further apart than the deadline allows."""
    head = HEAD.format(token=token) + "Content-Length: 100000\r\n\r\n"
    await asyncio.get_running_loop().sock_sendall(sock, head.encode())
    return await _drip(sock, b"x", 40.0, until)


async def _ask(sock, token):
    """Ask for an answer of 32 KiB a second."""
    head = HEAD.format(token=token) + f"User-Agent: gap/1000/20000/32768\r\nContent-Length: {len(BODY)}\r\n\r\n"
    await asyncio.get_running_loop().sock_sendall(sock, head.encode() + BODY)


async def _reads(sock, until, *, size, gap=0.0):
    """Take so many bytes now and then, until the router cuts."""
    said = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(until - time.monotonic()):
            while data := await asyncio.get_running_loop().sock_recv(sock, size):
                said = said[:64] + data[-64:] if said else data
                await asyncio.sleep(gap)
    return ("still open" if time.monotonic() >= until else "cut"), said


async def no_read(sock, token, until):
    """Nothing is taken, until the router must have cut."""
    await _ask(sock, token)
    await asyncio.sleep(until - time.monotonic() - 5)
    return await _reads(sock, until, size=65_536)


async def trickle(sock, token, until):
    """Less than a line of text every ten seconds."""
    await _ask(sock, token)
    await _reads(sock, until - 5, size=64, gap=10.0)
    return await _reads(sock, until, size=65_536)  # the end shows only behind what the kernel holds


async def steady(sock, token, until):
    """About 4 KiB a second."""
    await _ask(sock, token)
    return await _reads(sock, until, size=4096, gap=1.0)


KINDS = {"head": slow_head, "body": slow_body, "no read": no_read, "trickle": trickle, "steady": steady}
PROGRAMS = {
    "head": ("/v1/chat/completions", "-H"),
    "body": ("/v1/chat/completions", "-B"),
    "range": ("/metrics", "-R"),
    "read": ("/metrics", "-X", "-w", "1", "-y", "16", "-n", "5", "-z", "32"),
}


async def _attack(kind, port, token, connections, until):
    async def one(number):
        await asyncio.sleep(number / connections * 5)
        with socket.socket() as sock:
            sock.setblocking(False)  # noqa: FBT003 - the standard library's own
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            end, said = await KINDS[kind](sock, token, until)
        status = said[9:12].decode() or "no answer"
        late = said.count(b"HTTP/1.1 ") > 1
        whole = said.startswith(b"HTTP/1.1 200") and said.endswith(b"0\r\n\r\n")
        return end, status, late, whole

    return Counter(await asyncio.gather(*(one(number) for number in range(connections))))


def _attacker(kind, port, token, connections, seconds, out):
    out.put(asyncio.run(_attack(kind, port, token, connections, time.monotonic() + seconds)))


def _program(kind, port, _token, connections, seconds, out):
    """The well-known program in place of our own clients."""
    path, *options = PROGRAMS[kind]
    command = ["slowhttptest", *options, "-c", str(connections), "-l", str(seconds), "-r", "200", "-i", "10", "-p", "5"]
    done = subprocess.run(
        [*command, "-u", f"http://127.0.0.1:{port}{path}"], check=False, capture_output=True, text=True
    )
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", done.stdout)
    lines = [line.strip() for line in text[text.rfind("slow HTTP test status") :].splitlines()]
    out.put(Counter(line for line in lines if line.startswith(("closed", "error", "connected", "service", "Exit"))))


async def _livez(port, seconds):
    """Latencies of `/livez`, one after the other on a kept connection and each fifth on a new one."""
    times, end = [], time.monotonic() + seconds
    number, writer = 0, None
    while time.monotonic() < end:
        number += 1
        started = time.perf_counter()
        if writer is None or number % 5 == 0:
            if writer is not None:
                writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        times.append(time.perf_counter() - started)
        await asyncio.sleep(0.02)
    writer.close()
    return sorted(times)


def main():
    """Attack with each kind in turn, print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--connections", type=int, default=1000)
    asked.add_argument("--seconds", type=int, default=120)
    asked.add_argument("--slowhttptest", action="store_true")
    asked.add_argument("--only", help="kinds, with commas between them")
    options = asked.parse_args()
    if options.slowhttptest and shutil.which("slowhttptest") is None:
        raise SystemExit("slowhttptest is not installed")
    context = multiprocessing.get_context("spawn")
    with running() as router:
        quiet = asyncio.run(_livez(router.port, 5))
        print(f"nobody: /livez p99 {quiet[int(len(quiet) * 0.99)] * 1000:.1f} ms")
        kinds = PROGRAMS if options.slowhttptest else KINDS
        for kind in options.only.split(",") if options.only else kinds:
            out = context.Queue()
            target = _program if options.slowhttptest else _attacker
            arguments = (kind, router.port, router.token, options.connections, options.seconds, out)
            attack = context.Process(target=target, args=arguments)
            before = router.rss()
            attack.start()
            times = asyncio.run(_livez(router.port, options.seconds - 5))
            held = router.census().sockets
            result = out.get()
            attack.join()
            p50, p99 = (times[int(len(times) * share)] * 1000 for share in (0.5, 0.99))
            print(f"{kind}: /livez p50 {p50:.1f} ms, p99 {p99:.1f} ms, {len(times)} times;", end=" ")
            print(f"resident {before / 2**20:.0f} -> {router.rss() / 2**20:.0f} MiB, {held} sockets open in the end")
            for found, count in result.items():
                print(f"  {found if isinstance(found, str) else _told(*found)}: {count}")
        time.sleep(5)
        print(f"sockets five seconds later: {router.census().sockets}")


def _told(end, status, late, whole):
    words = [end, f"status {status}"]
    return ", ".join(words + ["a second status" * late] * late + ["ENDED AS COMPLETE"] * whole)


if __name__ == "__main__":
    main()
