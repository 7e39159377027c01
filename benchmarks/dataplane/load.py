"""Load: wrk for requests, our own reader for the delay of single chunks and for idle streams."""

from __future__ import annotations

import asyncio
import re
import subprocess
import tempfile
import time
from pathlib import Path

import uvloop

SENT = b'"sent":'
LUA = """wrk.method="POST"
wrk.body='{{"model":"llama3.1:8b","messages":[{{"role":"user","content":"hello"}}],"stream":{stream}}}'
wrk.headers["Authorization"]="Bearer {token}"
wrk.headers["Content-Type"]="application/json"
"""
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def wrk(running, *, connections, seconds, stream=False):
    """Requests a second and latencies (s) at p50 and p99; raises when an answer was not 200."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        Path(script.name).write_text(LUA.format(token=running.token, stream=str(stream).lower()))
        url = f"http://127.0.0.1:{running.port}/v1/chat/completions"
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency", "-s", script.name, url]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in text:
        raise RuntimeError(f"{running.name}: {text}")
    percentiles = dict(re.findall(r"(50|99)%\s+([\d.]+[mu]?s)", text))
    return float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]), *(_seconds(percentiles[p]) for p in ("50", "99"))


def _seconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * UNITS[unit]


def chunk_delays(running, *, streams, chunks, gap_ms):
    """Delays (s, sorted) of every chunk of many slow streams, from the backend's write to our read."""
    return sorted(uvloop.run(_many(running, streams, chunks, gap_ms)))


async def _many(running, streams, chunks, gap_ms):
    """The streams' beginnings, and so their chunks, are spread evenly over whole gaps."""
    loop, delays, readers = asyncio.get_running_loop(), [], []
    for number in range(streams):
        _, reader = await loop.create_connection(lambda: _Reader(delays, loop), "127.0.0.1", running.port)
        readers.append(reader)
        loop.call_later(1 + number / streams * gap_ms * 20 / 1000, reader.begin, request(running, chunks, gap_ms))
    await asyncio.gather(*(reader.ended for reader in readers))
    return delays


class _Reader(asyncio.Protocol):
    """One stream; as cheap as can be, since it shares the machine with what is measured."""

    def __init__(self, delays, loop):
        self.delays = delays
        self.ended = loop.create_future()

    def connection_made(self, transport):
        """Connected; `begin` sends."""
        self.transport = transport

    def begin(self, data):
        """Send the request."""
        self.transport.write(data)

    def data_received(self, data):
        """Note how long each chunk in this segment was on its way; one that is cut in two is passed over."""
        now, at = time.monotonic_ns(), data.find(SENT)
        while at >= 0:
            end = data.find(b",", at)
            if end > 0:
                self.delays.append((now - int(data[at + len(SENT) : end])) / 1e9)
            at = data.find(SENT, at + 1)
        if b"[DONE]" in data:
            self.transport.close()

    def connection_lost(self, _error):
        """The end of the stream."""
        if not self.ended.done():
            self.ended.set_result(None)


def request(running, chunks, gap_ms):
    """A streamed request; how fast the backend shall stream travels in the User-Agent, which every proxy keeps."""
    body = b'{"model":"llama3.1:8b","messages":[{"role":"user","content":"hello"}],"stream":true}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {running.token}\r\n"
    head += (
        f"User-Agent: gap/{gap_ms}/{chunks}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def memory_per_stream(running, *, streams):
    """Bytes of resident memory that each of many streams costs while nothing flows on it.

    Of a stack that has just been started: what one has freed before would be used again and not be seen to grow.
    """
    return asyncio.run(_hold(running, streams))


async def _hold(running, streams):
    before = running.rss()
    writers = []
    for _ in range(streams):
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(request(running, 2, 60_000))
        writers.append((reader, writer))
    for reader, _ in writers:
        status = await reader.readline()
        if b" 200 " not in status:
            raise RuntimeError(f"{running.name}: {status}")
    await asyncio.sleep(1)
    held = (running.rss() - before) / streams
    for _, writer in writers:
        writer.transport.abort()
    await asyncio.sleep(1)
    return held
